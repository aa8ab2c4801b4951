//! HTTP/1.1 as servers speak it (RFC 9112), with a task for each connection.
//!
//! Ours, and not hyper's: what a proxy must know of a message is gone once a library has made sense of it; interim
//! responses need a way out; and a connection at rest should cost a socket and little else. What both ends share is in
//! [`crate::http1`]; here are requests' heads, responses' heads, and what waits.

mod body;
pub mod head;
mod response;
mod wire;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::{Method, StatusCode, Version};
use http_body::Body as _;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::body::Body;
use crate::clock::Deadline;
use crate::config::Limits;
use crate::fields::{Known, RequestHead};
use crate::filter::guard;
use crate::front::http1::body::RequestBody;
use crate::front::http1::head::{BadHead, Scan};
use crate::front::http1::response::Asker;
use crate::front::http1::wire::{BodyStage, Presence, Wire};
use crate::front::{LINGER, LINGER_BYTES};
use crate::http1::chunked::Chunked;
use crate::http1::coding::Coding;
use crate::http1::outbox::Outbox;
use crate::http1::sending::{Framing, Head, Sending, Stage};
use crate::net::Stream;
use crate::proxy::{self, Client, ClientSide, Serving};
use crate::state::Local;

/// A connection is at rest for so long before it is parked: a client that asks again at once, as most do, finds all in
/// its place.
pub const PARK_AFTER: Duration = Duration::from_secs(1);

/// A connection at rest: what of it cannot be made again.
pub struct Parked {
    /// The socket.
    pub stream: Stream,
    /// Requests begun.
    pub requests: u64,
}

/// A connection, between its requests and during them.
struct Connection {
    local: Rc<Local>,
    client: Rc<Client>,
    wire: Rc<Wire>,
    /// Requests begun.
    requests: u64,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// There is nobody to say anything to, or nothing to say.
    Drop,
    /// It is a tunnel's now.
    Handed,
    /// After our last word: the client gets the time to read it.
    Linger,
    /// So that what was sent cannot be taken for whole.
    Reset,
    /// With this refusal.
    Refuse(BadHead),
    /// The rest of a head did not come in time.
    SlowHead,
    /// Nothing of a first head came in time.
    Silent,
    /// Not at all: nothing of a next head came for a while.
    Park,
    /// The client did not take what was written.
    SlowReader,
}

/// Whose turn it is on a connection without a request, and the limit for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The first request, or the rest of a head.
    Head,
    /// The next request.
    Rest,
}

/// Serves a connection until it ends, or (with what is to be kept of it) is at rest. `unread` was read while finding out
/// the protocol.
pub async fn serve(local: Rc<Local>, client: Rc<Client>, parked: Parked, unread: BytesMut) -> Option<Parked> {
    let Parked { stream, requests } = parked;
    let mut connection = Connection { local, client, wire: Wire::new(stream, unread), requests };
    let ending = connection.run().await;
    if ending == Ending::Park {
        let (stream, _) = connection.wire.take()?;
        return Some(Parked { stream, requests: connection.requests });
    }
    Box::pin(connection.end(ending)).await;
    None
}

impl Connection {
    async fn run(&mut self) -> Ending {
        loop {
            let head = match self.head().await {
                Ok(head) => head,
                Err(ending) => return ending,
            };
            self.requests += 1;
            if let Err(ending) = self.exchange(head).await {
                return ending;
            }
        }
    }

    /// The next request's head, however long the connection is at rest before it.
    async fn head(&self) -> Result<RequestHead, Ending> {
        let view = self.client.door.view();
        let limits = &view.config.limits;
        let mut scan = Scan::default();
        let mut lateness = None;
        poll_fn(|cx| {
            match self.wire.poll_head(cx, &mut scan, limits) {
                Poll::Ready(Ok(Some(head))) => return Poll::Ready(Ok(head)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(Ending::Drop)),
                Poll::Ready(Err(bad)) => return Poll::Ready(Err(Ending::Refuse(bad))),
                Poll::Pending => {}
            }
            let has_begun = self.wire.has_begun_a_head(&scan);
            if !has_begun && self.local.is_leaving(&self.client.door) {
                return Poll::Ready(Err(Ending::Drop));
            }
            ready!(self.poll_lateness(cx, has_begun, limits, &mut lateness));
            Poll::Ready(Err(match (has_begun, self.requests) {
                (true, _) => Ending::SlowHead,
                (false, 0) => Ending::Silent,
                (false, _) if limits.keep_alive > PARK_AFTER => Ending::Park,
                (false, _) => Ending::Drop,
            }))
        })
        .await
    }

    fn poll_lateness(
        &self,
        cx: &mut Context<'_>,
        has_begun: bool,
        limits: &Limits,
        lateness: &mut Option<(Wait, Deadline)>,
    ) -> Poll<()> {
        let (wait, limit) = match has_begun || self.requests == 0 {
            true => (Wait::Head, limits.head_timeout),
            false => (Wait::Rest, limits.keep_alive.min(PARK_AFTER)),
        };
        if lateness.as_ref().is_none_or(|(before, _)| *before != wait) {
            *lateness = Some((wait, self.local.timers.deadline(limit)));
        }
        lateness.as_ref().map_or(Poll::Pending, |(_, deadline)| deadline.poll_elapsed(cx))
    }

    /// One request and its response; an error ends the connection.
    async fn exchange(&self, head: RequestHead) -> Result<(), Ending> {
        let mut asker = Asker::of(&head);
        let body = self.body(&head, &mut asker);
        let (accept, offer) = match head.method == Method::GET && guard::wants_websocket(&head) {
            true => Some(oneshot::channel()).unzip(),
            false => (None, None),
        };
        let (local, client) = (self.local.clone(), self.client.clone());
        let serving = proxy::serve(local, client, head, body, Rc::default(), self.wire.clone(), offer);
        let answer = self.answer(serving).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.hand_over(answer, asker, accept).await);
        }
        // What came behind a request for a tunnel may be meant for the tunnel (RFC 9110 section 7.8).
        if accept.is_some() && self.wire.has_unread() {
            asker.closes();
        }
        self.send(answer, asker).await
    }

    /// The body that `head` announces. One whose end is in doubt is not read: the guard will refuse the request.
    fn body(&self, head: &RequestHead, asker: &mut Asker) -> Body {
        let expects = head.version == Version::HTTP_11 && head.fields.has(Known::Expect);
        let wire = || self.wire.clone();
        let (stage, body) = match guard::framing(head) {
            Ok(guard::Framing::None | guard::Framing::Length(0)) => {
                asker.has_no_body();
                (BodyStage::Ended, Body::Empty)
            }
            Ok(guard::Framing::Length(bytes)) => {
                (BodyStage::Open, Body::wrap(RequestBody::new(wire(), Coding::of_length(bytes))))
            }
            Ok(guard::Framing::Chunked) => {
                let limits = &self.client.door.view().config.limits;
                let chunked = Chunked::new(limits.header_bytes, limits.headers);
                (BodyStage::Open, Body::wrap(RequestBody::new(wire(), Coding::Chunked(Box::new(chunked)))))
            }
            Err(_) => {
                asker.closes();
                (BodyStage::Lost, Body::Empty)
            }
        };
        self.wire.begin(stage, expects && stage == BodyStage::Open);
        body
    }

    /// Waits for the response. Meanwhile interim ones go out, and a client that leaves is noticed: then whoever works
    /// for it is told by being dropped.
    async fn answer(&self, mut serving: Serving) -> Result<Answer, Ending> {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = Pin::new(&mut serving).poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            let has_failed = matches!(self.wire.poll_interims(cx), Poll::Ready(Err(_)));
            if has_failed || self.wire.poll_presence(cx) == Presence::Gone {
                return Poll::Ready(Err(Ending::Drop));
            }
            Poll::Pending
        })
        .await
    }

    /// Writes the response. An error ends the connection, as does a response that says so.
    async fn send(&self, answer: Answer, mut asker: Asker) -> Result<(), Ending> {
        let mut sending = self.begin(answer, &mut asker);
        let mut lateness = None;
        poll_fn(|cx| self.poll_send(cx, &mut sending, &mut lateness)).await?;
        match sending.stage() {
            // Its client has no other way to tell.
            Stage::Cut if sending.framing() == Framing::UntilClose => Err(Ending::Reset),
            Stage::Whole if asker.keeps() && self.wire.body() == BodyStage::Ended => Ok(()),
            // Nothing can come that the close would answer with a reset.
            Stage::Whole if asker.has_said_all() && !self.wire.has_unread() => Err(Ending::Drop),
            _ => Err(Ending::Linger),
        }
    }

    /// The head of the response, and what will follow it.
    fn begin(&self, answer: Answer, asker: &mut Asker) -> Sending {
        let (written, body) = answer.into_parts();
        let (stage, awaits_continue) = self.wire.end_interims();
        let requests_max = self.client.door.view().config.limits.requests_per_connection;
        // An answer before the end of the request: whether the rest will be read to its end is not known yet, and a client
        // that relies on it may lose a request (RFC 9112 section 9.3).
        let is_spoilt = stage != BodyStage::Ended || awaits_continue;
        if is_spoilt || self.requests >= requests_max || self.local.is_leaving(&self.client.door) {
            asker.closes();
        }
        let (mut head, framing) = response::head(written, body.size_hint().exact(), asker);
        let interims = self.wire.take_interims();
        if !interims.is_empty() {
            head.splice(..0, interims);
        }
        let out = Outbox::new(head);
        Sending::new(Head { out, framing, trailers: asker.trailers() }, body)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
        lateness: &mut Option<Deadline>,
    ) -> Poll<Result<(), Ending>> {
        loop {
            sending.gather(cx);
            let written = match sending.out.is_empty() {
                true => self.wire.poll_flush(cx).map_ok(|()| 0),
                false => self.wire.poll_write(cx, &sending.out),
            };
            let Poll::Ready(written) = written else {
                let limit = || self.local.timers.deadline(self.client.door.view().config.limits.write_idle);
                return lateness.get_or_insert_with(limit).poll_elapsed(cx).map(|()| Err(Ending::SlowReader));
            };
            *lateness = None;
            match written {
                Err(_) => return Poll::Ready(Err(Ending::Drop)),
                Ok(0) if sending.stage() != Stage::Open => return Poll::Ready(Ok(())),
                Ok(0) if self.wire.poll_presence(cx) == Presence::Gone => {
                    return Poll::Ready(Err(Ending::Drop));
                }
                Ok(0) => return Poll::Pending,
                Ok(written) => sending.out.advance(written),
            }
        }
    }

    /// After a 101 the socket is the tunnel's.
    async fn hand_over(
        &self,
        answer: Answer,
        mut asker: Asker,
        accept: Option<oneshot::Sender<ClientSide>>,
    ) -> Ending {
        let mut sending = self.begin(answer, &mut asker);
        let mut lateness = None;
        if let Err(ending) = poll_fn(|cx| self.poll_send(cx, &mut sending, &mut lateness)).await {
            return ending;
        }
        let (Some(accept), Some((stream, unread))) = (accept, self.wire.take()) else { return Ending::Drop };
        // Nobody there to take it: the tunnel has failed at its other end, and with the socket goes this one.
        let _ = accept.send(ClientSide { stream, unread });
        Ending::Handed
    }

    async fn end(self, ending: Ending) {
        if let Some(counter) =
            ending.reason().and_then(|reason| self.client.door.listener(|own| own.handles.refusal(reason)))
        {
            self.local.cells.inc(counter);
        }
        let Some((mut stream, _)) = self.wire.take() else { return };
        let status = match ending {
            Ending::Reset => {
                let socket = socket2::SockRef::from(stream.socket());
                let _ = socket.set_linger(Some(Duration::ZERO));
                return;
            }
            Ending::Drop | Ending::Handed | Ending::Silent | Ending::SlowReader | Ending::Park => {
                let _ = poll_fn(|cx| Poll::Ready(stream.poll_farewell(cx))).await;
                return;
            }
            Ending::Linger => None,
            Ending::Refuse(bad) => bad.is_answered().then(|| bad.status()),
            Ending::SlowHead => Some(StatusCode::REQUEST_TIMEOUT),
        };
        let _ = self.local.timers.timeout(LINGER, farewell(stream, status)).await;
    }
}

impl Ending {
    /// The word for the metrics, where the client is at fault.
    fn reason(self) -> Option<&'static str> {
        match self {
            Ending::Refuse(bad) => Some(proxy::raw_reason(bad.status())),
            Ending::SlowHead | Ending::Silent => Some(proxy::raw_reason(StatusCode::REQUEST_TIMEOUT)),
            Ending::SlowReader => Some("slow-reader"),
            Ending::Drop | Ending::Handed | Ending::Linger | Ending::Reset | Ending::Park => None,
        }
    }
}

/// Says a last word, closes our side, and reads what the client still sends: a socket that is closed with unread bytes
/// resets the connection, and the reset may overtake our last response.
async fn farewell(mut stream: Stream, refusal: Option<StatusCode>) {
    if let Some(status) = refusal
        && stream.write_all(&proxy::raw_refusal(status)).await.is_err()
    {
        return;
    }
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    poll_fn(|cx| stream.poll_discard(cx, &mut left)).await;
}
