//! The task of a connection: the socket on one side, requests on the other, and the session between them.
//!
//! It reads what there is, lets each stream that was woken get on, and writes all that came of it at once. Streams that
//! can send take turns, a piece each; none is asked for more while its client takes no more.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tracing::debug;

use crate::answer::Answer;
use crate::body::{self, Body};
use crate::clock::Deadline;
use crate::fields::{Known, RequestHead};
use crate::front::http2::frame::{Code, PREFACE};
use crate::front::http2::link::{Expects, Link};
use crate::front::http2::outbox::SLICES_MAX;
use crate::front::http2::ready::Ready;
use crate::front::http2::session::{Event, Part, Rules, Session, Then};
use crate::front::http2::streams::Slot;
use crate::front::{LINGER, LINGER_BYTES};
use crate::net::Stream;
use crate::proxy::{self, Client, Serving};
use crate::state::Local;

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// How often it reads before it acts for all that has come.
const READS_MAX: usize = 4;
/// How often it reads and writes before others have their turn.
const ROUNDS_MAX: usize = 16;
/// A connection is at rest for so long before it gives back what memory it can: a client that asks again at once, as most
/// do, finds all in its place.
const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// The longest that it sleeps: it looks now and then whether the process drains.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// A connection of HTTP/2, from its preface to its end.
struct Connection {
    local: Rc<Local>,
    client: Rc<Client>,
    socket: Stream,
    session: Session<Work>,
    /// Bytes of a frame that is not all there.
    unread: BytesMut,
    /// The preface has come.
    has_begun: bool,
    ready: Arc<Ready>,
    /// Of each slot that was ever used.
    wakers: Vec<Waker>,
    /// Streams that can get on, in turn.
    queue: VecDeque<Slot>,
    /// Those that could, but for what waits for the client.
    held: Vec<Slot>,
    /// Those whose windows are shut, in turn.
    shut: VecDeque<Slot>,
    /// The client's last grant for all streams together.
    granted: Instant,
    /// Something is written that the socket has not taken.
    is_blocked: bool,
    clock: Clock,
    stage: Stage,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our last word is being written.
    Flushing,
    /// So many bytes may still be read and thrown away.
    Lingering(usize),
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// There is nobody any more.
    Gone,
    /// As it should.
    Done,
    /// The client did not take what was written.
    SlowReader,
}

/// What a connection waits for; a changed number means that it is another wait of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// The first request, or the rest of a head.
    Head(u64),
    /// The next request of a connection at rest.
    Rest(u64),
    /// The client to take what is written.
    Write(u64),
    /// The client to hear that we go.
    Farewell,
    /// The client to hang up after our last word.
    Linger,
    /// Us.
    Nothing,
}

/// When something is late next.
struct Clock {
    awaits: Awaits,
    since: Instant,
    /// Bytes written, to tell one wait for the client from the next.
    written: u64,
    /// When the first stream whose window is shut may be late.
    stalled: Option<Instant>,
    /// When memory is given back, if nothing is in flight then.
    shrinks: Option<Instant>,
    alarm: Option<(Deadline, Instant)>,
}

/// What is done for one stream. With it goes what was done in vain.
#[derive(Default)]
struct Work {
    link: Option<Rc<Link>>,
    step: Step,
    /// Its response has no body, whatever its head says.
    is_head: bool,
    /// It is in the queue.
    is_queued: bool,
    /// It is among those whose windows are shut.
    is_shut: bool,
    /// Since when its client takes nothing.
    stalled: Option<Instant>,
}

#[derive(Default)]
enum Step {
    /// Nothing is left to do, or it is being done.
    #[default]
    None,
    Asked((RequestHead, Body)),
    Serving(Serving),
    Answered(Answer),
    Sending(Sending),
}

/// A response whose head is sent.
struct Sending {
    body: Body,
    /// Of its last piece what the client has not taken.
    rest: Bytes,
    /// Bytes that are still to come where the length was announced.
    left: Option<u64>,
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.cut();
        }
    }
}

/// Serves a connection until it ends. `first` was read while finding out the protocol.
pub async fn serve(local: Rc<Local>, client: Rc<Client>, socket: Stream, first: BytesMut) {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let mut connection = Connection::new(local, client, socket, first, waker);
    let ending = poll_fn(|cx| connection.poll(cx)).await;
    if ending == Ending::SlowReader {
        connection.count("slow-reader");
    }
    let _ = poll_fn(|cx| Poll::Ready(connection.socket.poll_farewell(cx))).await;
}

impl Connection {
    fn new(local: Rc<Local>, client: Rc<Client>, socket: Stream, first: BytesMut, task: Waker) -> Self {
        let view = client.door.view();
        let limits = &view.config.limits;
        let now = local.timers.now();
        Connection {
            session: Session::new(Rules::new(limits), now),
            ready: Ready::new(limits.http2_streams as usize, task),
            local,
            client,
            socket,
            unread: first,
            has_begun: false,
            wakers: Vec::new(),
            queue: VecDeque::new(),
            held: Vec::new(),
            shut: VecDeque::new(),
            granted: now,
            is_blocked: false,
            clock: Clock {
                awaits: Awaits::Head(0),
                since: now,
                written: 0,
                stalled: None,
                shrinks: None,
                alarm: None,
            },
            stage: Stage::Open,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        debug_assert!(self.ready.is_of(cx.waker()), "a connection stays with its task");
        loop {
            if self.stage == Stage::Open
                && let Err(ending) = self.take_turn(cx)
            {
                return Poll::Ready(ending);
            }
            if self.stage != Stage::Open && self.poll_goodbye(cx).is_ready() {
                return Poll::Ready(Ending::Done);
            }
            match ready!(self.poll_late(cx)) {
                Some(ending) => return Poll::Ready(ending),
                None => continue,
            }
        }
    }

    /// Does all that can be done now.
    fn take_turn(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        let now = self.local.timers.now();
        self.session.tick(now);
        self.leave_in_time();
        self.ready.look();
        for round in 1.. {
            let has_more = self.read(cx, now)?;
            if self.stage != Stage::Open {
                break;
            }
            self.run(now);
            self.write(cx)?;
            if !self.session.out.is_full() {
                self.queue.extend(self.held.drain(..));
            }
            let is_idle = self.queue.is_empty() && !(has_more && self.session.may_read());
            if is_idle && self.ready.rest() {
                break;
            }
            if round == ROUNDS_MAX {
                self.ready.rest();
                cx.waker().wake_by_ref();
                break;
            }
            self.ready.look();
        }
        if self.stage == Stage::Open && self.session.streams.is_empty() {
            self.rest(now);
        }
        Ok(())
    }

    /// Says goodbye when the process drains, or the connection has carried as many requests as it may.
    fn leave_in_time(&mut self) {
        let most = self.client.door.view().config.limits.requests_per_connection;
        if self.session.opened() >= most || self.local.is_leaving(&self.client.door) {
            self.session.leave();
        }
        if self.session.is_unheard() {
            self.session.settle_farewell();
        }
    }

    /// Nothing is in flight: what can be made again is not kept for long.
    fn rest(&mut self, now: Instant) {
        if self.session.is_over() && self.session.out.is_empty() && !self.is_blocked {
            // Also where it is the client that goes.
            self.session.settle_farewell();
            self.stage = Stage::Flushing;
            return;
        }
        self.shut.clear();
        let has_spare = !self.session.is_shrunk() || self.unread.capacity() > 0;
        if has_spare && self.clock.shrinks.is_none() && !self.is_blocked {
            self.clock.shrinks = Some(now + SHRINK_AFTER);
        }
    }

    /// Gives back what can be made again, unless it is in use.
    fn shrink(&mut self) {
        self.clock.shrinks = None;
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        self.session.shrink();
    }

    /// Reads what there is, and acts upon it. True when there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ending> {
        if !self.has_begun && !self.unread.is_empty() {
            self.parse(&[], now);
        }
        for _ in 0..READS_MAX {
            if self.stage != Stage::Open || !self.session.may_read() {
                return Ok(true);
            }
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.parse(buf.filled(), now),
                Poll::Ready(_) => return Err(Ending::Gone),
            }
        }
        Ok(true)
    }

    /// Acts upon what has come. What is no frame yet is kept until there is more.
    fn parse(&mut self, bytes: &[u8], now: Instant) {
        let mut unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            // Nearly always frames come whole: then nothing is copied.
            if let Ok(used) = self.parse_frames(bytes, now) {
                unread.extend_from_slice(&bytes[used..]);
            }
        } else {
            unread.extend_from_slice(bytes);
            if let Ok(used) = self.parse_frames(&unread, now) {
                unread.advance(used);
            }
        }
        self.unread = unread;
    }

    /// How many bytes were used.
    fn parse_frames(&mut self, bytes: &[u8], now: Instant) -> Result<usize, ()> {
        let mut used = 0;
        if !self.has_begun {
            let there = bytes.len().min(PREFACE.len());
            if bytes[..there] != PREFACE[..there] {
                self.fail(Code::Protocol);
                return Err(());
            }
            if there < PREFACE.len() {
                return Ok(0);
            }
            (self.has_begun, used) = (true, there);
        }
        loop {
            match self.session.next(&bytes[used..]) {
                Ok(Some((length, event))) => {
                    used += length;
                    self.act(event, now);
                }
                Ok(None) => return Ok(used),
                Err(code) => {
                    self.fail(code);
                    return Err(());
                }
            }
        }
    }

    fn act(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Settled => {}
            Event::Request { slot, head, length, is_ended } => {
                let expects = !is_ended && head.fields.has(Known::Expect);
                let link =
                    Link::new(self.waker(slot), if expects { Expects::Continue } else { Expects::Nothing });
                let body = if is_ended { Body::Empty } else { Body::wrap(link.body(length)) };
                let Some(stream) = self.session.streams.get(slot) else { return };
                stream.work.is_head = head.method == Method::HEAD;
                stream.work.link = Some(link);
                stream.work.step = Step::Asked((head, body));
                self.enqueue(slot);
            }
            Event::Refused(slot, status) => {
                self.count(proxy::raw_reason(status));
                self.waker(slot);
                self.session.took_up(slot);
                self.put_back(slot, Step::Answered(proxy::early_refusal(status)));
                self.enqueue(slot);
            }
            Event::Data(slot, data, part) => self.deliver(slot, data, part),
            Event::Trailers(slot, trailers) => {
                if let Some(link) = self.link(slot) {
                    link.end(Some(trailers));
                }
            }
            Event::Grown(slot) => {
                if self.session.streams.get(slot).is_some_and(|stream| stream.work.is_shut) {
                    self.enqueue(slot);
                }
            }
            Event::AllGrown => {
                self.granted = now;
                for slot in std::mem::take(&mut self.shut) {
                    if let Some(stream) = self.session.streams.get(slot) {
                        stream.work.is_shut = false;
                        self.enqueue(slot);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, slot: Slot, data: &[u8], part: Part) {
        let Some(link) = self.link(slot) else { return self.session.left_unread(slot, data.len()) };
        if !data.is_empty() {
            link.data(data);
        }
        if part == Part::Last {
            link.end(None);
        }
        self.settle(slot, &link);
    }

    fn link(&mut self, slot: Slot) -> Option<Rc<Link>> {
        self.session.streams.get(slot)?.work.link.clone()
    }

    /// What was read of a body may be sent again; what nobody reads counts for its own stream alone.
    fn settle(&mut self, slot: Slot, link: &Link) {
        let account = link.settle();
        self.session.taken(slot, account.taken);
        self.session.left_unread(slot, account.unread);
    }

    fn waker(&mut self, slot: Slot) -> Waker {
        while self.wakers.len() <= slot {
            let waker = self.ready.waker(self.wakers.len());
            self.wakers.push(waker);
        }
        self.wakers[slot].clone()
    }

    fn enqueue(&mut self, slot: Slot) {
        enqueue(&mut self.session, &mut self.queue, slot);
    }

    /// Lets every stream get on that can.
    fn run(&mut self, now: Instant) {
        let Connection { ready, session, queue, .. } = self;
        ready.take(|slot| enqueue(session, queue, slot));
        while let Some(slot) = self.queue.pop_front() {
            self.run_one(slot, now);
        }
    }

    fn run_one(&mut self, slot: Slot, now: Instant) {
        let Some(stream) = self.session.streams.get(slot) else { return };
        stream.work.is_queued = false;
        let mut step = std::mem::take(&mut stream.work.step);
        let link = stream.work.link.clone();
        let waker = self.wakers[slot].clone();
        let cx = &mut Context::from_waker(&waker);
        loop {
            step = match step {
                Step::None => break,
                Step::Asked(request) => match &link {
                    Some(link) => Step::Serving(self.ask(slot, request, link.clone())),
                    None => break,
                },
                Step::Serving(mut serving) => {
                    let answer = Pin::new(&mut serving).poll(cx);
                    self.send_interims(slot, link.as_deref());
                    match answer {
                        Poll::Ready(answer) => Step::Answered(answer),
                        Poll::Pending => break self.put_back(slot, Step::Serving(serving)),
                    }
                }
                Step::Answered(_) | Step::Sending(_) if self.session.out.is_full() => {
                    break self.hold(slot, step);
                }
                Step::Answered(answer) => match self.respond(slot, answer) {
                    Some(sending) => Step::Sending(sending),
                    None => break,
                },
                Step::Sending(sending) => break self.send(slot, sending, cx, now),
            };
        }
        if let Some(link) = link {
            self.settle(slot, &link);
        }
    }

    fn ask(&mut self, slot: Slot, (head, body): (RequestHead, Body), link: Rc<Link>) -> Serving {
        self.session.took_up(slot);
        let (local, client) = (self.local.clone(), self.client.clone());
        proxy::serve(local, client, head, body, Rc::default(), link, None)
    }

    fn put_back(&mut self, slot: Slot, step: Step) {
        if let Some(stream) = self.session.streams.get(slot) {
            stream.work.step = step;
        }
    }

    /// It goes on when the client has taken some of what waits for it.
    fn hold(&mut self, slot: Slot, step: Step) {
        if let Some(stream) = self.session.streams.get(slot) {
            stream.work.step = step;
            stream.work.is_queued = true;
            self.held.push(slot);
        }
    }

    /// One that finds no room is left out.
    fn send_interims(&mut self, slot: Slot, link: Option<&Link>) {
        for (status, fields) in link.map(Link::take_interims).unwrap_or_default() {
            if !self.session.out.is_full() {
                self.session.interim(slot, status, &fields);
            }
        }
    }

    /// Sends the head of a response; what is to follow it.
    fn respond(&mut self, slot: Slot, answer: Answer) -> Option<Sending> {
        let is_head = self.session.streams.get(slot)?.work.is_head;
        let (head, body) = answer.into_parts();
        let has_none = is_head || matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let (said, exact) = (head.length(), body.size_hint().exact());
        let added = exact.filter(|_| said.is_none() && !has_none);
        if has_none || body.is_end_stream() {
            if !has_none && said.is_some_and(|length| length > 0) {
                self.session.reset(slot, Code::Internal);
            } else {
                self.session.respond(slot, &head, added, Then::End);
            }
            return None;
        }
        self.session.respond(slot, &head, added, Then::More);
        Some(Sending { body, rest: Bytes::new(), left: said.or(exact) })
    }

    /// Sends one piece of a response, if there is one and the client takes it.
    fn send(&mut self, slot: Slot, mut sending: Sending, cx: &mut Context<'_>, now: Instant) {
        // Before the window: an end needs none (RFC 9113 section 6.9.1), and whose server is silent takes all there is.
        if sending.rest.is_empty() {
            match sending.poll_data(cx) {
                Poll::Pending => return self.put_back(slot, Step::Sending(sending)),
                Poll::Ready(Piece::Data) => {}
                Poll::Ready(Piece::End(trailers)) => return self.finish(slot, trailers),
                Poll::Ready(Piece::Cut) => return self.session.reset(slot, Code::Internal),
            }
        }
        let room = self.session.room(slot);
        if room == 0 {
            return self.shut(slot, sending, now);
        }
        let part = sending.rest.split_to(sending.rest.len().min(room).min(body::PIECE));
        let is_last = sending.rest.is_empty() && sending.body.is_end_stream();
        if is_last && sending.is_whole() {
            return self.session.send(slot, part, Then::End);
        }
        self.session.send(slot, part, Then::More);
        if is_last {
            return self.session.reset(slot, Code::Internal);
        }
        if let Some(stream) = self.session.streams.get(slot) {
            stream.work.stalled = None;
        }
        self.put_back(slot, Step::Sending(sending));
        self.enqueue(slot);
    }

    fn finish(&mut self, slot: Slot, trailers: Option<HeaderMap>) {
        match trailers {
            Some(trailers) => self.session.send_trailers(slot, &trailers),
            None => self.session.send(slot, Bytes::new(), Then::End),
        }
    }

    /// The stream's window is shut, or the connection's.
    fn shut(&mut self, slot: Slot, sending: Sending, now: Instant) {
        let Some(stream) = self.session.streams.get(slot) else { return };
        stream.work.step = Step::Sending(sending);
        stream.work.stalled.get_or_insert(now);
        if !std::mem::replace(&mut stream.work.is_shut, true) {
            self.shut.push_back(slot);
        }
        let late = now + self.client.door.view().config.limits.write_idle;
        self.clock.stalled = Some(self.clock.stalled.map_or(late, |before| before.min(late)));
        // Of streams that ended while they waited.
        if self.shut.len() > 2 * self.client.door.view().config.limits.http2_streams as usize {
            let streams = self.session.streams.iter_mut();
            self.shut = streams.filter(|(_, stream)| stream.work.is_shut).map(|(slot, _)| slot).collect();
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        while !self.session.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.session.out.slices(&mut slices);
            match Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.session.wrote(written);
                    self.clock.written += written as u64;
                }
                Poll::Ready(_) => return Err(Ending::Gone),
                Poll::Pending => {
                    self.is_blocked = true;
                    return Ok(());
                }
            }
        }
        // TLS may hold back what the socket did not take at once.
        self.is_blocked = match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => return Err(Ending::Gone),
            Poll::Pending => true,
        };
        Ok(())
    }

    /// The client has broken a rule: it is told so, and not heard any more.
    fn fail(&mut self, code: Code) {
        debug!(?code, "refused over http/2");
        self.count(if code == Code::EnhanceYourCalm { "http2-flood" } else { "malformed" });
        self.close(code);
    }

    fn close(&mut self, code: Code) {
        self.session.fail(code);
        self.unread.clear();
        self.stage = Stage::Flushing;
    }

    /// Writes our last word, closes our side, and reads what the client still sends: a socket that is closed with unread
    /// bytes resets the connection, and the reset may overtake our last word.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stage == Stage::Flushing {
            if self.write(cx).is_err() {
                return Poll::Ready(());
            }
            if self.is_blocked {
                return Poll::Pending;
            }
            if ready!(Pin::new(&mut self.socket).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.stage = Stage::Lingering(LINGER_BYTES);
        }
        match &mut self.stage {
            Stage::Lingering(left) => self.socket.poll_discard(cx, left),
            Stage::Open | Stage::Flushing => Poll::Pending,
        }
    }

    /// Ready when something was late: with the end of the connection, if it comes to that.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ending>> {
        let awaits = self.awaits();
        if awaits != self.clock.awaits {
            (self.clock.awaits, self.clock.since) = (awaits, self.local.timers.now());
        }
        let due = self.clock.since + self.limit_of(awaits);
        let while_open = |at: Option<Instant>| at.filter(|_| self.stage == Stage::Open);
        let (stalled, unfinished) = (while_open(self.clock.stalled), while_open(self.session.due()));
        let shrinks = while_open(self.clock.shrinks);
        let first = [stalled, unfinished, shrinks].into_iter().flatten().fold(due, Instant::min);
        let now = ready!(self.clock.poll(cx, &self.local, first));
        if shrinks.is_some_and(|shrinks| shrinks <= now) {
            self.shrink();
        }
        if stalled.is_some_and(|stalled| stalled <= now) {
            self.reset_stalled(now);
        }
        if now < due {
            return Poll::Ready(None);
        }
        match awaits {
            Awaits::Linger => return Poll::Ready(Some(Ending::Done)),
            Awaits::Write(_) => return Poll::Ready(Some(Ending::SlowReader)),
            Awaits::Head(_) => {
                self.count("slow-head");
                self.close(Code::None);
            }
            Awaits::Rest(_) => self.session.leave(),
            Awaits::Farewell => self.session.settle_farewell(),
            Awaits::Nothing => self.clock.since = now,
        }
        Poll::Ready(None)
    }

    fn awaits(&self) -> Awaits {
        match self.stage {
            Stage::Flushing | Stage::Lingering(_) => Awaits::Linger,
            Stage::Open if self.is_blocked => Awaits::Write(self.clock.written),
            Stage::Open if self.session.is_amid_head(&self.unread) => Awaits::Head(self.session.opened()),
            Stage::Open if !self.session.streams.is_empty() => Awaits::Nothing,
            Stage::Open if self.session.is_leaving() => Awaits::Farewell,
            Stage::Open if self.session.opened() == 0 => Awaits::Head(0),
            Stage::Open => Awaits::Rest(self.session.opened()),
        }
    }

    fn limit_of(&self, awaits: Awaits) -> Duration {
        let view = self.client.door.view();
        let limits = &view.config.limits;
        match awaits {
            Awaits::Head(_) => limits.head_timeout,
            Awaits::Rest(_) => limits.keep_alive,
            Awaits::Write(_) => limits.write_idle,
            Awaits::Farewell | Awaits::Linger => LINGER,
            Awaits::Nothing => SLEEP_MAX,
        }
    }

    /// Gives up the streams whose clients have taken nothing for too long. A stream that waits for the connection's
    /// window waits for its turn: what counts is that the client grants anything.
    fn reset_stalled(&mut self, now: Instant) {
        let limit = self.client.door.view().config.limits.write_idle;
        let (mut late, mut next) = (Vec::new(), None);
        for (slot, stream) in self.session.streams.iter_mut() {
            let Some(stalled) = stream.work.stalled else { continue };
            let since = if stream.window.open() > 0 { stalled.max(self.granted) } else { stalled };
            let due = since + limit;
            if due <= now {
                late.push(slot);
            } else {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
            }
        }
        self.clock.stalled = next;
        for slot in late {
            self.count("slow-reader");
            self.session.reset(slot, Code::Cancel);
        }
    }

    fn count(&self, reason: &'static str) {
        if let Some(counter) = self.client.door.listener(|own| own.handles.refusal(reason)) {
            self.local.cells.inc(counter);
        }
    }
}

impl Clock {
    /// The time, once it is `due`.
    fn poll(&mut self, cx: &mut Context<'_>, local: &Local, due: Instant) -> Poll<Instant> {
        loop {
            // One that rings too early is set again; most never ring.
            if let Some((alarm, at)) = &self.alarm
                && *at <= due
            {
                ready!(alarm.poll_elapsed(cx));
            }
            let now = local.timers.now();
            if now >= due {
                self.alarm = None;
                return Poll::Ready(now);
            }
            let alarm = local.timers.deadline(due - now);
            let _ = alarm.poll_elapsed(cx);
            self.alarm = Some((alarm, due));
        }
    }
}

/// What comes next of a response's body.
enum Piece {
    /// Data, which stand in [`Sending::rest`].
    Data,
    /// The end, and perhaps trailers.
    End(Option<HeaderMap>),
    /// It broke off, or is not as long as announced.
    Cut,
}

impl Sending {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        loop {
            let trailers = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(_)) => return Poll::Ready(Piece::Cut),
                None => None,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => return Poll::Ready(self.took(data)),
                    Err(frame) => frame.into_trailers().ok(),
                },
            };
            let end = Piece::End(trailers);
            return Poll::Ready(if self.is_whole() { end } else { Piece::Cut });
        }
    }

    fn took(&mut self, data: Bytes) -> Piece {
        if let Some(left) = self.left {
            // More than was announced: the client would take it for a mistake of its own.
            let Some(left) = left.checked_sub(data.len() as u64) else { return Piece::Cut };
            self.left = Some(left);
        }
        self.rest = data;
        Piece::Data
    }

    fn is_whole(&self) -> bool {
        self.left.is_none_or(|left| left == 0)
    }
}

fn enqueue(session: &mut Session<Work>, queue: &mut VecDeque<Slot>, slot: Slot) {
    if let Some(stream) = session.streams.get(slot)
        && !std::mem::replace(&mut stream.work.is_queued, true)
    {
        queue.push_back(slot);
    }
}
