//! Frames: taken apart and written (RFC 9113 sections 4 and 6). What a frame means to its stream is judged by
//! [`super::session`]; here only what can be told from the frame alone.

/// RFC 9113 section 3.4: what a client says before its first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113 section 4.1: length, type, flags, stream.
pub const HEADER_BYTES: usize = 9;
/// RFC 9113 section 6.5.2: the payload that every peer takes, and the most that we take and send.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// The highest stream there can be, and the largest window.
pub const MAX_31_BITS: u32 = (1 << 31) - 1;

// RFC 9113 section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const HAS_PRIORITY: u8 = 0x20;

/// RFC 9113 sections 6.2 and 6.3.
const PRIORITY_BYTES: usize = 5;
/// RFC 9113 section 6.5.1.
const SETTING_BYTES: usize = 6;

/// RFC 9113 section 7: the codes that are ours to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Nothing is wrong.
    None = 0x0,
    /// A rule is broken for which there is no other word.
    Protocol = 0x1,
    /// It is our side that failed.
    Internal = 0x2,
    /// More was sent or granted than windows hold.
    FlowControl = 0x3,
    /// Of a stream that has ended.
    StreamClosed = 0x5,
    /// A frame is not as long as its kind is.
    FrameSize = 0x6,
    /// Nothing was done for the stream.
    RefusedStream = 0x7,
    /// It is not wanted any more.
    Cancel = 0x8,
    /// A field block cannot be decoded.
    Compression = 0x9,
    /// More is asked for than is good for us.
    EnhanceYourCalm = 0xb,
}

/// What is wrong with a frame, and how far that goes (RFC 9113 section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No more of the connection can be believed.
    Connection(Code),
    /// Only this stream is spoilt.
    Stream(u32, Code),
}

/// A frame's header (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// A frame that is well formed by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Data {
        data: &'a [u8],
        ends_stream: bool,
    },
    /// Its part of a field block, without padding and priority.
    Headers {
        block: &'a [u8],
        ends_stream: bool,
        ends_block: bool,
        depends_on_itself: bool,
    },
    Continuation {
        block: &'a [u8],
        ends_block: bool,
    },
    Priority {
        depends_on_itself: bool,
    },
    Reset,
    Settings(&'a [u8]),
    SettingsAck,
    Ping([u8; 8]),
    Pong([u8; 8]),
    GoAway,
    WindowUpdate(u32),
    /// RFC 9113 section 4.1: of a kind that nobody has told us of.
    Unknown,
}

impl Header {
    /// The header at the beginning of `bytes`, if all of it is there.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk()?;
        Some(Header {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The reserved bit is ignored.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    /// Whether it has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether its payload is worth waiting for: what is wrong already is not.
    ///
    /// # Errors
    /// It is too long, or on a stream where it must not be, or of a kind that no client sends.
    pub fn check(&self) -> Result<(), Fault> {
        if self.length > PAYLOAD_BYTES_MAX {
            return Err(Fault::Connection(Code::FrameSize));
        }
        let is_on_stream = self.stream != 0;
        match self.kind {
            DATA | HEADERS | PRIORITY | RST_STREAM | CONTINUATION if is_on_stream => Ok(()),
            SETTINGS | PING | GOAWAY if !is_on_stream => Ok(()),
            // Section 8.4: a client cannot push.
            DATA..=PING | GOAWAY | CONTINUATION => Err(Fault::Connection(Code::Protocol)),
            _ => Ok(()),
        }
    }
}

impl<'a> Frame<'a> {
    /// The frame with this header, which has passed [`Header::check`], and payload.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn parse(header: &Header, payload: &'a [u8]) -> Result<Self, Fault> {
        match header.kind {
            DATA => {
                let data = without_padding(header, payload)?;
                Ok(Frame::Data { data, ends_stream: header.has(END_STREAM) })
            }
            HEADERS => Frame::headers(header, payload),
            CONTINUATION => Ok(Frame::Continuation { block: payload, ends_block: header.has(END_HEADERS) }),
            PRIORITY => match payload.first_chunk() {
                Some(dependency) if payload.len() == PRIORITY_BYTES => {
                    Ok(Frame::Priority { depends_on_itself: u31(dependency) == header.stream })
                }
                // Section 6.3: of the stream alone.
                _ => Err(Fault::Stream(header.stream, Code::FrameSize)),
            },
            RST_STREAM => exact::<4>(payload).map(|_| Frame::Reset),
            SETTINGS if header.has(ACK) => exact::<0>(payload).map(|_| Frame::SettingsAck),
            SETTINGS if payload.len().is_multiple_of(SETTING_BYTES) => Ok(Frame::Settings(payload)),
            SETTINGS => Err(Fault::Connection(Code::FrameSize)),
            PING if header.has(ACK) => exact(payload).map(Frame::Pong),
            PING => exact(payload).map(Frame::Ping),
            GOAWAY if payload.len() >= 8 => Ok(Frame::GoAway),
            GOAWAY => Err(Fault::Connection(Code::FrameSize)),
            WINDOW_UPDATE => exact(payload).map(|bytes| Frame::WindowUpdate(u31(&bytes))),
            _ => Ok(Frame::Unknown),
        }
    }

    fn headers(header: &Header, payload: &'a [u8]) -> Result<Self, Fault> {
        let mut block = without_padding(header, payload)?;
        let mut depends_on_itself = false;
        if header.has(HAS_PRIORITY) {
            // Section 6.2: padding that leaves no room for the rest has a code of its own.
            let wrong = if header.has(PADDED) { Code::Protocol } else { Code::FrameSize };
            let (priority, rest) = block.split_at_checked(PRIORITY_BYTES).ok_or(Fault::Connection(wrong))?;
            depends_on_itself = priority.first_chunk().is_some_and(|bytes| u31(bytes) == header.stream);
            block = rest;
        }
        Ok(Frame::Headers {
            block,
            ends_stream: header.has(END_STREAM),
            ends_block: header.has(END_HEADERS),
            depends_on_itself,
        })
    }
}

/// Sections 6.1 and 6.2: a byte that says how much padding stands at the end.
fn without_padding<'a>(header: &Header, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
    if !header.has(PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(Fault::Connection(Code::FrameSize))?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or(Fault::Connection(Code::Protocol))?;
    Ok(&rest[..length])
}

fn exact<const N: usize>(payload: &[u8]) -> Result<[u8; N], Fault> {
    payload.try_into().map_err(|_| Fault::Connection(Code::FrameSize))
}

/// 31 bits behind one that is reserved, or says something else.
fn u31(bytes: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*bytes) & MAX_31_BITS
}

/// The pairs of a SETTINGS frame's payload.
pub fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    let (pairs, _) = payload.as_chunks::<SETTING_BYTES>();
    pairs.iter().map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
}

/// Writes a frame's header.
pub fn put_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    debug_assert!(length <= PAYLOAD_BYTES_MAX, "no peer need take more");
    let [_, .., a, b, c] = length.to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Writes a whole frame.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_header(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

/// Writes RST_STREAM.
pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put(out, RST_STREAM, 0, stream, &u32::from(code as u8).to_be_bytes());
}

/// Writes WINDOW_UPDATE.
pub fn put_grant(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// Writes GOAWAY.
pub fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: Code) {
    put_header(out, 8, GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&u32::from(code as u8).to_be_bytes());
}

/// Writes SETTINGS with these pairs.
pub fn put_settings(out: &mut Vec<u8>, pairs: &[(u16, u32)]) {
    put_header(out, pairs.len() * SETTING_BYTES, SETTINGS, 0, 0);
    for (id, value) in pairs {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes a field block: HEADERS, and CONTINUATION for what one frame does not hold.
pub fn put_block(out: &mut Vec<u8>, stream: u32, block: &[u8], end: u8) {
    let (mut kind, mut flags, mut rest) = (HEADERS, end & END_STREAM, block);
    loop {
        let (part, after) = rest.split_at(rest.len().min(PAYLOAD_BYTES_MAX));
        if after.is_empty() {
            flags |= END_HEADERS;
        }
        put(out, kind, flags, stream, part);
        if after.is_empty() {
            return;
        }
        (kind, flags, rest) = (CONTINUATION, 0, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: Fault = Fault::Connection(Code::Protocol);
    const SIZE: Fault = Fault::Connection(Code::FrameSize);

    fn parse(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame<'_>, Fault> {
        let header = Header { length: payload.len(), kind, flags, stream };
        header.check()?;
        Frame::parse(&header, payload)
    }

    fn headers(block: &[u8]) -> Frame<'_> {
        Frame::Headers { block, ends_stream: false, ends_block: false, depends_on_itself: false }
    }

    #[test]
    fn frames_are_taken_apart() {
        let data = |data, ends_stream| Ok(Frame::Data { data, ends_stream });
        let large = [0; PAYLOAD_BYTES_MAX + 1];
        for (name, parsed, expected) in [
            ("data", parse(DATA, 0, 1, b"abc"), data(b"abc", false)),
            ("its end, and flags that mean nothing", parse(DATA, 0xf7, 1, b""), data(b"", true)),
            ("data and padding", parse(DATA, PADDED, 1, b"\x02abcd"), data(b"ab", false)),
            ("padding alone", parse(DATA, PADDED, 1, b"\x02cd"), data(b"", false)),
            ("too much padding", parse(DATA, PADDED, 1, b"\x03cd"), Err(PROTOCOL)),
            ("no length of padding", parse(DATA, PADDED, 1, b""), Err(SIZE)),
            ("data on no stream", parse(DATA, 0, 0, b"abc"), Err(PROTOCOL)),
            ("too much data", parse(DATA, 0, 1, &large), Err(SIZE)),
            ("a head", parse(HEADERS, 0, 1, b"abc"), Ok(headers(b"abc"))),
            (
                "the whole of it",
                parse(HEADERS, END_STREAM | END_HEADERS, 1, b"abc"),
                Ok(Frame::Headers {
                    block: b"abc",
                    ends_stream: true,
                    ends_block: true,
                    depends_on_itself: false,
                }),
            ),
            (
                "with padding and priority",
                parse(HEADERS, PADDED | HAS_PRIORITY, 1, b"\x02\x80\0\0\x07\x01abc##"),
                Ok(headers(b"abc")),
            ),
            (
                "that depends on itself",
                parse(HEADERS, HAS_PRIORITY, 7, b"\x80\0\0\x07\x01abc"),
                Ok(Frame::Headers {
                    block: b"abc",
                    ends_stream: false,
                    ends_block: false,
                    depends_on_itself: true,
                }),
            ),
            ("too little for priority", parse(HEADERS, HAS_PRIORITY, 1, b"\0\0\0\0"), Err(SIZE)),
            (
                "padding that eats priority",
                parse(HEADERS, PADDED | HAS_PRIORITY, 1, b"\x02\0\0\0\0##"),
                Err(PROTOCOL),
            ),
            ("a head on no stream", parse(HEADERS, 0, 0, b"abc"), Err(PROTOCOL)),
            (
                "more of a head",
                parse(CONTINUATION, END_HEADERS, 1, b"abc"),
                Ok(Frame::Continuation { block: b"abc", ends_block: true }),
            ),
            ("more on no stream", parse(CONTINUATION, 0, 0, b"abc"), Err(PROTOCOL)),
            (
                "priority",
                parse(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]),
                Ok(Frame::Priority { depends_on_itself: false }),
            ),
            (
                "priority above itself",
                parse(PRIORITY, 0, 3, &[0x80, 0, 0, 3, 9]),
                Ok(Frame::Priority { depends_on_itself: true }),
            ),
            ("priority of four", parse(PRIORITY, 0, 3, &[0; 4]), Err(Fault::Stream(3, Code::FrameSize))),
            ("priority of six", parse(PRIORITY, 0, 3, &[0; 6]), Err(Fault::Stream(3, Code::FrameSize))),
            ("a reset", parse(RST_STREAM, 0, 3, &[0; 4]), Ok(Frame::Reset)),
            ("a reset of five", parse(RST_STREAM, 0, 3, &[0; 5]), Err(SIZE)),
            ("a reset of nothing", parse(RST_STREAM, 0, 0, &[0; 4]), Err(PROTOCOL)),
            ("settings", parse(SETTINGS, 0, 0, &[0; 12]), Ok(Frame::Settings(&[0; 12]))),
            ("settings of seven", parse(SETTINGS, 0, 0, &[0; 7]), Err(SIZE)),
            ("settings of a stream", parse(SETTINGS, 0, 1, &[]), Err(PROTOCOL)),
            ("their acknowledgement", parse(SETTINGS, ACK, 0, &[]), Ok(Frame::SettingsAck)),
            ("it, with settings", parse(SETTINGS, ACK, 0, &[0; 6]), Err(SIZE)),
            ("a push", parse(5, END_HEADERS, 1, &[0; 9]), Err(PROTOCOL)),
            ("a ping", parse(PING, 0, 0, b"12345678"), Ok(Frame::Ping(*b"12345678"))),
            ("a pong", parse(PING, ACK, 0, b"12345678"), Ok(Frame::Pong(*b"12345678"))),
            ("a ping of seven", parse(PING, 0, 0, b"1234567"), Err(SIZE)),
            ("a ping on a stream", parse(PING, 0, 1, b"12345678"), Err(PROTOCOL)),
            ("a goodbye", parse(GOAWAY, 0, 0, &[0; 11]), Ok(Frame::GoAway)),
            ("a goodbye of seven", parse(GOAWAY, 0, 0, &[0; 7]), Err(SIZE)),
            ("a window", parse(WINDOW_UPDATE, 0, 5, &[0x80, 0, 0, 9]), Ok(Frame::WindowUpdate(9))),
            ("a window of three", parse(WINDOW_UPDATE, 0, 5, &[0; 3]), Err(SIZE)),
            ("an unknown one", parse(0xbb, 0xff, 5, b"x"), Ok(Frame::Unknown)),
            ("an unknown one that is too long", parse(0xbb, 0, 0, &large), Err(SIZE)),
        ] {
            assert_eq!(parsed, expected, "{name}");
        }
    }

    #[test]
    fn a_header_is_there_when_all_of_it_is() {
        let bytes = [0x12, 0x34, 0x56, 7, 8, 0xff, 1, 2, 3];
        assert_eq!(Header::parse(&bytes[..8]), None);
        let header = Header { length: 0x12_3456, kind: 7, flags: 8, stream: 0x7f01_0203 };
        assert_eq!(Header::parse(&bytes), Some(header));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut out = Vec::new();
        put_settings(&mut out, &[(3, 128), (4, 1 << 18)]);
        put_goaway(&mut out, 7, Code::EnhanceYourCalm);
        put_reset(&mut out, 5, Code::RefusedStream);
        put_grant(&mut out, 9, 1 << 20);

        let mut frames = Vec::new();
        while let Some(header) = Header::parse(&out) {
            let rest = out.split_off(HEADER_BYTES + header.length);
            frames.push((header.kind, header.stream, out.split_off(HEADER_BYTES)));
            out = rest;
        }

        assert_eq!(settings(&frames[0].2).collect::<Vec<_>>(), [(3, 128), (4, 1 << 18)]);
        assert_eq!(frames[1], (GOAWAY, 0, vec![0, 0, 0, 7, 0, 0, 0, 0xb]));
        assert_eq!(frames[2], (RST_STREAM, 5, vec![0, 0, 0, 7]));
        assert_eq!(frames[3], (WINDOW_UPDATE, 9, vec![0, 0x10, 0, 0]));
    }

    #[test]
    fn a_large_block_is_several_frames_of_which_the_last_ends_it() {
        for (length, expected) in [
            (0, vec![(HEADERS, 0, END_HEADERS | END_STREAM)]),
            (PAYLOAD_BYTES_MAX, vec![(HEADERS, PAYLOAD_BYTES_MAX, END_HEADERS | END_STREAM)]),
            (
                2 * PAYLOAD_BYTES_MAX + 1,
                vec![
                    (HEADERS, PAYLOAD_BYTES_MAX, END_STREAM),
                    (CONTINUATION, PAYLOAD_BYTES_MAX, 0),
                    (CONTINUATION, 1, END_HEADERS),
                ],
            ),
        ] {
            let mut out = Vec::new();
            put_block(&mut out, 3, &vec![7; length], END_STREAM);
            let (mut rest, mut frames) = (&out[..], Vec::new());
            while let Some(header) = Header::parse(rest) {
                assert_eq!(header.stream, 3);
                frames.push((header.kind, header.length, header.flags));
                rest = &rest[HEADER_BYTES + header.length..];
            }
            assert_eq!(frames, expected);
        }
    }
}
