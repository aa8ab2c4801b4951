//! A response from a server: pick, attempt, and again where that is safe.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, Uri, Version, header, request, response};
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use crate::body::{Body, End, Meter, Metered, Replay};
use crate::cache::{Entry, Meta, policy};
use crate::config::{self, HostHeader};
use crate::fields;
use crate::filter::forward::{self, BodyLength, ForwardContext};
use crate::filter::guard;
use crate::net::dial::DialLimits;
use crate::proxy::exchange::Exchange;
use crate::proxy::reply::Failure;
use crate::upstream::attempt::{self, Answer, AttemptError, Failed, Target};
use crate::upstream::balance::{self, Heard};
use crate::upstream::conns::LeasedBody;
use crate::upstream::course::Course;
use crate::upstream::health_state::Outcome;
use crate::upstream::interim::Interim;
use crate::upstream::pool::Upstream;
use crate::upstream::retry::{self, Cause, Stop};
use crate::upstream::server::Server;
use crate::upstream::side::{Asks, InFlight, Picked, Side, Unpicked};
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
    let (upstream, pool) = (view.upstreams[x.upstream_index()].clone(), &view.pools[x.upstream_index()]);
    let mut course = Course::begin(&upstream, pool, x.local.keep.now());
    let mut bodies = Bodies::new(out.body, out.meter.clone(), &x.head.method, &upstream.config);
    let wants_websocket = out.wants_websocket;
    let mut last = None;
    loop {
        let picked = match place(x, &mut course, &upstream).await {
            Ok(picked) => picked,
            // What went wrong before says more than that there is nobody left.
            Err(failure) => return Err(last.unwrap_or(failure)),
        };
        let server = picked.server;
        x.facts.server = Some((course.side.clone(), server));
        x.facts.attempts = course.attempts;
        let member = course.side.members.servers[server].clone();
        let (body, meter) = bodies.next();
        let head = head(x, &member, out.length, wants_websocket, &conditions);
        let began = Instant::now();
        let outcome = attempt(x, &course, picked, Request::from_parts(head, body), &meter).await;
        let now = x.local.keep.now();
        let request = |bodies: &Bodies| retry::Request {
            is_idempotent: bodies.is_idempotent,
            has_body: bodies.has_next(),
        };
        match outcome {
            Ok((answer, in_flight)) => {
                hear(&course.side, server, &answer.response, answer.first_byte, now);
                let cause = Cause::Status(answer.response.status().as_u16());
                if upstream.config.retry.on_statuses.binary_search(&answer.response.status().as_u16()).is_ok()
                {
                    match course.failed(&upstream, pool, server, cause, request(&bodies), now) {
                        Ok(()) => {
                            count_answer(x, &member, &answer);
                            judge(x, &course, &member, answer.response.status().as_u16());
                            count_retry(x, "status");
                            continue;
                        }
                        Err(stop) => count_stop(x, stop),
                    }
                }
                let arrived = Arrived { course: &course, member: &member, answer, in_flight };
                return received(x, arrived, &meter, wants_websocket);
            }
            Err(mut failed) => {
                bodies.give_back(failed.body.take());
                if let AttemptError::RequestBody(End::Cut) = failed.error
                    && let Some(end) = out.meter.end().filter(|end| *end != End::Whole)
                {
                    failed.error = AttemptError::RequestBody(end);
                }
                note_failure(x, &course, &member, &failed.error);
                if failed.error.blames_server() {
                    let heard = Heard { took: began.elapsed(), answer: balance::Answer::Failed };
                    course.side.heard(server, &heard, Outcome::Failure, now);
                }
                let word = failed.error.as_str();
                let cause = Cause::of(&failed.error);
                let is_late = is_late(&upstream, x);
                let failure = if is_late { Failure::TotalTimedOut } else { Failure::Attempt(failed.error) };
                match course.failed(&upstream, pool, server, cause, request(&bodies), now) {
                    Ok(()) if !is_late => count_retry(x, word),
                    Ok(()) => return Err(failure),
                    Err(stop) => {
                        count_stop(x, stop);
                        return Err(failure);
                    }
                }
                last = Some(failure);
            }
        }
    }
}

/// What is sent, once and perhaps again.
struct Bodies {
    /// Not one byte of it was sent.
    unsent: Option<Body>,
    replay: Option<Replay>,
    /// Of the client's body.
    meter: Rc<Meter>,
    is_first: bool,
    is_empty: bool,
    is_idempotent: bool,
}

impl Bodies {
    fn new(body: Body, meter: Rc<Meter>, method: &Method, config: &config::Upstream) -> Self {
        let (is_empty, is_idempotent) = (body.is_empty(), retry::is_idempotent(method));
        // One that may not be repeated is not kept to be.
        let may_replay = is_idempotent && !is_empty && config.retries > 0 && config.retry.body > 0;
        let (unsent, replay) = match may_replay {
            true => (None, Some(Replay::new(body, config.retry.body))),
            false => (Some(body), None),
        };
        Bodies { unsent, replay, meter, is_first: true, is_empty, is_idempotent }
    }

    /// Whether it could be sent once more.
    fn has_next(&self) -> bool {
        self.is_empty || self.unsent.is_some() || self.replay.as_ref().is_some_and(Replay::is_whole)
    }

    /// The body of the next attempt, and what will be known of it.
    fn next(&mut self) -> (Body, Rc<Meter>) {
        let is_first = std::mem::take(&mut self.is_first);
        let body =
            self.unsent.take().or_else(|| self.replay.as_ref().and_then(Replay::reader)).unwrap_or_default();
        if is_first || self.replay.is_none() {
            return (body, self.meter.clone());
        }
        // The client's body may have ended long ago; this one begins.
        let meter = Rc::<Meter>::default();
        (Body::wrap(Metered::by(meter.clone(), body, usize::MAX)), meter)
    }

    /// Not one byte of the attempt's body was sent.
    fn give_back(&mut self, unsent: Option<Body>) {
        if self.replay.is_none() {
            self.unsent = unsent;
        }
    }
}

/// A place at a server; waits for one where all are full.
async fn place(x: &mut Exchange, course: &mut Course, upstream: &Upstream) -> Result<Picked, Failure> {
    let queue = &upstream.state.queue;
    // Nobody overtakes those who wait.
    if queue.is_empty() {
        match pick(x, course, upstream) {
            Err(Unpicked::Full { .. }) => {}
            Err(Unpicked::Nobody) => return Err(Failure::NoServer),
            Ok(picked) => return Ok(picked),
        }
    }
    let place = queue.enter(upstream.config.queue.size).ok_or(Failure::QueueFull)?;
    let (began, timers) = (Instant::now(), x.local.timers.clone());
    let limit = upstream.config.queue.timeout.min(time_left(upstream, x).unwrap_or(Duration::MAX));
    let found = timers
        .timeout(limit, async {
            loop {
                place.called().await;
                match pick(x, course, upstream) {
                    Err(Unpicked::Full { is_for_others }) => place.wait_on(is_for_others),
                    found => break found,
                }
            }
        })
        .await;
    x.facts.queued = Some(x.facts.queued.unwrap_or_default() + began.elapsed());
    match found {
        Ok(Ok(picked)) => {
            place.leave();
            Ok(picked)
        }
        Ok(Err(_)) => Err(Failure::NoServer),
        Err(_) if is_late(upstream, x) => Err(Failure::TotalTimedOut),
        Err(_) => Err(Failure::QueueTimedOut),
    }
}

fn pick(x: &Exchange, course: &mut Course, upstream: &Upstream) -> Result<Picked, Unpicked> {
    let asks = asks(x);
    let picked = course.pick(&asks, x.local.keep.now(), &mut x.local.rng.borrow_mut())?;
    x.local.cells.inc(upstream.picks(picked.reason));
    debug!(server = picked.in_flight.server().id, reason = picked.reason.as_str(), "picked");
    Ok(picked)
}

fn asks(x: &Exchange) -> Asks<'_> {
    Asks {
        client: x.client_ip,
        path: x.head.uri.path(),
        query: x.head.uri.query().unwrap_or_default(),
        authority: x.authority.to_str().unwrap_or_default(),
        headers: &x.head.headers,
    }
}

/// One attempt, within its own limit and what is left of the whole request's.
async fn attempt(
    x: &Exchange,
    course: &Course,
    picked: Picked,
    request: Request<Body>,
    meter: &Rc<Meter>,
) -> Result<(Answer, InFlight), Failed> {
    let Picked { server, in_flight, leave, .. } = picked;
    let (upstream, member) = (x.upstream(), &course.side.members.servers[server]);
    let interims = RefCell::default();
    let timers = x.local.timers.clone();
    let target = Target {
        address: member.address,
        tls: member.entry.tls.as_ref(),
        conns: &course.side.conns[server],
        afresh: course.afresh,
        dial: DialLimits { connect: upstream.config.connect_timeout, tls: upstream.config.tls_timeout },
        first_byte: upstream.config.first_byte_timeout,
        timers: &timers,
        interims: &interims,
    };
    let sending = pin!(attempt::send(&target, leave, request, meter));
    let sending = passing(&interims, x, sending);
    let limit = upstream.config.try_timeout.into_iter().chain(time_left(upstream, x)).min();
    let answer = match limit {
        None => sending.await,
        Some(after) => match timers.timeout(after, sending).await {
            Ok(answer) => answer,
            Err(_) => Err(Failed { error: AttemptError::TryTimedOut { after }, body: None }),
        },
    }?;
    Ok((answer, in_flight))
}

/// What `total-timeout` leaves; `None` where there is none.
fn time_left(upstream: &Upstream, x: &Exchange) -> Option<Duration> {
    upstream.config.total_timeout.map(|total| total.saturating_sub(x.facts.age()))
}

fn is_late(upstream: &Upstream, x: &Exchange) -> bool {
    time_left(upstream, x).is_some_and(|left| left.is_zero())
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

/// The strategy hears how its choice went.
fn hear<B>(side: &Side, server: usize, response: &Response<B>, took: Duration, now: Duration) {
    let retry_after = || {
        let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
        value.parse().ok().map(Duration::from_secs)
    };
    let (answer, outcome) = match response.status().as_u16() {
        429 => (balance::Answer::Busy { retry_after: retry_after() }, Outcome::Success),
        503 => (balance::Answer::Busy { retry_after: retry_after() }, Outcome::Failure),
        500..=599 => (balance::Answer::Served, Outcome::Failure),
        _ => (balance::Answer::Served, Outcome::Success),
    };
    side.heard(server, &Heard { took, answer }, outcome, now);
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
        HostHeader::Server => &server.entry.host,
        HostHeader::Fixed(text) => {
            fixed = HeaderValue::from_str(text).unwrap_or_else(|_| server.entry.host.clone());
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

/// An answer, and whose it is.
struct Arrived<'a> {
    course: &'a Course,
    member: &'a Server,
    answer: Answer,
    in_flight: InFlight,
}

fn received(
    x: &mut Exchange,
    arrived: Arrived<'_>,
    request: &Rc<Meter>,
    wants_websocket: bool,
) -> Result<Fetched, Failure> {
    let Arrived { course, member, answer, in_flight } = arrived;
    count_answer(x, member, &answer);
    let Answer { mut response, lease, connect, first_byte } = answer;
    (x.facts.connect, x.facts.first_byte) = (connect, Some(first_byte));
    let upgrade = (response.status() == 101).then(|| hyper::upgrade::on(&mut response));
    let (parts, incoming) = response.into_parts();
    if let Err(bad) = guard::check_response(&parts, wants_websocket) {
        let members = &course.side.members;
        x.upstream().blame(members, member, bad.as_str(), x.local.keep.now(), &x.local.cells);
        return Err(Failure::BadResponse(bad));
    }
    judge(x, course, member, parts.status.as_u16());
    let cookie = bind(x, course, member, &parts);
    if let Some(upgrade) = upgrade {
        lease.let_go();
        let tunnel = Some(Tunnel { upgrade, in_flight });
        return Ok(Fetched { parts, body: Body::Empty, cookie, tunnel });
    }
    let leased = LeasedBody::new(incoming, lease, request.clone(), in_flight);
    let (timers, upstream) = (&x.local.timers, x.upstream());
    let idle = timers.deadline(upstream.config.body_idle);
    let total = time_left(upstream, x).map(|left| timers.deadline(left));
    let body = Metered::new(Body::wrap(leased), None, Some(idle)).within(total);
    Ok(Fetched { parts, body: Body::wrap(body), cookie, tunnel: None })
}

/// 502 to 504 are a gateway's word that the server behind cannot serve.
fn judge(x: &Exchange, course: &Course, member: &Server, status: u16) {
    let (upstream, now) = (x.upstream(), x.local.keep.now());
    match status {
        502..=504 => upstream.blame(&course.side.members, member, "gateway-error", now, &x.local.cells),
        _ => upstream.praise(member, now),
    }
}

fn note_failure(x: &Exchange, course: &Course, member: &Server, error: &AttemptError) {
    let upstream = x.upstream();
    let cause = std::error::Error::source(error).map(tracing::field::display);
    debug!(upstream = upstream.config.name, server = member.id, %error, cause, "attempt failed");
    x.local.cells.inc(member.entry.handles.requests.none());
    if error.blames_server() {
        let now = x.local.keep.now();
        upstream.blame(&course.side.members, member, error.as_str(), now, &x.local.cells);
    }
}

fn count_retry(x: &Exchange, why: &str) {
    if let Some(index) = retry::REASONS.iter().position(|reason| *reason == why) {
        x.local.cells.inc(x.upstream().handles.retries[index]);
    }
}

/// Failures that could not be tried again, by what kept them from it.
fn count_stop(x: &Exchange, why: Stop) {
    if let Some(index) = Stop::ALL.iter().position(|stop| *stop == why) {
        x.local.cells.inc(x.upstream().handles.retries_stopped[index]);
    }
}

fn count_answer(x: &Exchange, member: &Server, answer: &Answer) {
    let (cells, handles) = (&x.local.cells, &member.entry.handles);
    cells.inc(handles.requests.of(answer.response.status().as_u16()));
    cells.observe(handles.first_byte, answer.first_byte);
    if let Some(connect) = answer.connect {
        cells.observe(handles.connect, connect);
    }
}

/// Binds the client's session to the server that answered: a cookie of ours, unless it has it already, or a line in the
/// table of what servers' own cookies mean.
fn bind(x: &Exchange, course: &Course, member: &Server, parts: &response::Parts) -> Option<HeaderValue> {
    let now = x.local.keep.now();
    match x.upstream().config.sticky.as_ref()? {
        config::Sticky::Cookie(sticky) => {
            let members = &course.side.members;
            let (index, table) = (members.index_of(&member.id)?, members.sticky.as_ref()?);
            let value = table.value_of(index)?;
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
                let session = fields::cookie(&x.head.headers, &rules.cookie)?;
                let is_known =
                    course.side.bound_to(&asks(x), now) == course.side.members.index_of(&member.id);
                (!is_known).then_some(session)
            })?;
            x.upstream().state.sessions.learn(session, &member.id, rules, now);
            None
        }
        config::Sticky::Hash(_) => None,
    }
}

impl Fetched {
    /// Takes what only this client may see off a response that others will get too.
    pub fn take_cookie(&mut self, headers: &mut http::HeaderMap) {
        if let Some(cookie) = self.cookie.take() {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}
