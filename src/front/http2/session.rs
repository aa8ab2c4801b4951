//! What a connection of HTTP/2 knows, and what follows from a frame: RFC 9113 without a socket.
//!
//! Pure: bytes and time come in, events and frames go out. Its owner works on requests (`T`, one for each stream), and
//! says here what is to be sent. Errors of a stream are settled here; one of the connection is returned, and then
//! [`Session::fail`] has the last word.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::answer::Written;
use crate::config::Limits;
use crate::fields::{self, Field, Fields, Known, RequestHead};
use crate::front::http2::budget::Budget;
use crate::front::http2::flow::{self, ReceiveWindow, SendWindow};
use crate::front::http2::frame::{
    self, CONTINUATION, Code, END_STREAM, Fault, Frame, HEADER_BYTES, HEADERS, Header, MAX_31_BITS,
    PAYLOAD_BYTES_MAX,
};
use crate::front::http2::head::{Asked, BadHead, Head, Trailers};
use crate::front::http2::outbox::Outbox;
use crate::front::http2::settings::{self, Settings};
use crate::front::http2::streams::{Closed, Slot, Standing, Stream, Streams};
use crate::hpack::{Decoder, Encoder};

/// What a client may send of one body before somebody reads it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same, of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// CONTINUATION frames of one field block, at least: most blocks have none, and whoever cuts one into pieces of a
/// kilobyte is still served. More are allowed where so large a list needs them.
const CONTINUATIONS: usize = 32;
/// RFC 7541 section 4.2: what the client's table may be, as it is without a word.
const TABLE_BYTES: usize = 4096;
/// Bytes of frames that answer the client's; beyond, it is not read until it has taken some.
const REPLIES_MAX: usize = super::outbox::FULL_BYTES + 16 * 1024;
/// How long a client may go on with a request that has been answered: what it sends is bounded by its window.
const STOP_AFTER: Duration = Duration::from_secs(1);
/// So many of those at once; beyond, the oldest is told to stop before its time.
const UNFINISHED_MAX: usize = 128;
/// What we ask to know when the client has heard that we go (RFC 9113 section 6.8).
const FAREWELL_PING: [u8; 8] = *b"farewell";

/// The limits of `[limits]` that a session holds its client to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Streams at once.
    streams: usize,
    /// Requests that came to nothing through the client's doing, beyond the responses that went out whole.
    resets: usize,
    /// Bytes of fields, as RFC 9113 section 6.5.2 counts them.
    list: usize,
    /// Fields of trailers.
    fields: usize,
}

/// What a frame comes to, beside what is settled already.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once: a request is the usual case")]
pub enum Event<'a> {
    /// Nothing more.
    Settled,
    /// A request, on a stream that is open from now on.
    Request {
        /// Where the stream is kept.
        slot: Slot,
        /// What it asks for.
        head: RequestHead,
        /// Bytes of its body, if they were announced.
        length: Option<u64>,
        /// There is no body.
        is_ended: bool,
    },
    /// The same, whose head is too large to be one; this is the answer to it.
    Refused(Slot, StatusCode),
    /// A part of a request's body; whether it is the last.
    Data(Slot, &'a [u8], Part),
    /// The end of a body, and what follows it.
    Trailers(Slot, HeaderMap),
    /// A stream may send more.
    Grown(Slot),
    /// All streams may.
    AllGrown,
}

/// Which part of a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// More is to come.
    More,
    /// The body is whole.
    Last,
}

/// What comes behind what is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// More of the response.
    More,
    /// Nothing: it is whole.
    End,
}

/// A connection.
pub struct Session<T> {
    /// Those whose response has not ended.
    pub streams: Streams<T>,
    /// What is to be written.
    pub out: Outbox,
    rules: Rules,
    budget: Budget,
    peer: Settings,
    decoder: Decoder,
    encoder: Encoder,
    /// What the client takes, of all streams together.
    window: SendWindow,
    /// What it may send.
    inbound: ReceiveWindow,
    /// A field block that has begun and not ended.
    block: Option<Block>,
    has_greeted: bool,
    /// Streams that were opened.
    opened: u64,
    /// Requests that came to nothing through the client's doing, less the responses that went out whole.
    resets: usize,
    /// The highest stream that was acted upon.
    processed: u32,
    farewell: Farewell,
    /// Streams that we have ended and the client has not, and when it is told not to go on.
    unfinished: VecDeque<(u32, Instant)>,
    /// When it was last looked at the clock.
    now: Instant,
    /// It has said that it opens no more streams.
    client_leaves: bool,
}

/// How far we are with going (RFC 9113 section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// We stay.
    None,
    /// It is said that we go. What the client sends before it hears of that is still served.
    Announced {
        /// Streams that the client had opened until then.
        opened: u64,
    },
    /// It is said which stream is the last.
    Said,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    ends_stream: bool,
    depends_on_itself: bool,
    continuations: usize,
}

impl Rules {
    /// Those of a configuration.
    pub fn new(limits: &Limits) -> Self {
        Rules {
            streams: limits.http2_streams as usize,
            resets: limits.http2_resets,
            list: limits.http2_header_list as usize,
            fields: limits.headers,
        }
    }

    /// Bytes of a block: of one that is larger than the list of its fields may be, enough is read to say so.
    fn block_bytes(&self) -> usize {
        2 * self.list + PAYLOAD_BYTES_MAX
    }

    fn continuations(&self) -> usize {
        CONTINUATIONS.max(self.block_bytes() / PAYLOAD_BYTES_MAX * 5 / 4)
    }
}

impl<T: Default> Session<T> {
    /// Behind the client's preface. Our settings go out first (RFC 9113 section 3.4).
    pub fn new(rules: Rules, now: Instant) -> Self {
        let mut out = Outbox::default();
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        out.text(|text| {
            let ours = [
                (settings::MAX_CONCURRENT_STREAMS, word(rules.streams)),
                (settings::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                (settings::MAX_HEADER_LIST_SIZE, word(rules.list)),
            ];
            frame::put_settings(text, &ours);
            frame::put_grant(text, 0, CONNECTION_WINDOW - flow::INITIAL);
        });
        Session {
            streams: Streams::new(),
            out,
            rules,
            budget: Budget::new(),
            peer: Settings::default(),
            decoder: Decoder::new(TABLE_BYTES),
            encoder: Encoder::new(),
            window: SendWindow::new(flow::INITIAL),
            inbound: ReceiveWindow::new(CONNECTION_WINDOW),
            block: None,
            has_greeted: false,
            opened: 0,
            resets: 0,
            processed: 0,
            farewell: Farewell::None,
            unfinished: VecDeque::new(),
            now,
            client_leaves: false,
        }
    }

    /// Time has passed: some of what the client may cost comes back, and who still sends for what has been answered
    /// is told to stop.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        self.budget.refill(now);
        while self.unfinished.front().is_some_and(|(_, due)| *due <= now) {
            self.stop_oldest();
        }
    }

    /// When the next client is told to stop.
    pub fn due(&self) -> Option<Instant> {
        self.unfinished.front().map(|(_, due)| *due)
    }

    /// So many bytes have been written.
    pub fn wrote(&mut self, bytes: usize) {
        self.out.advance(bytes);
        self.budget.sent(bytes);
    }

    /// False while the client must take some of what waits for it before it is heard again.
    pub fn may_read(&self) -> bool {
        self.out.len() < REPLIES_MAX
    }

    /// Streams that were opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// True while some of a head has come, and not all. `unread` is what no frame was made of yet.
    pub fn is_amid_head(&self, unread: &[u8]) -> bool {
        self.block.is_some() || Header::parse(unread).is_some_and(|header| header.kind == HEADERS)
    }

    /// True when nothing more is to come of the connection.
    pub fn is_over(&self) -> bool {
        (self.farewell == Farewell::Said || self.client_leaves) && self.streams.is_empty()
    }

    /// The next frame of `bytes`: how long it is, and what it comes to. `None` when it is not all there.
    ///
    /// # Errors
    /// The client has broken a rule of the connection.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(usize, Event<'a>)>, Code> {
        let Some(header) = Header::parse(bytes) else { return Ok(None) };
        self.may_come(&header)?;
        let end = HEADER_BYTES + header.length;
        let Some(payload) = bytes.get(HEADER_BYTES..end) else { return Ok(None) };
        self.has_greeted = true;
        self.budget.pay_for(&header)?;
        match Frame::parse(&header, payload).and_then(|frame| self.receive(&header, frame)) {
            Ok(event) => Ok(Some((end, event))),
            Err(Fault::Connection(code)) => Err(code),
            Err(Fault::Stream(id, code)) => self.fault(id, code).map(|()| Some((end, Event::Settled))),
        }
    }

    /// What is clear from the header alone.
    fn may_come(&self, header: &Header) -> Result<(), Code> {
        // Section 3.4: the preface ends with SETTINGS.
        let is_greeting = header.kind == frame::SETTINGS && !header.has(frame::ACK);
        if !self.has_greeted && !is_greeting {
            return Err(Code::Protocol);
        }
        // Section 4.3: nothing stands between the frames of a block.
        let goes_on = header.kind == CONTINUATION;
        let is_in_order = match &self.block {
            Some(block) => goes_on && header.stream == block.stream,
            None => !goes_on,
        };
        if !is_in_order {
            return Err(Code::Protocol);
        }
        header.check().map_err(|fault| match fault {
            Fault::Connection(code) | Fault::Stream(_, code) => code,
        })
    }

    fn receive<'a>(&mut self, header: &Header, frame: Frame<'a>) -> Result<Event<'a>, Fault> {
        match frame {
            Frame::Data { data, ends_stream } => return self.data_came(header, data, ends_stream),
            Frame::Headers { block, ends_stream, ends_block, depends_on_itself } => {
                // Section 5.1.1: the client's streams are odd.
                if header.stream.is_multiple_of(2) {
                    return Err(Fault::Connection(Code::Protocol));
                }
                if ends_block {
                    return self.block_came(header.stream, block, ends_stream, depends_on_itself);
                }
                let bytes = block.to_vec();
                let stream = header.stream;
                self.block = Some(Block { stream, bytes, ends_stream, depends_on_itself, continuations: 0 });
            }
            Frame::Continuation { block, ends_block } => return self.block_goes_on(block, ends_block),
            Frame::Priority { depends_on_itself: true } => {
                return Err(Fault::Stream(header.stream, Code::Protocol));
            }
            Frame::Reset => self.reset_came(header.stream)?,
            Frame::Settings(payload) => return self.settings_came(payload).map_err(Fault::Connection),
            Frame::Ping(payload) => {
                self.out.text(|text| frame::put(text, frame::PING, frame::ACK, 0, &payload));
            }
            Frame::Pong(FAREWELL_PING) if self.is_leaving() => self.settle_farewell(),
            Frame::GoAway => self.client_leaves = true,
            Frame::WindowUpdate(bytes) => return self.window_grows(header.stream, bytes),
            // Priorities are not kept (RFC 9113 section 5.3.2).
            Frame::Priority { .. } | Frame::SettingsAck | Frame::Pong(_) | Frame::Unknown => {}
        }
        Ok(Event::Settled)
    }

    // RFC 9113 section 5.1, DATA on a stream that is: open, taken; half-closed by the client, an error of the stream;
    // closed after the client's end, of the connection; closed by the client's reset, of the stream; closed by our
    // reset, ignored; idle, of the connection. The connection's window counts it in any case (section 6.9).
    fn data_came<'a>(&mut self, header: &Header, data: &'a [u8], is_last: bool) -> Result<Event<'a>, Fault> {
        let length = header.length;
        self.inbound.received(length).map_err(Fault::Connection)?;
        let slot = match self.streams.standing(header.stream) {
            Standing::Open(slot) => slot,
            Standing::Idle => return Err(Fault::Connection(Code::Protocol)),
            Standing::Closed(Closed::Ended) | Standing::Skipped => {
                return Err(Fault::Connection(Code::StreamClosed));
            }
            Standing::Closed(Closed::Reset) => {
                self.discarded(length);
                return Err(Fault::Stream(header.stream, Code::StreamClosed));
            }
            Standing::Closed(Closed::Cut) | Standing::Forgotten => {
                self.discarded(length);
                if is_last {
                    self.finished(header.stream, Closed::Ended);
                }
                return Ok(Event::Settled);
            }
        };
        let Some(stream) = self.streams.get(slot) else { return Ok(Event::Settled) };
        let fits = if stream.is_ended { Err(Code::StreamClosed) } else { stream.inbound.received(length) };
        if let Err(code) = fits {
            self.discarded(length);
            return Err(Fault::Stream(header.stream, code));
        }
        stream.is_ended = is_last;
        // Section 8.1.1.
        let left = stream.expected.map(|expected| expected.checked_sub(data.len() as u64));
        match left {
            Some(None) => return Err(Fault::Stream(header.stream, Code::Protocol)),
            Some(Some(1..)) if is_last => return Err(Fault::Stream(header.stream, Code::Protocol)),
            Some(left) => stream.expected = left,
            None => {}
        }
        if length > 0 && data.is_empty() && !is_last {
            self.budget.pay_for_padding().map_err(Fault::Connection)?;
        }
        self.taken(slot, length - data.len());
        Ok(Event::Data(slot, data, if is_last { Part::Last } else { Part::More }))
    }

    fn block_goes_on<'a>(&mut self, bytes: &[u8], ends_block: bool) -> Result<Event<'a>, Fault> {
        let Some(mut block) = self.block.take() else { return Err(Fault::Connection(Code::Protocol)) };
        block.continuations += 1;
        block.bytes.extend_from_slice(bytes);
        let is_too_much =
            block.bytes.len() > self.rules.block_bytes() || block.continuations > self.rules.continuations();
        if is_too_much {
            return Err(Fault::Connection(Code::EnhanceYourCalm));
        }
        if !ends_block {
            self.block = Some(block);
            return Ok(Event::Settled);
        }
        self.block_came(block.stream, &block.bytes, block.ends_stream, block.depends_on_itself)
    }

    // RFC 9113 section 5.1, a field block on a stream that is: idle, a request; open, trailers; half-closed by the client, an
    // error of the stream; closed by the client, of the connection; closed by our reset, ignored. In any case it is
    // decoded (section 4.3), so that both sides have the same table.
    fn block_came<'a>(
        &mut self,
        id: u32,
        block: &[u8],
        ends_stream: bool,
        depends_on_itself: bool,
    ) -> Result<Event<'a>, Fault> {
        match self.streams.standing(id) {
            Standing::Idle if self.takes_streams() => {
                let mut head = Head::new(self.rules.list);
                self.decode(block, |field| head.take(field))?;
                // RFC 7540 section 5.3.1.
                let asked = if depends_on_itself { Err(BadHead::Malformed) } else { head.finish() };
                self.request_came(id, asked, ends_stream)
            }
            Standing::Idle => {
                self.decode(block, |_| ())?;
                if self.farewell != Farewell::Said {
                    self.processed = id;
                    self.out.text(|text| frame::put_reset(text, id, Code::RefusedStream));
                }
                self.streams.pass_over(id, closed_by_us(ends_stream));
                Ok(Event::Settled)
            }
            Standing::Open(slot) if self.streams.get(slot).is_some_and(|stream| !stream.is_ended) => {
                let mut trailers = Trailers::new(self.rules.list);
                self.decode(block, |field| trailers.take(field))?;
                // Section 8.1: nothing comes behind them.
                if !ends_stream || depends_on_itself {
                    return Err(Fault::Stream(id, Code::Protocol));
                }
                let trailers = trailers.finish(self.rules.fields).map_err(|bad| match bad {
                    BadHead::Malformed => Fault::Stream(id, Code::Protocol),
                    BadHead::TooLarge(_) => Fault::Stream(id, Code::EnhanceYourCalm),
                    BadHead::Bomb => Fault::Connection(Code::EnhanceYourCalm),
                })?;
                self.trailers_came(id, slot, trailers)
            }
            Standing::Open(_) => {
                self.decode(block, |_| ())?;
                Err(Fault::Stream(id, Code::StreamClosed))
            }
            Standing::Closed(Closed::Ended | Closed::Reset) => Err(Fault::Connection(Code::StreamClosed)),
            Standing::Skipped => Err(Fault::Connection(Code::Protocol)),
            Standing::Closed(Closed::Cut) | Standing::Forgotten => {
                self.decode(block, |_| ())?;
                if ends_stream {
                    self.finished(id, Closed::Ended);
                }
                Ok(Event::Settled)
            }
        }
    }

    fn decode(&mut self, block: &[u8], field: impl FnMut(&crate::hpack::Field<'_>)) -> Result<(), Fault> {
        self.decoder.decode(block, field).map_err(|_| Fault::Connection(Code::Compression))
    }

    fn takes_streams(&self) -> bool {
        self.farewell != Farewell::Said && self.streams.len() < self.rules.streams
    }

    fn request_came<'a>(
        &mut self,
        id: u32,
        asked: Result<Asked, BadHead>,
        is_ended: bool,
    ) -> Result<Event<'a>, Fault> {
        self.processed = id;
        self.opened += 1;
        // Section 8.1.1.
        let is_short = |asked: &Asked| is_ended && asked.length.is_some_and(|length| length > 0);
        match asked {
            Err(BadHead::Bomb) => Err(Fault::Connection(Code::EnhanceYourCalm)),
            Ok(asked) if !is_short(&asked) => {
                let length = asked.length.filter(|_| !is_ended);
                let slot = self.open(id, length, is_ended);
                Ok(Event::Request { slot, head: asked.head, length, is_ended })
            }
            Err(BadHead::TooLarge(status)) => {
                let slot = self.open(id, None, is_ended);
                Ok(Event::Refused(slot, status))
            }
            Ok(_) | Err(BadHead::Malformed) => {
                self.streams.pass_over(id, closed_by_us(is_ended));
                self.out.text(|text| frame::put_reset(text, id, Code::Protocol));
                self.blame().map_err(Fault::Connection)?;
                Ok(Event::Settled)
            }
        }
    }

    fn trailers_came<'a>(&mut self, id: u32, slot: Slot, trailers: HeaderMap) -> Result<Event<'a>, Fault> {
        let Some(stream) = self.streams.get(slot) else { return Ok(Event::Settled) };
        stream.is_ended = true;
        if stream.expected.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        Ok(Event::Trailers(slot, trailers))
    }

    fn reset_came(&mut self, id: u32) -> Result<(), Fault> {
        match self.streams.standing(id) {
            Standing::Idle => Err(Fault::Connection(Code::Protocol)),
            Standing::Open(slot) => {
                // CVE-2023-44487: nobody has begun to work for it, so this costs its client nothing but bytes.
                let was_taken_up = self.streams.get(slot).is_some_and(|stream| stream.is_taken_up);
                self.close(slot, Closed::Reset);
                if was_taken_up { Ok(()) } else { self.blame().map_err(Fault::Connection) }
            }
            Standing::Closed(Closed::Cut) => {
                self.finished(id, Closed::Reset);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn settings_came<'a>(&mut self, payload: &[u8]) -> Result<Event<'a>, Code> {
        let peer = self.peer.changed_by(payload)?;
        self.out.text(|text| frame::put(text, frame::SETTINGS, frame::ACK, 0, &[]));
        settings::table_sizes(payload).for_each(|size| self.encoder.resize(size));
        // Section 6.9.2: the connection's own window is not meant.
        let growth = i64::from(peer.window) - i64::from(self.peer.window);
        self.peer = peer;
        if growth == 0 {
            return Ok(Event::Settled);
        }
        for (_, stream) in self.streams.iter_mut() {
            stream.window.grow(growth)?;
        }
        Ok(Event::AllGrown)
    }

    fn window_grows<'a>(&mut self, id: u32, bytes: u32) -> Result<Event<'a>, Fault> {
        let growth = i64::from(bytes);
        if id == 0 {
            if bytes == 0 {
                return Err(Fault::Connection(Code::Protocol));
            }
            self.window.grow(growth).map_err(Fault::Connection)?;
            return Ok(Event::AllGrown);
        }
        let slot = match self.streams.standing(id) {
            Standing::Open(slot) => slot,
            Standing::Idle => return Err(Fault::Connection(Code::Protocol)),
            _ => return Ok(Event::Settled),
        };
        let Some(stream) = self.streams.get(slot) else { return Ok(Event::Settled) };
        if bytes == 0 {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        stream.window.grow(growth).map_err(|code| Fault::Stream(id, code))?;
        Ok(Event::Grown(slot))
    }

    /// The client has spoilt a stream. Whoever makes us reset many makes us work in vain (CVE-2025-8671).
    fn fault(&mut self, id: u32, code: Code) -> Result<(), Code> {
        match self.streams.standing(id) {
            // Section 6.4: RST_STREAM is not for what is idle.
            Standing::Idle => return Err(code),
            Standing::Open(slot) => self.reset(slot, code),
            _ => self.out.text(|text| frame::put_reset(text, id, code)),
        }
        self.blame()
    }

    fn blame(&mut self) -> Result<(), Code> {
        self.resets += 1;
        if self.resets > self.rules.resets { Err(Code::EnhanceYourCalm) } else { Ok(()) }
    }

    fn stop_oldest(&mut self) {
        if let Some((id, _)) = self.unfinished.pop_front() {
            self.out.text(|text| frame::put_reset(text, id, Code::None));
        }
    }

    /// The client has ended a stream that we have ended before.
    fn finished(&mut self, id: u32, how: Closed) {
        self.streams.amend(id, how);
        self.unfinished.retain(|(unfinished, _)| *unfinished != id);
    }

    fn close(&mut self, slot: Slot, how: Closed) {
        let Some(stream) = self.streams.get(slot) else { return };
        let how = if stream.is_ended { Closed::Ended } else { how };
        // What nobody will read any more.
        let unread = stream.inbound.waiting();
        self.streams.close(slot, how);
        self.discarded(unread);
    }

    /// So many bytes wait no longer, of whichever stream.
    fn discarded(&mut self, bytes: usize) {
        self.inbound.taken(bytes);
        if let Some(bytes) = self.inbound.give_back() {
            self.out.text(|text| frame::put_grant(text, 0, bytes));
        }
    }
}

/// What its owner says.
impl<T: Default> Session<T> {
    /// Somebody works for the stream from now on.
    pub fn took_up(&mut self, slot: Slot) {
        if let Some(stream) = self.streams.get(slot) {
            stream.is_taken_up = true;
        }
    }

    /// So many bytes of a body have been read.
    pub fn taken(&mut self, slot: Slot, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some(stream) = self.streams.get(slot) {
            stream.inbound.taken(bytes);
            // Whoever has sent all of it needs no more.
            if !stream.is_ended
                && let Some(bytes) = stream.inbound.give_back()
            {
                let id = stream.id;
                self.out.text(|text| frame::put_grant(text, id, bytes));
            }
            self.discarded(bytes);
        }
    }

    /// So many bytes of a body will be read by nobody. The client may send as much less of it, and of others as much as
    /// before.
    pub fn left_unread(&mut self, slot: Slot, bytes: usize) {
        if let Some(stream) = self.streams.get(slot) {
            stream.inbound.shrink(bytes);
            self.discarded(bytes);
        }
    }

    /// Sends a response's head; `length` is said where it has none of its own.
    pub fn respond(&mut self, slot: Slot, head: &Written, length: Option<u64>, then: Then) {
        let end = match then {
            Then::More => 0,
            Then::End => END_STREAM,
        };
        self.head(slot, head.status(), head.fields(), length, end);
        if then == Then::End {
            self.end(slot);
        }
    }

    /// Sends an interim response's head (RFC 9113 section 8.1).
    pub fn interim(&mut self, slot: Slot, status: StatusCode, fields: &Fields) {
        self.head(slot, status, fields.iter(), None, 0);
    }

    /// Bytes of a response's body that its client takes now.
    pub fn room(&mut self, slot: Slot) -> usize {
        let all = self.window.open();
        self.streams.get(slot).map_or(0, |stream| stream.window.open().min(all))
    }

    /// Sends a part of a response's body, no more than there is [`Session::room`] for.
    pub fn send(&mut self, slot: Slot, mut data: Bytes, then: Then) {
        let Some(stream) = self.streams.get(slot) else { return };
        stream.window.sent(data.len());
        self.window.sent(data.len());
        let id = stream.id;
        loop {
            let part = data.split_to(data.len().min(PAYLOAD_BYTES_MAX));
            let end = if then == Then::End && data.is_empty() { END_STREAM } else { 0 };
            self.out.text(|text| frame::put_header(text, part.len(), frame::DATA, end, id));
            self.out.data(part);
            if data.is_empty() {
                break;
            }
        }
        if then == Then::End {
            self.end(slot);
        }
    }

    /// Sends what follows a body: the response is whole.
    pub fn send_trailers(&mut self, slot: Slot, trailers: &HeaderMap) {
        let Some(stream) = self.streams.get(slot) else { return };
        let id = stream.id;
        let encoder = &mut self.encoder;
        self.out.text(|text| {
            put_fields(text, id, END_STREAM, |block| {
                encoder.begin(block);
                for (name, value) in trailers {
                    encoder.field(name, value.as_bytes(), block);
                }
            });
        });
        self.end(slot);
    }

    /// Gives a stream up. Nothing is held against its client.
    pub fn reset(&mut self, slot: Slot, code: Code) {
        let Some(stream) = self.streams.get(slot) else { return };
        let id = stream.id;
        self.out.text(|text| frame::put_reset(text, id, code));
        self.close(slot, Closed::Cut);
    }

    /// Says that we go: new streams are served until the client has heard it.
    pub fn leave(&mut self) {
        if self.farewell == Farewell::None {
            self.farewell = Farewell::Announced { opened: self.opened };
            self.out.text(|text| {
                frame::put_goaway(text, MAX_31_BITS, Code::None);
                frame::put(text, frame::PING, 0, 0, &FAREWELL_PING);
            });
        }
    }

    /// True while it is open which stream will be the last.
    pub fn is_leaving(&self) -> bool {
        matches!(self.farewell, Farewell::Announced { .. })
    }

    /// True when the client, told that we go, has opened more streams than can have been on their way: it does not listen.
    pub fn is_unheard(&self) -> bool {
        let on_their_way = self.rules.streams as u64;
        matches!(self.farewell, Farewell::Announced { opened } if self.opened > opened.saturating_add(on_their_way))
    }

    /// Says which stream was the last.
    pub fn settle_farewell(&mut self) {
        if self.farewell != Farewell::Said {
            self.farewell = Farewell::Said;
            let last = self.processed;
            self.out.text(|text| frame::put_goaway(text, last, Code::None));
        }
    }

    /// The last word: nothing is done any more for any stream, and nothing is read.
    pub fn fail(&mut self, code: Code) {
        let last = self.processed;
        self.out.text(|text| frame::put_goaway(text, last, code));
        (self.streams, self.farewell) = (Streams::new(), Farewell::Said);
    }

    /// Gives back what memory it can, at rest.
    pub fn shrink(&mut self) {
        self.out.shrink();
        self.streams.shrink();
    }

    /// True when it has none to give back.
    pub fn is_shrunk(&self) -> bool {
        self.out.is_shrunk() && self.streams.is_shrunk()
    }

    fn open(&mut self, id: u32, expected: Option<u64>, is_ended: bool) -> Slot {
        self.streams.open(Stream {
            id,
            is_ended,
            is_taken_up: false,
            window: SendWindow::new(self.peer.window),
            inbound: ReceiveWindow::new(STREAM_WINDOW),
            expected,
            work: T::default(),
        })
    }

    fn head<'a>(
        &mut self,
        slot: Slot,
        status: StatusCode,
        fields: impl Iterator<Item = Field<'a>>,
        length: Option<u64>,
        end: u8,
    ) {
        let Some(stream) = self.streams.get(slot) else { return };
        let id = stream.id;
        let encoder = &mut self.encoder;
        self.out.text(|text| {
            put_fields(text, id, end, |block| {
                encoder.begin(block);
                encoder.status(status, block);
                for field in fields.filter(|field| !field.known().is_connection_specific()) {
                    encoder.field(field.called(), field.value(), block);
                }
                if let Some(length) = length {
                    let mut digits = Vec::new();
                    fields::digits(&mut digits, length, 1);
                    encoder.field(Known::ContentLength, &digits, block);
                }
            });
        });
    }

    /// The response is whole. A client that has not sent all of its request need not, and is told so (section 8.1), but
    /// not at once: some lose the response when the reset comes with it (curl 7.88).
    fn end(&mut self, slot: Slot) {
        self.budget.answered();
        self.resets = self.resets.saturating_sub(1);
        let Some(stream) = self.streams.get(slot) else { return };
        if !stream.is_ended {
            let id = stream.id;
            if self.unfinished.len() == UNFINISHED_MAX {
                self.stop_oldest();
            }
            self.unfinished.push_back((id, self.now + STOP_AFTER));
        }
        self.close(slot, Closed::Cut);
    }
}

/// Writes a field block in frames. Nearly always one holds it: then it is written in its place.
fn put_fields(out: &mut Vec<u8>, stream: u32, end: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    frame::put_header(out, 0, HEADERS, end | frame::END_HEADERS, stream);
    write(out);
    let length = out.len() - begin - HEADER_BYTES;
    if length > PAYLOAD_BYTES_MAX {
        let block = out.split_off(begin + HEADER_BYTES);
        out.truncate(begin);
        return frame::put_block(out, stream, &block, end);
    }
    let [.., a, b, c] = length.to_be_bytes();
    out[begin..begin + 3].copy_from_slice(&[a, b, c]);
}

fn closed_by_us(is_ended: bool) -> Closed {
    if is_ended { Closed::Ended } else { Closed::Cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::http2::frame::{DATA, END_HEADERS, GOAWAY, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};

    /// GET / of http://test, by the static table and literals (RFC 7541 section 6).
    const GET: &[u8] = b"\x82\x86\x84\x01\x04test";
    const POST: &[u8] = b"\x83\x86\x84\x01\x04test";
    const WHOLE: u8 = END_HEADERS | END_STREAM;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put(&mut out, kind, flags, stream, payload);
        out
    }

    /// Of a client that has said hello; what it was told is forgotten.
    fn greeted(limits: &Limits) -> Session<()> {
        let mut session = Session::new(Rules::new(limits), Instant::now());
        receive(&mut session, &frame(SETTINGS, 0, 0, b"")).unwrap();
        said(&mut session);
        session
    }

    /// The slots of the requests that begin.
    fn receive(session: &mut Session<()>, mut bytes: &[u8]) -> Result<Vec<Slot>, Code> {
        let mut slots = Vec::new();
        while let Some((length, event)) = session.next(bytes)? {
            if let Event::Request { slot, .. } = event {
                slots.push(slot);
            }
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty());
        Ok(slots)
    }

    /// Kind, flags, stream and payload of each frame that waits.
    fn said(session: &mut Session<()>) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut bytes = Vec::new();
        while !session.out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); super::super::outbox::SLICES_MAX];
            let count = session.out.slices(&mut slices);
            let some: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            session.wrote(some.len());
            bytes.extend(some);
        }
        let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
        while let Some(header) = Header::parse(rest) {
            let (frame, after) = rest.split_at(HEADER_BYTES + header.length);
            frames.push((header.kind, header.flags, header.stream, frame[HEADER_BYTES..].to_vec()));
            rest = after;
        }
        frames
    }

    fn word(n: u32) -> Vec<u8> {
        n.to_be_bytes().to_vec()
    }

    fn ok() -> Written {
        Written::new(StatusCode::OK, None, 0)
    }

    #[test]
    fn our_settings_come_first() {
        let mut session: Session<()> = Session::new(Rules::new(&Limits::default()), Instant::now());
        let said = said(&mut session);
        assert_eq!((said[0].0, said[0].1), (SETTINGS, 0));
        let pairs: Vec<_> = frame::settings(&said[0].3).collect();
        assert_eq!(pairs, [(3, 128), (4, STREAM_WINDOW), (6, 32 << 10)]);
        assert_eq!(said[1], (WINDOW_UPDATE, 0, 0, word(CONNECTION_WINDOW - 65_535)));
    }

    #[test]
    fn a_farewell_serves_what_was_on_its_way_and_nothing_behind_it() {
        let mut session = greeted(&Limits::default());
        let first = receive(&mut session, &frame(HEADERS, WHOLE, 1, GET)).unwrap()[0];
        session.leave();
        session.leave();
        let farewell = [&word(MAX_31_BITS)[..], &word(0)].concat();
        let ping = (PING, 0, 0, FAREWELL_PING.to_vec());
        assert_eq!(said(&mut session), [(GOAWAY, 0, 0, farewell), ping]);

        let late = receive(&mut session, &frame(HEADERS, WHOLE, 3, GET)).unwrap()[0];
        receive(&mut session, &frame(PING, frame::ACK, 0, b"whatever")).unwrap();
        assert!(session.is_leaving(), "another ping");
        receive(&mut session, &frame(PING, frame::ACK, 0, &FAREWELL_PING)).unwrap();
        assert_eq!(said(&mut session), [(GOAWAY, 0, 0, [word(3), word(0)].concat())]);

        let behind = [frame(HEADERS, END_HEADERS, 5, POST), frame(DATA, END_STREAM, 5, b"x")].concat();
        assert_eq!(receive(&mut session, &behind), Ok(vec![]));
        assert_eq!(said(&mut session), []);
        for slot in [first, late] {
            assert!(!session.is_over());
            session.respond(slot, &ok(), None, Then::End);
        }
        assert!(session.is_over());
    }

    #[test]
    fn as_many_streams_as_may_be_open_at_once_can_be_on_their_way_when_a_farewell_is_said() {
        let mut session = greeted(&Limits { http2_streams: 2, ..Limits::default() });
        let mut open = |id| {
            let slot = receive(&mut session, &frame(HEADERS, WHOLE, id, GET)).unwrap()[0];
            session.respond(slot, &ok(), None, Then::End);
            if id == 3 {
                session.leave();
            }
            session.is_unheard()
        };
        assert_eq!([1, 3, 5, 7, 9].map(&mut open), [false, false, false, false, true]);
    }

    #[test]
    fn the_last_word_names_the_last_stream_that_was_acted_upon() {
        for (bytes, code, last) in [
            (frame(HEADERS, WHOLE, 9, b"\x80"), Code::Compression, 7),
            (frame(HEADERS, WHOLE, 9, b"\x82"), Code::EnhanceYourCalm, 9),
            (frame(PING, 0, 0, b""), Code::FrameSize, 7),
        ] {
            let mut session = greeted(&Limits { http2_resets: 0, ..Limits::default() });
            receive(&mut session, &frame(HEADERS, WHOLE, 7, GET)).unwrap();
            assert_eq!(receive(&mut session, &bytes), Err(code));
            session.fail(code);
            let payload = [word(last), word(u32::from(code as u8))].concat();
            assert_eq!(said(&mut session).pop(), Some((GOAWAY, 0, 0, payload)));
            assert!(session.is_over());
        }
    }

    #[test]
    fn requests_that_come_to_nothing_count_and_whole_responses_make_up_for_them() {
        let limits = Limits { http2_resets: 2, ..Limits::default() };
        let reset = |id| frame(RST_STREAM, 0, id, &word(8));
        let malformed = |id| frame(HEADERS, WHOLE, id, b"\x82");
        let early = |id| [frame(HEADERS, WHOLE, id, GET), reset(id)].concat();
        for bad in [&malformed as &dyn Fn(u32) -> Vec<u8>, &early] {
            let mut session = greeted(&limits);
            assert_eq!(receive(&mut session, &[bad(1), bad(3)].concat()).map(|_| ()), Ok(()));
            let slot = receive(&mut session, &frame(HEADERS, WHOLE, 5, GET)).unwrap()[0];
            session.respond(slot, &ok(), None, Then::End);
            assert_eq!(receive(&mut session, &bad(7)).map(|_| ()), Ok(()));
            assert_eq!(receive(&mut session, &bad(9)), Err(Code::EnhanceYourCalm));
        }
        // Once somebody works for it, it is the budget's business.
        let mut session = greeted(&limits);
        for id in [1, 3, 5, 7] {
            let slot = receive(&mut session, &frame(HEADERS, WHOLE, id, GET)).unwrap()[0];
            session.took_up(slot);
            receive(&mut session, &reset(id)).unwrap();
        }
    }

    #[test]
    fn what_is_read_or_left_is_granted_again_and_the_streams_own_only_what_is_read() {
        const FRAME: usize = 16_000;
        let data = |id| frame(DATA, 0, id, &[7; FRAME]);
        let mut session = greeted(&Limits::default());
        let slot = receive(&mut session, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap()[0];
        (0..16).for_each(|_| drop(receive(&mut session, &data(1)).unwrap()));
        assert_eq!(said(&mut session), []);
        session.taken(slot, 9 * FRAME);
        assert_eq!(said(&mut session), [(WINDOW_UPDATE, 0, 1, word(9 * FRAME as u32))]);

        // What a stream leaves behind, and what comes when it is over, counts for the connection alone.
        receive(&mut session, &frame(RST_STREAM, 0, 1, &word(8))).unwrap();
        let second = receive(&mut session, &frame(HEADERS, END_HEADERS, 3, POST)).unwrap()[0];
        (0..16).for_each(|_| drop(receive(&mut session, &data(3)).unwrap()));
        session.left_unread(second, 16 * FRAME);
        session.reset(second, Code::Cancel);
        (0..8).for_each(|_| drop(receive(&mut session, &data(3)).unwrap()));
        let granted: u32 = said(&mut session)
            .iter()
            .filter(|frame| frame.0 == WINDOW_UPDATE)
            .map(|frame| {
                assert_eq!(frame.2, 0);
                u32::from_be_bytes(frame.3[..].try_into().unwrap())
            })
            .sum();
        // All but less than half of the window.
        assert!(granted > 40 * FRAME as u32 - CONNECTION_WINDOW / 2, "{granted}");
        assert_eq!(session.inbound.waiting(), 0);
    }

    #[test]
    fn a_block_has_only_so_many_pieces_and_bytes() {
        let begin = frame(HEADERS, END_STREAM, 1, GET);
        let go_on = |payload: &[u8]| frame(CONTINUATION, 0, 1, payload);
        let mut session = greeted(&Limits::default());
        receive(&mut session, &[begin.clone(), go_on(b"").repeat(CONTINUATIONS)].concat()).unwrap();
        assert_eq!(receive(&mut session, &go_on(b"")), Err(Code::EnhanceYourCalm));

        let mut session = greeted(&Limits::default());
        receive(&mut session, &[begin, go_on(&[0x84; PAYLOAD_BYTES_MAX]).repeat(4)].concat()).unwrap();
        assert_eq!(receive(&mut session, &go_on(&[0x84; PAYLOAD_BYTES_MAX])), Err(Code::EnhanceYourCalm));
    }

    #[test]
    fn a_response_before_the_end_of_its_request_asks_for_no_more_of_it_in_its_time() {
        let mut session = greeted(&Limits::default());
        let slot = receive(&mut session, &frame(HEADERS, END_HEADERS, 1, POST)).unwrap()[0];
        session.interim(slot, StatusCode::EARLY_HINTS, &Fields::new());
        session.respond(slot, &ok(), Some(3), Then::More);
        session.send(slot, Bytes::from_static(b"abc"), Then::End);

        let shape: Vec<_> = said(&mut session).iter().map(|(kind, flags, ..)| (*kind, *flags)).collect();
        assert_eq!(shape, [(HEADERS, END_HEADERS), (HEADERS, END_HEADERS), (DATA, END_STREAM)]);
        // What was on its way is no mistake. Only who goes on is told to stop.
        receive(&mut session, &frame(DATA, 0, 1, b"x")).unwrap();
        let due = session.due().unwrap();
        session.tick(due - Duration::from_millis(1));
        assert_eq!(said(&mut session), []);
        session.tick(due);
        assert_eq!(said(&mut session), [(RST_STREAM, 0, 1, word(0))]);
        receive(&mut session, &frame(DATA, END_STREAM, 1, b"x")).unwrap();
        assert_eq!(receive(&mut session, &frame(DATA, 0, 1, b"x")), Err(Code::StreamClosed));
    }

    #[test]
    fn who_stops_in_time_is_not_told_to_and_of_too_many_the_oldest_is_told_at_once() {
        let mut session = greeted(&Limits::default());
        for (id, end) in [(1, frame(DATA, END_STREAM, 1, b"x")), (3, frame(RST_STREAM, 0, 3, &word(8)))] {
            let slot = receive(&mut session, &frame(HEADERS, END_HEADERS, id, POST)).unwrap()[0];
            session.respond(slot, &ok(), None, Then::End);
            receive(&mut session, &end).unwrap();
            assert_eq!(session.due(), None);
        }
        said(&mut session);
        for n in 0..=UNFINISHED_MAX as u32 {
            let slot = receive(&mut session, &frame(HEADERS, END_HEADERS, 2 * n + 5, POST)).unwrap()[0];
            session.respond(slot, &ok(), None, Then::End);
        }
        let resets: Vec<_> = said(&mut session).into_iter().filter(|frame| frame.0 == RST_STREAM).collect();
        assert_eq!(resets, [(RST_STREAM, 0, 5, word(0))]);
    }

    #[test]
    fn a_large_head_goes_out_in_several_frames() {
        let mut session = greeted(&Limits::default());
        let slot = receive(&mut session, &frame(HEADERS, WHOLE, 1, GET)).unwrap()[0];
        let mut head = ok();
        // In Huffman's code no shorter.
        head.put("x".into(), "\\".repeat(40_000).as_bytes());
        session.respond(slot, &head, None, Then::End);
        let shape: Vec<_> = said(&mut session).iter().map(|(kind, flags, ..)| (*kind, *flags)).collect();
        assert_eq!(shape, [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]);
    }
}
