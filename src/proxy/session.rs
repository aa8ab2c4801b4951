//! Which server a client's session belongs to, and how it is told.

use http::{HeaderValue, response};

use crate::config;
use crate::fields;
use crate::proxy::exchange::Exchange;
use crate::proxy::origin::asks;
use crate::upstream::course::Course;
use crate::upstream::learned;
use crate::upstream::sticky::{self, Secure};

/// Binds the client's session to the server that answered: a cookie of ours, unless it has it already, or a line in the
/// table of what servers' own cookies mean.
pub fn bind(
    x: &Exchange,
    course: &Course<'_>,
    server: usize,
    parts: &response::Parts,
) -> Option<HeaderValue> {
    let now = x.local.keep.now();
    match x.upstream().config.sticky.as_ref()? {
        config::Sticky::Cookie(sticky) => {
            let value = course.side.members.sticky.as_ref()?.value_of(server)?;
            // Also when it names the server under a key that no longer signs.
            if fields::cookie(&x.head.headers, &sticky.name) == Some(value) {
                return None;
            }
            let secure = if x.client.is_tls { Secure::Yes } else { Secure::No };
            sticky::set_cookie(&sticky.name, value, secure, sticky.max_age).ok()
        }
        config::Sticky::Learn(rules) => {
            let opened = fields::set_cookies(&parts.headers, &rules.cookie).last();
            let session = opened.or_else(|| {
                // It was with another server, which is gone; or we have forgotten.
                let session = learned::session_of(&x.head.headers, rules)?;
                let is_known = course.side.bound_to(&asks(x), now) == Some(server);
                (!is_known).then_some(session)
            })?;
            x.upstream().state.sessions.learn(session, &course.server(server).id, rules, now);
            None
        }
        config::Sticky::Hash(_) => None,
    }
}
