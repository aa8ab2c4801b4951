//! A client of HTTP/2 that speaks in frames: each is written and read as bytes, so that it can say what no library
//! would.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use super::certs::Trust;
use super::client::{Stream, dial};

/// RFC 9113 section 3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// RFC 9113 section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITISED: u8 = 0x20;

// RFC 9113 section 7.
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it was received.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// One connection.
pub struct FrameClient {
    stream: Box<dyn Stream>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    framed(payload.len() as u32, kind, flags, stream, payload)
}

/// The same, which says another length than it has.
pub fn framed(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field block of literals that nobody remembers (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        literal(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

/// One more field of a block.
pub fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        integer(block, 0, 7, text.len());
        block.extend(text);
    }
}

/// RFC 7541 section 5.1.
pub fn integer(block: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        block.push(first | value as u8);
        return;
    }
    block.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// One setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A whole request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "test")];
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block(&fields))
}

/// The head of a request whose body is to come.
pub fn post(stream: u32, path: &str, further: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")];
    frame(HEADERS, END_HEADERS, stream, block(&[&fields, further].concat()))
}

impl FrameClient {
    /// In the clear. Nothing is said yet.
    #[track_caller]
    pub fn dial(address: SocketAddr) -> FrameClient {
        FrameClient { stream: Box::new(dial(address)) }
    }

    /// In the clear; it has said hello.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> FrameClient {
        FrameClient::dial(address).greet(&[])
    }

    /// Under TLS. Nothing is said yet.
    #[track_caller]
    pub fn dial_tls(address: SocketAddr, name: &str, trust: &Trust) -> FrameClient {
        FrameClient { stream: Box::new(trust.http2().dial(dial(address), name)) }
    }

    /// Under TLS; it has said hello.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, trust: &Trust) -> FrameClient {
        FrameClient::dial_tls(address, name, trust).greet(&[])
    }

    /// Says hello with these settings.
    #[track_caller]
    pub fn greet(mut self, settings: &[u8]) -> FrameClient {
        self.send(PREFACE);
        self.send(frame(SETTINGS, 0, 0, settings));
        self
    }

    /// The proxy may have hung up already: what it said is still to be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// The next frame; `None` when the connection has ended. Settings are acknowledged.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut header) {
            let kind = error.kind();
            let is_end = matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            assert!(is_end, "no frame: {error}");
            return None;
        }
        let [a, b, c, kind, flags, d, e, f, g] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).expect("a whole frame");
        if kind == SETTINGS && flags & ACK == 0 {
            self.send(frame(SETTINGS, ACK, 0, b""));
        }
        Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload })
    }

    /// Reads up to the first frame that is wanted.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the connection ended before {what}"));
            if is_wanted(&frame) {
                return frame;
            }
            assert!(frame.kind != GOAWAY, "the connection is over before {what}: {frame:?}");
        }
    }

    /// The status of a stream's answer, which is read to its end.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> u16 {
        self.body(stream).0
    }

    /// The same, and its body.
    #[track_caller]
    pub fn body(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let frame = self.until("an answer", |frame| frame.stream == stream);
            match frame.kind {
                HEADERS if status == 0 => status = frame.status(),
                HEADERS => {}
                DATA => body.extend(&frame.payload),
                WINDOW_UPDATE => continue,
                _ => panic!("no answer: {frame:?}"),
            }
            if frame.flags & END_STREAM != 0 {
                return (status, body);
            }
        }
    }

    /// A request of its own on a stream that is not open yet.
    #[track_caller]
    pub fn get(&mut self, stream: u32, path: &str) -> u16 {
        self.send(get(stream, path));
        self.answer(stream)
    }

    /// What was sent before has been read, and was answered without a frame of this kind.
    #[track_caller]
    pub fn ping_without(&mut self, kind: u8) {
        self.send(frame(PING, 0, 0, b"whatever"));
        let first = self.until("a pong", |frame| frame.kind == PING || frame.kind == kind);
        assert_eq!(first.kind, PING, "{first:?}");
    }

    /// What was sent before has been read.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(frame(PING, 0, 0, b"whatever"));
        self.until("a pong", |frame| frame.kind == PING && frame.flags & ACK != 0);
    }
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    #[track_caller]
    pub fn code(&self) -> u32 {
        let last = self.payload.get(if self.kind == GOAWAY { 4..8 } else { 0..4 }).expect("an error code");
        u32::from_be_bytes(last.try_into().unwrap())
    }

    /// The status of a response's head: it stands first, and is indexed or a literal that may be Huffman's
    /// (RFC 7541 section 6). Not one that an earlier answer has put into the table.
    #[track_caller]
    pub fn status(&self) -> u16 {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        // A table of another size may come first.
        let sizes = self.payload.iter().take_while(|&&first| first & 0xe0 == 0x20).count();
        match self.payload[sizes..] {
            [first @ 0x88..=0x8e, ..] => INDEXED[first as usize - 0x88],
            [0x48 | 0x08 | 0x18, 0x03, a, b, c, ..] => {
                String::from_utf8(vec![a, b, c]).unwrap().parse().unwrap()
            }
            [0x48 | 0x08 | 0x18, length, ref rest @ ..] if length & 0x80 != 0 => {
                digits(&rest[..usize::from(length & 0x7f)])
            }
            _ => panic!("no status: {self:?}"),
        }
    }
}

/// A number in Huffman's code (RFC 7541 appendix B): 0 to 2 are five bits, the other digits six.
fn digits(code: &[u8]) -> u16 {
    let bits: Vec<u8> = code.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0u16, |sum, &bit| sum * 2 + u16::from(bit));
    let (mut at, mut value) = (0, 0);
    while at + 5 <= bits.len() {
        let five = number(&bits[at..at + 5]);
        if five <= 2 {
            (value, at) = (value * 10 + five, at + 5);
            continue;
        }
        let Some(six) = bits.get(at..at + 6).map(number).filter(|six| (25..=31).contains(six)) else { break };
        (value, at) = (value * 10 + six - 22, at + 6);
    }
    value
}
