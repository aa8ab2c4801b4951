//! Which server a client's session belongs to, and how it is told.

use http::HeaderValue;

use crate::config::{Sticky, StickyCookie};
use crate::fields::{self, ResponseHead};
use crate::proxy::exchange::Exchange;
use crate::proxy::origin::asks;
use crate::upstream::course::Course;
use crate::upstream::sticky::{self, Secure};

/// Binds the client's session to the server that answered; the cookie is for the client.
pub fn bind(x: &Exchange, course: &Course<'_>, server: usize, parts: &ResponseHead) -> Option<HeaderValue> {
    let sticky = x.upstream().config.sticky.as_ref()?;
    let opened = match sticky {
        Sticky::Learn(rules) => fields::set_cookies(&parts.fields, &rules.cookie).last(),
        Sticky::Cookie(_) | Sticky::Hash(_) => None,
    };
    let value = course.bind(&asks(x), server, opened, x.local.now())?;
    let Sticky::Cookie(StickyCookie { name, max_age, .. }) = sticky else { return None };
    let secure = if x.client.is_tls { Secure::Yes } else { Secure::No };
    sticky::set_cookie(name, value, secure, *max_age).ok()
}
