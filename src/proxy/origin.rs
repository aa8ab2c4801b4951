//! A response from a server: pick, attempt, and again where that is safe.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Uri, Version, header, request, response};
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use crate::body::{Body, End, Meter, Metered};
use crate::cache::{Entry, Meta, policy};
use crate::config::HostHeader;
use crate::filter::forward::{self, BodyLength, ForwardContext};
use crate::filter::guard;
use crate::net::dial::DialLimits;
use crate::proxy::exchange::Exchange;
use crate::proxy::reply::Failure;
use crate::upstream::attempt::{self, Answer, AttemptError, Target};
use crate::upstream::conns::LeasedBody;
use crate::upstream::interim::Interim;
use crate::upstream::pool::Asks;
use crate::upstream::retry::{self, Verdict};
use crate::upstream::server::{InFlight, Server};
use crate::upstream::sticky::{self, Secure};

/// What goes out to a server.
pub struct Outgoing {
    pub body: Body,
    pub meter: Rc<Meter>,
    pub length: BodyLength,
    pub wants_websocket: bool,
}

impl Outgoing {
    /// A request without a body.
    pub fn nothing() -> Self {
        let meter = Rc::<Meter>::default();
        meter.finish(End::Whole);
        Outgoing { body: Body::Empty, meter, length: BodyLength::None, wants_websocket: false }
    }
}

/// What came back.
pub struct Fetched {
    /// As the server sent it.
    pub parts: response::Parts,
    pub body: Body,
    /// A `Set-Cookie` that binds the client to the server.
    pub cookie: Option<HeaderValue>,
    /// After 101: the server's end of a tunnel.
    pub tunnel: Option<Tunnel>,
}

/// The server's end of a tunnel.
pub struct Tunnel {
    pub upgrade: OnUpgrade,
    pub in_flight: InFlight,
}

/// What becomes of the client's `If-*` fields.
pub enum Conditions<'a> {
    /// They are the server's to judge.
    AsSent,
    /// The cache judges them, on the whole response.
    Cleared,
    /// The cache asks on its own behalf, about what it has.
    Of(&'a Meta),
    /// The cache asks which of these it is, if any.
    AnyOf(&'a [Arc<Entry>]),
}

/// Gets a response from a server; tries others while that is safe.
pub async fn fetch(x: &mut Exchange, out: Outgoing, conditions: Conditions<'_>) -> Result<Fetched, Failure> {
    let view = x.view.clone();
    let upstream = view.upstreams[x.upstream_index()].clone();
    let pool = &view.pools[x.upstream_index()];
    let mut tried = Vec::new();
    let mut body = Some(out.body);
    let mut afresh = false;
    let interims = RefCell::default();
    loop {
        let server = pick(x, &mut tried).ok_or(Failure::NoServer)?;
        x.facts.server = Some(server);
        x.facts.attempts += 1;
        let target = Target {
            address: upstream.servers[server].address,
            tls: upstream.servers[server].tls.as_ref(),
            conns: &pool.conns[server],
            afresh,
            dial: DialLimits { connect: upstream.config.connect_timeout, tls: upstream.config.tls_timeout },
            first_byte: upstream.config.first_byte_timeout,
            timers: &x.local.timers.clone(),
            interims: &interims,
        };
        let head = head(x, &upstream.servers[server], out.length, out.wants_websocket, &conditions);
        let request = Request::from_parts(head, body.take().unwrap_or_default());
        let in_flight = upstream.servers[server].state.begin(x.local.worker);
        let sending = pin!(attempt::send(&target, request, &out.meter));
        match passing(&interims, x, sending).await {
            Ok(answer) => return received(x, server, answer, in_flight, &out.meter, out.wants_websocket),
            Err(failed) => {
                note_failure(x, server, &failed.error);
                afresh |= matches!(failed.error, AttemptError::Stale(_));
                body = failed.body.or((out.length == BodyLength::None).then_some(Body::Empty));
                let left = (upstream.config.retries + 1).saturating_sub(x.facts.attempts);
                match retry::verdict(&failed.error, &x.head.method, body.is_some(), left) {
                    Verdict::Stop => return Err(Failure::Attempt(failed.error)),
                    Verdict::Elsewhere => tried.push(server),
                    // Tried last, not never.
                    Verdict::Anywhere if upstream.servers.len() > 1 => tried.push(server),
                    Verdict::Anywhere => {}
                }
                count_retry(x, failed.error.as_str());
                if tried.len() >= upstream.servers.len() && failed.error.blames_server() {
                    return Err(Failure::Attempt(failed.error));
                }
            }
        }
    }
}

/// What `sending` comes to. The interim responses that each poll of it brings go to the client in that same poll: the
/// connection flushes after it.
fn passing<F: Future>(
    interims: &RefCell<Vec<Interim>>,
    x: &Exchange,
    mut sending: Pin<&mut F>,
) -> impl Future<Output = F::Output> {
    poll_fn(move |cx| {
        let outcome = sending.as_mut().poll(cx);
        interims.take().iter().for_each(|interim| x.interim(interim));
        outcome
    })
}

/// A server that was not tried; when all were, and may serve, one of them again.
fn pick(x: &Exchange, tried: &mut Vec<usize>) -> Option<usize> {
    let (upstream, pool) = (x.upstream(), &x.view.pools[x.upstream_index()]);
    let now = x.local.keep.now();
    loop {
        let asks = Asks { client: x.client_ip, path: x.head.uri.path(), headers: &x.head.headers, tried };
        let pick = upstream.pick(pool, &asks, now, &mut x.local.rng.borrow_mut());
        match pick {
            Some(pick) => {
                debug!(server = upstream.servers[pick.server].name, reason = pick.reason.as_str(), "picked");
                return Some(pick.server);
            }
            None if tried.is_empty() => return None,
            None => tried.clear(),
        }
    }
}

fn head(
    x: &Exchange,
    server: &Server,
    length: BodyLength,
    websocket: bool,
    conditions: &Conditions<'_>,
) -> request::Parts {
    let fixed;
    let host_header = match &x.upstream().config.host {
        HostHeader::Preserve => x.authority_for_server(),
        HostHeader::Server => &server.host,
        HostHeader::Fixed(text) => {
            fixed = HeaderValue::from_str(text).unwrap_or_else(|_| server.host.clone());
            &fixed
        }
    };
    let mut headers = forward::to_server(
        &x.head,
        &ForwardContext {
            peer: &x.client.peer,
            client_ip: x.client_ip,
            host: x.authority_for_server(),
            host_header,
            request_id: &x.request_id,
            websocket,
            body: length,
        },
    );
    match conditions {
        Conditions::AsSent => {}
        Conditions::Cleared => policy::clear_conditions(&mut headers),
        Conditions::Of(meta) => policy::set_validators(meta, &mut headers),
        Conditions::AnyOf(entries) => {
            policy::set_candidates(entries.iter().filter_map(|e| e.head.meta.etag.as_ref()), &mut headers)
        }
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = x.head.method.clone();
    parts.uri = origin_form(x);
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    parts
}

/// RFC 9112 section 3.2.1: what a server is asked for has neither scheme nor authority.
fn origin_form(x: &Exchange) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = x.target_for_server().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}

fn received(
    x: &mut Exchange,
    server: usize,
    answer: Answer,
    in_flight: InFlight,
    request: &Rc<Meter>,
    wants_websocket: bool,
) -> Result<Fetched, Failure> {
    let Answer { mut response, lease, connect, first_byte } = answer;
    (x.facts.connect, x.facts.first_byte) = (connect, Some(first_byte));
    count_answer(x, server, response.status().as_u16(), connect, first_byte);
    let upgrade = (response.status() == 101).then(|| hyper::upgrade::on(&mut response));
    let (parts, incoming) = response.into_parts();
    if let Err(bad) = guard::check_response(&parts, wants_websocket) {
        x.upstream().blame(server, bad.as_str(), x.local.keep.now(), &x.local.cells);
        return Err(Failure::BadResponse(bad));
    }
    judge(x, server, parts.status.as_u16());
    let cookie = sticky_cookie(x, server);
    if let Some(upgrade) = upgrade {
        lease.let_go();
        let tunnel = Some(Tunnel { upgrade, in_flight });
        return Ok(Fetched { parts, body: Body::Empty, cookie, tunnel });
    }
    let leased = LeasedBody::new(incoming, lease, request.clone(), in_flight);
    let idle = x.local.timers.deadline(x.upstream().config.body_idle);
    let body = Metered::new(Body::wrap(leased), None, Some(idle));
    Ok(Fetched { parts, body: Body::wrap(body), cookie, tunnel: None })
}

/// 502 to 504 are a gateway's word that the server behind cannot serve.
fn judge(x: &Exchange, server: usize, status: u16) {
    let (upstream, now) = (x.upstream(), x.local.keep.now());
    match status {
        502..=504 => upstream.blame(server, "gateway-error", now, &x.local.cells),
        _ => upstream.praise(server, now),
    }
}

fn note_failure(x: &Exchange, server: usize, error: &AttemptError) {
    let upstream = x.upstream();
    let name = &upstream.servers[server].name;
    let cause = std::error::Error::source(error).map(tracing::field::display);
    debug!(upstream = upstream.config.name, server = name, %error, cause, "attempt failed");
    x.local.cells.inc(upstream.servers[server].handles.requests.none());
    if error.blames_server() {
        upstream.blame(server, error.as_str(), x.local.keep.now(), &x.local.cells);
    }
}

fn count_retry(x: &Exchange, why: &str) {
    if let Some(index) = retry::REASONS.iter().position(|reason| *reason == why) {
        x.local.cells.inc(x.upstream().retries[index]);
    }
}

fn count_answer(x: &Exchange, server: usize, status: u16, connect: Option<Duration>, first_byte: Duration) {
    let (cells, handles) = (&x.local.cells, &x.upstream().servers[server].handles);
    cells.inc(handles.requests.of(status));
    cells.observe(handles.first_byte, first_byte);
    if let Some(connect) = connect {
        cells.observe(handles.connect, connect);
    }
}

/// The cookie that binds the client to `server`, unless it has it already.
fn sticky_cookie(x: &Exchange, server: usize) -> Option<HeaderValue> {
    let upstream = x.upstream();
    let (table, config) = upstream.sticky.as_ref().zip(upstream.config.sticky.as_ref())?;
    if upstream.stuck_to(&x.head.headers) == Some(server) {
        return None;
    }
    let secure = if x.client.is_tls { Secure::Yes } else { Secure::No };
    sticky::set_cookie(&config.cookie, table.value_of(server)?, secure, config.max_age).ok()
}

impl Fetched {
    /// Takes what only this client may see off a response that others will get too.
    pub fn take_cookie(&mut self, headers: &mut http::HeaderMap) {
        if let Some(cookie) = self.cookie.take() {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}
