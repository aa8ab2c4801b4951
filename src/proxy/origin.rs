//! A response from a server: pick, attempt, and again where that is safe.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tracing::{debug, warn};

use crate::body::{Body, Meter, Metered};
use crate::cache::{Entry, Meta, policy};
use crate::config::HostHeader;
use crate::fields::{self, Fields, ResponseHead};
use crate::filter::forward::{self, BodyLength, ForwardContext};
use crate::filter::guard;
use crate::http1::outbox::Outbox;
use crate::http1::sending::{Framing, Head, Sending, Trailers};
use crate::net::Counted;
use crate::net::dial::{DialError, DialLimits};
use crate::proxy::exchange::Exchange;
use crate::proxy::outgoing::{Bodies, Outgoing};
use crate::proxy::reply::Failure;
use crate::proxy::session;
use crate::upstream::attempt::{self, Answer, AttemptError, Awaited, Target};
use crate::upstream::conns::Pace;
use crate::upstream::course::{self, Course, Placed, Unplaced};
use crate::upstream::interim::Interim;
use crate::upstream::limits::Leave;
use crate::upstream::pool::Upstream;
use crate::upstream::queue::Place;
use crate::upstream::retry::{self, Cause, Stop};
use crate::upstream::server::Server;
use crate::upstream::side::{Asks, InFlight, Picked};

/// A head of usual size is written without asking for memory again.
const HEAD_BYTES: usize = 1024;

/// What came back.
pub struct Fetched {
    /// As the server sent it.
    pub parts: ResponseHead,
    pub body: Body,
    /// A `Set-Cookie` that binds the client to the server.
    pub cookie: Option<HeaderValue>,
    /// After 101: the server's end of a tunnel.
    pub tunnel: Option<Tunnel>,
}

/// The server's end of a tunnel.
pub struct Tunnel {
    pub stream: Counted,
    /// What it has said behind its 101.
    pub unread: Bytes,
    pub in_flight: InFlight,
    /// Where connections are limited: it is one of them.
    pub leave: Option<Leave>,
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
    let (view, local) = (x.view.clone(), x.local.clone());
    // Borrowed of the view: a count of its own would be one that all workers write.
    let (upstream, pool): (&Upstream, _) =
        (&view.upstreams[x.upstream_index()], &view.pools[x.upstream_index()]);
    let mut course = Course::begin(upstream, pool, &local.cells, local.now());
    let Outgoing { body, meter, length, wants_websocket } = out;
    let mut bodies = Bodies::new(body, meter, &x.head.method, &upstream.config, &local.room);
    let mut last = None;
    loop {
        // What went wrong before says more than that there is nobody left.
        let picked =
            place(x, &mut course, upstream).await.map_err(|failure| last.take().unwrap_or(failure))?;
        let server = picked.server;
        x.facts.server = Some((course.side.clone(), server));
        x.facts.attempts = course.attempts;
        let (body, meter) = bodies.next();
        let head = head(x, course.server(server), length, wants_websocket, &conditions);
        let began = local.timers.now();
        let mut request = Some(Sending::new(head, body));
        let outcome = attempt(x, &course, picked, &mut request, &meter).await;
        let now = local.now();
        match outcome {
            Ok((answer, in_flight)) => {
                let status = answer.head.status.as_u16();
                count_answer(x, course.server(server), &answer);
                course.answered(server, head_of(&answer), now);
                if upstream.config.retry.names(status) {
                    match course.again(server, Cause::Status(status), bodies.as_request(), now) {
                        Ok(()) => {
                            count_retry(x, "status");
                            continue;
                        }
                        Err(stop) => count_stop(x, stop),
                    }
                }
                let arrived = Arrived { course: &course, server, answer, in_flight };
                return received(x, arrived, &meter, wants_websocket);
            }
            Err(error) => {
                bodies.give_back(request.filter(|_| error.is_unsent()).map(Sending::into_body));
                let error = bodies.fault(error);
                note_failure(x, course.server(server), &error);
                if let AttemptError::Dial(DialError::Shortage(cause)) = &error {
                    note_shortage(x, cause);
                    give_up_idle(x);
                }
                let is_late = is_late(upstream, x);
                // What was left of the whole request's time may have been too little for any server.
                let was_short = is_late && matches!(error, AttemptError::TryTimedOut { .. });
                let failure = course::Failure {
                    cause: Cause::of(&error),
                    word: error.as_str(),
                    blames_server: error.blames_server() && !was_short,
                    took: local.timers.now() - began,
                };
                course.failed(server, &failure, now);
                let answer = match is_late {
                    true => Failure::TotalTimedOut,
                    false => Failure::Attempt(error),
                };
                if let Err(stop) = course.again(server, failure.cause, bodies.as_request(), now) {
                    count_stop(x, stop);
                    return Err(answer);
                }
                count_retry(x, failure.word);
                last = Some(answer);
            }
        }
    }
}

fn head_of(answer: &Answer) -> course::Head {
    let head = &answer.head;
    let retry_after = head.fields.get("retry-after").and_then(fields::visible);
    course::Head {
        status: head.status.as_u16(),
        retry_after: retry_after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs),
        took: answer.first_byte,
    }
}

/// A place at a server; waits for one where all are full.
async fn place(x: &mut Exchange, course: &mut Course<'_>, upstream: &Upstream) -> Result<Picked, Failure> {
    let placed = course.place(&asks(x), x.local.now(), &mut x.local.rng.borrow_mut());
    let picked = match placed.map_err(unplaced)? {
        Placed::Picked(picked) => picked,
        Placed::Waits(place) => called(x, course, upstream, place).await?,
    };
    debug!(server = picked.in_flight.server().id, reason = picked.reason.as_str(), "picked");
    Ok(picked)
}

/// What there is when it is called at its `place`, if that is in time.
async fn called(
    x: &mut Exchange,
    course: &mut Course<'_>,
    upstream: &Upstream,
    place: Place,
) -> Result<Picked, Failure> {
    let timers = x.local.timers.clone();
    let began = timers.now();
    let limit = upstream.config.queue.timeout.min(time_left(upstream, x).unwrap_or(Duration::MAX));
    let found = timers
        .timeout(limit, async {
            loop {
                place.called().await;
                let (now, rng) = (x.local.now(), &mut x.local.rng.borrow_mut());
                if let Some(found) = course.look(&place, &asks(x), now, rng) {
                    break found;
                }
            }
        })
        .await;
    x.facts.queued = Some(x.facts.queued.unwrap_or_default() + (timers.now() - began));
    match found {
        Ok(Ok(picked)) => {
            place.leave();
            Ok(picked)
        }
        Ok(Err(why)) => Err(unplaced(why)),
        Err(_) if is_late(upstream, x) => Err(Failure::TotalTimedOut),
        Err(_) => Err(Failure::QueueTimedOut),
    }
}

fn unplaced(why: Unplaced) -> Failure {
    match why {
        Unplaced::NoServer => Failure::NoServer,
        Unplaced::QueueFull => Failure::QueueFull,
    }
}

pub(super) fn asks(x: &Exchange) -> Asks<'_> {
    Asks {
        client: x.client_ip,
        path: x.head.uri.path(),
        query: x.head.uri.query().unwrap_or_default(),
        authority: &x.authority,
        fields: &x.head.fields,
    }
}

/// One attempt, within its own limit and what is left of the whole request's.
async fn attempt(
    x: &Exchange,
    course: &Course<'_>,
    picked: Picked,
    request: &mut Option<Sending>,
    meter: &Rc<Meter>,
) -> Result<(Answer, InFlight), AttemptError> {
    let Picked { server, in_flight, leave, .. } = picked;
    let (upstream, member) = (x.upstream(), course.server(server));
    let interims = RefCell::default();
    let timers = x.local.timers.clone();
    let pace = x.client_room().map_or(Pace::Free, Pace::OnDemand);
    let target = Target {
        address: member.address,
        tls: member.entry.tls.as_ref(),
        conns: &course.side.conns[server],
        afresh: course.afresh,
        dial: DialLimits { connect: upstream.config.connect_timeout, tls: upstream.config.tls_timeout },
        pace: &pace,
        room: &x.local.room,
        first_byte: upstream.config.first_byte_timeout,
        timers: &timers,
        interims: &interims,
        descriptors: &x.local.keep.descriptors,
    };
    let sending = pin!(attempt::send(&target, leave, request, meter));
    let sending = passing(&interims, x, sending);
    let limit = upstream.config.try_timeout.into_iter().chain(time_left(upstream, x)).min();
    let answer = match limit {
        None => sending.await,
        Some(after) => match timers.timeout(after, sending).await {
            Ok(answer) => answer,
            Err(_) => {
                let is_client = meter.end().is_none() && meter.is_awaited();
                let on = if is_client { Awaited::Client } else { Awaited::Server };
                Err(AttemptError::TryTimedOut { after, on })
            }
        },
    }?;
    Ok((answer, in_flight))
}

/// What `total-timeout` leaves; `None` where there is none.
fn time_left(upstream: &Upstream, x: &Exchange) -> Option<Duration> {
    upstream.config.total_timeout.map(|total| total.saturating_sub(x.age()))
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

fn head(
    x: &Exchange,
    server: &Server,
    length: BodyLength,
    websocket: bool,
    conditions: &Conditions<'_>,
) -> Head {
    let host_header = match &x.upstream().config.host {
        HostHeader::Preserve => x.authority_for_server().as_bytes(),
        HostHeader::Server => server.entry.host.as_bytes(),
        HostHeader::Fixed(text) => text.as_bytes(),
    };
    let replaced = match conditions {
        Conditions::AsSent => None,
        Conditions::Cleared => Some(Fields::new()),
        Conditions::Of(meta) => Some(policy::validators(meta)),
        Conditions::AnyOf(entries) => {
            Some(policy::candidates(entries.iter().filter_map(|e| e.head.meta.etag.as_deref())))
        }
    };
    let context = ForwardContext {
        peer: &x.client.peer,
        peer_kind: x.peer_kind,
        client_ip: x.client_ip,
        host: x.authority_for_server(),
        host_header,
        request_id: &x.request_id,
        websocket,
        body: length,
        conditions: replaced.as_ref(),
    };
    let mut text = Vec::with_capacity(HEAD_BYTES);
    let target = forward::origin_form(x.target_for_server());
    for part in [x.head.method.as_str(), " ", target.as_str(), " HTTP/1.1\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    let announced = forward::to_server(&x.head, &context, &mut text);
    text.extend_from_slice(b"\r\n");
    let framing = match length {
        BodyLength::None => Framing::Empty,
        BodyLength::Known(bytes) => Framing::Length(bytes),
        BodyLength::Unknown => Framing::Chunked,
    };
    // Of a trailer that was not announced a server may not know what it is (RFC 9110 section 6.5.1).
    Head { out: Outbox::new(text), framing, trailers: Trailers::Announced(announced) }
}

/// An answer, and whose it is.
struct Arrived<'a> {
    course: &'a Course<'a>,
    server: usize,
    answer: Answer,
    in_flight: InFlight,
}

fn received(
    x: &mut Exchange,
    arrived: Arrived<'_>,
    request: &Meter,
    wants_websocket: bool,
) -> Result<Fetched, Failure> {
    let Arrived { course, server, answer, in_flight } = arrived;
    let Answer { head: parts, lease, connect, first_byte } = answer;
    (x.facts.connect, x.facts.first_byte) = (connect, Some(first_byte));
    if let Err(bad) = guard::check_response(&parts, wants_websocket) {
        course.blame(server, bad.as_str(), x.local.now());
        return Err(Failure::BadResponse(bad));
    }
    let cookie = session::bind(x, course, server, &parts);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel =
            lease.let_go().map(|(stream, unread, leave)| Tunnel { stream, unread, in_flight, leave });
        return Ok(Fetched { parts, body: Body::Empty, cookie, tunnel });
    }
    let body = lease.body(&parts, &x.head.method, request, in_flight, x.local.keep.began());
    let body = if let Body::Wrapped(_) = body { held_to_its_pace(x, body) } else { body };
    Ok(Fetched { parts, body, cookie, tunnel: None })
}

/// What is still to come of a body.
fn held_to_its_pace(x: &Exchange, body: Body) -> Body {
    let (timers, upstream) = (&x.local.timers, x.upstream());
    let idle = timers.deadline(upstream.config.body_idle);
    let total = time_left(upstream, x).map(|left| timers.deadline(left));
    Body::wrap(Metered::new(body, None, Some(idle)).within(total))
}

fn note_failure(x: &Exchange, server: &Server, error: &AttemptError) {
    let (upstream, cause) = (x.upstream(), std::error::Error::source(error).map(tracing::field::display));
    debug!(upstream = upstream.config.name, server = server.id, %error, cause, "attempt failed");
    x.local.cells.inc(server.entry.handles.requests.none());
}

fn note_shortage(x: &Exchange, error: &std::io::Error) {
    let keep = &x.local.keep;
    if keep.descriptors.may_warn(keep.now()) {
        let limit = keep.descriptors.limit();
        warn!(%error, limit, "no file descriptor for a connection to a server; raise the limit (ulimit -n)");
    }
}

/// Closes one connection that is at rest, to whatever server of this worker's, so that the next to be opened has its
/// descriptor.
fn give_up_idle(x: &Exchange) {
    let pools = x.view.upstreams.iter().zip(&x.view.pools);
    let mut sides = pools.map(|(upstream, pool)| pool.side(upstream));
    sides.any(|side| side.conns.iter().any(|conns| conns.close_one()));
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
    cells.inc(handles.requests.of(answer.head.status.as_u16()));
    cells.observe(handles.first_byte, answer.first_byte);
    if let Some(connect) = answer.connect {
        cells.observe(handles.connect, connect);
    }
}
