//! Rules of RFC 9113 that h2 does not keep, or calls by another name.
//!
//! h2 has the last word on everything that is not here. What stands here is the client's own doing alone: it does not
//! depend on what we have sent meanwhile, so a frame that was under way when we reset its stream is never held against
//! it. Each is an error of the connection; where the RFC asks for one of the stream, section 5.4.1 leaves us the choice.

mod trailers;

use std::collections::VecDeque;

use trailers::{Padding, Part, Trailers};

/// RFC 9113 section 7: the codes that are ours to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A rule is broken for which there is no other word.
    Protocol = 0x1,
    /// More was sent or granted than windows hold.
    FlowControl = 0x3,
    /// Of a stream that has ended.
    StreamClosed = 0x5,
    /// A frame is not as long as its kind is.
    FrameSize = 0x6,
    /// More is asked for than is good for us.
    EnhanceYourCalm = 0xb,
}

// RFC 9113 section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
const HAS_PRIORITY: u8 = 0x20;

/// RFC 9113 sections 6.2 and 6.3.
const PRIORITY_BYTES: usize = 5;
/// RFC 9113 section 6.5.1: the bytes of one setting.
const SETTING_BYTES: usize = 6;
/// RFC 9113 section 6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// Streams whose end is remembered. As many as may be open by default; of an older one h2 decides alone.
const STREAMS_REMEMBERED: usize = 128;

/// A frame's header (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// What must be known of a connection's frames to tell what may come next.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    has_greeted: bool,
    last_stream: u32,
    /// The newest streams, oldest first, so in order.
    streams: VecDeque<Stream>,
    /// A field block has begun and not ended.
    is_in_block: bool,
    /// What the payload that comes is read for.
    reads: Reads,
    /// The beginning of that payload, or of the setting that comes.
    first: [u8; SETTING_BYTES],
    have: usize,
    /// The block of trailers that has begun.
    trailers: Option<Trailers>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    id: u32,
    state: State,
}

/// What the client has made of a stream (RFC 9113 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Reset,
}

#[derive(Debug, Clone, Copy, Default)]
enum Reads {
    #[default]
    Nothing,
    Settings,
    /// Whether the stream depends on itself, which stands behind so many bytes.
    Dependency {
        stream: u32,
        behind: usize,
    },
}

impl Header {
    pub fn parse(bytes: &[u8; 9]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        Header {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The reserved bit is ignored.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn has_allowed_length(&self) -> bool {
        match self.kind {
            PRIORITY => self.length == PRIORITY_BYTES,
            RST_STREAM | WINDOW_UPDATE => self.length == 4,
            SETTINGS if self.has(ACK) => self.length == 0,
            SETTINGS => self.length.is_multiple_of(SETTING_BYTES),
            PING => self.length == 8,
            GOAWAY => self.length >= 8,
            _ => true,
        }
    }
}

impl Padding {
    fn of(header: &Header) -> Self {
        if header.has(PADDED) { Padding::SaidFirst } else { Padding::None }
    }
}

impl Part {
    fn of(header: &Header) -> Self {
        if header.has(END_HEADERS) { Part::Last } else { Part::MoreToCome }
    }
}

impl Rules {
    /// The highest stream that the client has opened.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// A frame begins.
    ///
    /// # Errors
    /// It must not come, or not now.
    pub fn begins(&mut self, header: &Header) -> Result<(), Code> {
        (self.reads, self.have) = (Reads::Nothing, 0);
        // Section 3.4: the preface ends with SETTINGS.
        let is_greeting = header.kind == SETTINGS && !header.has(ACK);
        if !self.has_greeted && !is_greeting {
            return Err(Code::Protocol);
        }
        self.has_greeted = true;
        if !header.has_allowed_length() {
            return Err(Code::FrameSize);
        }
        // Section 4.3: nothing stands between the frames of a block. Of a block's streams, h2 takes care.
        if self.is_in_block && header.kind != CONTINUATION {
            return Err(Code::Protocol);
        }
        match header.kind {
            SETTINGS => self.reads = Reads::Settings,
            HEADERS => return self.begins_headers(header),
            CONTINUATION => return self.begins_continuation(header),
            DATA => self.begins_data(header)?,
            RST_STREAM => self.is_reset(header.stream),
            _ => {}
        }
        Ok(())
    }

    /// Bytes of the payload of the frame that began last.
    ///
    /// # Errors
    /// They say what no client may say.
    pub fn payload(&mut self, mut bytes: &[u8]) -> Result<(), Code> {
        if let Some(trailers) = &mut self.trailers
            && trailers.have_pseudo_fields(bytes)
        {
            return Err(Code::Protocol);
        }
        while !bytes.is_empty() && !matches!(self.reads, Reads::Nothing) {
            let taken = (SETTING_BYTES - self.have).min(bytes.len());
            self.first[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            self.look()?;
        }
        Ok(())
    }

    fn begins_headers(&mut self, header: &Header) -> Result<(), Code> {
        self.is_in_block = !header.has(END_HEADERS);
        self.trailers = None;
        if header.has(HAS_PRIORITY) {
            let behind = usize::from(header.has(PADDED));
            self.reads = Reads::Dependency { stream: header.stream, behind };
        }
        if header.stream > self.last_stream {
            self.opens(header);
            return Ok(());
        }
        if self.entry(header.stream).is_some_and(|stream| stream.state != State::Open) {
            return Err(Code::StreamClosed);
        }
        self.note_end(header);
        let priority = if header.has(HAS_PRIORITY) { PRIORITY_BYTES } else { 0 };
        let mut trailers = Trailers::default();
        trailers.frame(header.length, priority, Padding::of(header), Part::of(header));
        self.trailers = Some(trailers);
        Ok(())
    }

    fn begins_continuation(&mut self, header: &Header) -> Result<(), Code> {
        self.is_in_block &= !header.has(END_HEADERS);
        if let Some(trailers) = &mut self.trailers {
            trailers.frame(header.length, 0, Padding::None, Part::of(header));
        }
        // It may be empty, and the last.
        self.payload(&[])
    }

    /// DATA behind a reset is an error of the stream alone, and h2 says so itself.
    fn begins_data(&mut self, header: &Header) -> Result<(), Code> {
        if self.entry(header.stream).is_some_and(|stream| stream.state == State::Ended) {
            return Err(Code::StreamClosed);
        }
        self.note_end(header);
        Ok(())
    }

    fn opens(&mut self, header: &Header) {
        self.last_stream = header.stream;
        if self.streams.len() == STREAMS_REMEMBERED {
            self.streams.pop_front();
        }
        self.streams.push_back(Stream { id: header.stream, state: State::Open });
        self.note_end(header);
    }

    fn note_end(&mut self, header: &Header) {
        if header.has(END_STREAM)
            && let Some(stream) = self.entry(header.stream)
        {
            stream.state = State::Ended;
        }
    }

    fn is_reset(&mut self, id: u32) {
        if let Some(stream) = self.entry(id).filter(|stream| stream.state == State::Open) {
            stream.state = State::Reset;
        }
    }

    fn entry(&mut self, id: u32) -> Option<&mut Stream> {
        let place = self.streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.streams.get_mut(place)
    }

    /// What has been read, if it is enough.
    fn look(&mut self) -> Result<(), Code> {
        match self.reads {
            Reads::Settings if self.have == SETTING_BYTES => {
                self.have = 0;
                let [a, b, c, d, e, f] = self.first;
                let (id, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
                if id == INITIAL_WINDOW_SIZE && value > WINDOW_MAX {
                    return Err(Code::FlowControl);
                }
            }
            Reads::Dependency { stream, behind } if self.have >= behind + 4 => {
                self.reads = Reads::Nothing;
                let [a, b, c, d] = [0, 1, 2, 3].map(|at| self.first[behind + at]);
                // h2 would reset the stream, but not decode the block that it begins with: from then on, its
                // table is not the client's.
                if u32::from_be_bytes([a & 0x7f, b, c, d]) == stream {
                    return Err(Code::Protocol);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(stream: u32, kind: u8, flags: u8, length: usize) -> Header {
        Header { length, kind, flags, stream }
    }

    /// Of a client that has said hello.
    fn greeted() -> Rules {
        let mut rules = Rules::default();
        rules.begins(&header(0, SETTINGS, 0, 0)).unwrap();
        rules
    }

    fn begin(rules: &mut Rules, frames: &[(u32, u8, u8)]) -> Result<(), Code> {
        frames.iter().try_for_each(|&(stream, kind, flags)| {
            let length = if kind == RST_STREAM || kind == WINDOW_UPDATE { 4 } else { 0 };
            rules.begins(&header(stream, kind, flags, length))
        })
    }

    #[test]
    fn settings_come_first() {
        assert_eq!(Rules::default().begins(&header(0, PING, 0, 8)), Err(Code::Protocol));
        assert_eq!(Rules::default().begins(&header(0, SETTINGS, ACK, 0)), Err(Code::Protocol));
        assert_eq!(Rules::default().begins(&header(0, SETTINGS, 0, 1)), Err(Code::FrameSize));
        assert_eq!(Rules::default().begins(&header(0, SETTINGS, 0, 6)), Ok(()));
    }

    #[test]
    fn what_is_ended_goes_on_no_more() {
        const ENDS: u8 = END_STREAM | END_HEADERS;
        let closed = Err(Code::StreamClosed);
        for (name, frames, expected) in [
            ("a body", &[(1, HEADERS, END_HEADERS), (1, DATA, 0), (1, DATA, END_STREAM)][..], Ok(())),
            ("trailers", &[(1, HEADERS, END_HEADERS), (1, DATA, 0), (1, HEADERS, ENDS)], Ok(())),
            ("data behind the end", &[(1, HEADERS, ENDS), (1, DATA, 0)], closed),
            (
                "the end twice",
                &[(1, HEADERS, END_HEADERS), (1, DATA, END_STREAM), (1, DATA, END_STREAM)],
                closed,
            ),
            ("a head behind the end", &[(1, HEADERS, ENDS), (1, HEADERS, ENDS)], closed),
            ("data behind trailers", &[(1, HEADERS, END_HEADERS), (1, HEADERS, ENDS), (1, DATA, 0)], closed),
            ("data behind a reset", &[(1, HEADERS, END_HEADERS), (1, RST_STREAM, 0), (1, DATA, 0)], Ok(())),
            (
                "a head behind a reset",
                &[(1, HEADERS, END_HEADERS), (1, RST_STREAM, 0), (1, HEADERS, ENDS)],
                closed,
            ),
            (
                "data behind the end and a reset",
                &[(1, HEADERS, ENDS), (1, RST_STREAM, 0), (1, DATA, 0)],
                closed,
            ),
            ("an older stream", &[(1, HEADERS, ENDS), (3, HEADERS, END_HEADERS), (1, DATA, 0)], closed),
            ("another stream", &[(1, HEADERS, ENDS), (3, HEADERS, END_HEADERS), (3, DATA, 0)], Ok(())),
            ("a window", &[(1, HEADERS, ENDS), (1, WINDOW_UPDATE, 0), (1, RST_STREAM, 0)], Ok(())),
            (
                "h2 has its own word",
                &[(3, HEADERS, ENDS), (1, DATA, 0), (2, HEADERS, ENDS), (0, DATA, 0)],
                Ok(()),
            ),
        ] {
            assert_eq!(begin(&mut greeted(), frames), expected, "{name}");
        }
    }

    #[test]
    fn nothing_comes_between_the_frames_of_a_block() {
        let begins = |kind, flags| begin(&mut greeted(), &[(1, HEADERS, 0), (1, kind, flags)]);
        assert_eq!(begins(DATA, 0), Err(Code::Protocol));
        assert_eq!(begins(0xbb, 0), Err(Code::Protocol));
        assert_eq!(begins(CONTINUATION, 0), Ok(()));
        let whole = [(1, HEADERS, 0), (1, CONTINUATION, 0), (1, CONTINUATION, END_HEADERS), (1, DATA, 0)];
        assert_eq!(begin(&mut greeted(), &whole), Ok(()));
    }

    #[test]
    fn only_the_newest_streams_are_remembered() {
        let mut rules = greeted();
        for n in 0..10_000 {
            begin(&mut rules, &[(2 * n + 1, HEADERS, END_STREAM | END_HEADERS)]).unwrap();
        }
        assert_eq!(rules.streams.len(), STREAMS_REMEMBERED);
        let oldest = 2 * (10_000 - STREAMS_REMEMBERED as u32) + 1;
        assert_eq!(begin(&mut rules, &[(oldest - 2, DATA, 0)]), Ok(()));
        assert_eq!(begin(&mut rules, &[(oldest, DATA, 0)]), Err(Code::StreamClosed));
    }

    #[test]
    fn payloads_are_read_as_far_as_rules_need_it() {
        let of = |header: Header, payload: &[u8]| {
            let mut rules = greeted();
            rules.begins(&header).unwrap();
            rules.payload(payload)
        };
        let settings = |payload: &[u8]| of(header(0, SETTINGS, 0, payload.len()), payload);
        assert_eq!(settings(&[0, 1, 0xff, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]), Ok(()));
        assert_eq!(settings(&[0, 1, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 0]), Err(Code::FlowControl));
        let depends = |flags, payload: &[u8]| of(header(7, HEADERS, flags | HAS_PRIORITY, 20), payload);
        assert_eq!(depends(0, &[0x80, 0, 0, 7, 1]), Err(Code::Protocol));
        assert_eq!(depends(0, &[0, 0, 0, 5, 7, 7, 7]), Ok(()));
        assert_eq!(depends(PADDED, &[0, 0, 0, 0, 7, 1]), Err(Code::Protocol));
        assert_eq!(depends(PADDED, &[0, 0, 0, 7, 1, 1]), Ok(()));
    }
}
