//! The head of a response, from bytes.
//!
//! As strict as for requests: a server that lets LF alone into a field's value would have us end the head there.

use std::fmt;

use bytes::Bytes;
use http::{StatusCode, Version};

use crate::fields::{self, ResponseHead};
use crate::http1::block;
use crate::http1::lines::Lines;

/// Bytes of one response's head. conformance: a server's head is as hostile as a client's.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of one response.
const FIELDS_MAX: usize = 100;
/// What every head begins with.
const PREFIX: &[u8] = b"HTTP/1.";
/// Bytes of a status line up to its reason: `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// Why the head of a response is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// It does not begin with a status line of HTTP/1.0 or HTTP/1.1.
    StatusLine,
    /// A line of it ends in LF alone.
    BareLf,
    /// A line is no field.
    Field,
    /// It has too many bytes or fields.
    TooLarge,
}

/// Finds the end of a head that arrives in pieces.
#[derive(Debug, Default)]
pub struct Scan(Lines);

impl Scan {
    /// Just behind the head, once it is whole. `bytes` begins each time where the head does.
    ///
    /// # Errors
    /// It cannot become a head.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadHead> {
        let there = bytes.len().min(PREFIX.len());
        if bytes[..there] != PREFIX[..there] {
            return Err(BadHead::StatusLine);
        }
        let end = self.0.end(bytes).map_err(|_| BadHead::BareLf)?;
        if end.unwrap_or(bytes.len()) > HEAD_BYTES_MAX {
            return Err(BadHead::TooLarge);
        }
        Ok(end)
    }
}

/// The response that `head` is of, which `scan` has found.
///
/// # Errors
/// It is none.
pub fn parse(head: &[u8], scan: &Scan) -> Result<ResponseHead, BadHead> {
    let line_bytes = scan.0.first().ok_or(BadHead::StatusLine)?;
    let block_begin = line_bytes + b"\r\n".len();
    let (line, block) = (&head[..line_bytes], &head[block_begin..]);
    let (version, status) = status(line)?;
    let reason = reason(line, status)?;
    let newlines = scan.0.newlines().skip(1).map(|newline| newline - block_begin);
    let fields = block::fields(block, newlines, FIELDS_MAX).map_err(|bad| match bad {
        block::BadBlock::Malformed => BadHead::Field,
        block::BadBlock::TooMany => BadHead::TooLarge,
    })?;
    Ok(ResponseHead { status, version, reason, fields })
}

/// RFC 9112 section 4: `HTTP-version SP status-code`.
fn status(line: &[u8]) -> Result<(Version, StatusCode), BadHead> {
    let Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', status @ ..]) = line.get(..STATUS_END)
    else {
        return Err(BadHead::StatusLine);
    };
    let version = match minor {
        b'1' => Version::HTTP_11,
        b'0' => Version::HTTP_10,
        _ => return Err(BadHead::StatusLine),
    };
    Ok((version, StatusCode::from_bytes(status).map_err(|_| BadHead::StatusLine)?))
}

/// ` [ reason-phrase ]`, where it is not the usual one. Many servers leave out the blank too.
fn reason(line: &[u8], status: StatusCode) -> Result<Option<Bytes>, BadHead> {
    let phrase = match line.get(STATUS_END..) {
        None | Some([]) => return Ok(None),
        Some([b' ', phrase @ ..]) => phrase,
        Some(_) => return Err(BadHead::StatusLine),
    };
    if phrase.is_empty() || status.canonical_reason().is_some_and(|usual| usual.as_bytes() == phrase) {
        return Ok(None);
    }
    if !fields::is_value(phrase) {
        return Err(BadHead::StatusLine);
    }
    Ok(Some(Bytes::copy_from_slice(phrase)))
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHead::StatusLine => "no status line of HTTP/1",
            BadHead::BareLf => "a line of the head ends in LF alone",
            BadHead::Field => "a line of the head is no field",
            BadHead::TooLarge => "the head is too large",
        })
    }
}

impl std::error::Error for BadHead {}

#[cfg(test)]
mod tests {
    use super::*;

    /// All at once, and byte by byte: they must agree.
    fn read(text: &[u8]) -> Result<Option<ResponseHead>, BadHead> {
        let read = |scan: &mut Scan, bytes: &[u8]| match scan.find(bytes)? {
            Some(end) => parse(&bytes[..end], scan).map(Some),
            None => Ok(None),
        };
        let whole = read(&mut Scan::default(), text);
        let mut scan = Scan::default();
        let piecemeal =
            (0..=text.len()).map(|n| read(&mut scan, &text[..n])).find(|r| !matches!(r, Ok(None)));
        let outcome =
            |read: &Result<Option<ResponseHead>, BadHead>| read.as_ref().map(Option::is_some).map_err(|_| ());
        assert_eq!(outcome(&whole), outcome(&piecemeal.unwrap_or(Ok(None))), "{text:?}");
        whole
    }

    #[test]
    fn a_head_is_read_to_the_byte() {
        let text = b"HTTP/1.1 200 Fine\r\nA:\tb \t\r\nA: \xe9\r\nEmpty:\r\n\r\nbody\n";
        let parts = read(text).unwrap().unwrap();

        assert_eq!((parts.version, parts.status.as_u16()), (Version::HTTP_11, 200));
        assert_eq!(parts.reason.as_deref(), Some(&b"Fine"[..]));
        let values: Vec<_> = parts.fields.get_all("a").collect();
        assert_eq!(values, [&b"b"[..], b"\xe9"]);
        assert_eq!(parts.fields.get("empty"), Some(&b""[..]));
    }

    #[test]
    fn a_reason_is_kept_where_it_is_another_than_usual() {
        for (line, version, status, reason) in [
            ("HTTP/1.1 200 OK", Version::HTTP_11, 200, None),
            ("HTTP/1.0 200 ", Version::HTTP_10, 200, None),
            ("HTTP/1.1 200", Version::HTTP_11, 200, None),
            ("HTTP/1.1 200 ok", Version::HTTP_11, 200, Some("ok")),
            ("HTTP/1.1 599 A\tb \u{e9}", Version::HTTP_11, 599, Some("A\tb \u{e9}")),
            ("HTTP/1.1 103 Early Hints", Version::HTTP_11, 103, None),
        ] {
            let parts = read(format!("{line}\r\n\r\n").as_bytes()).unwrap().unwrap();

            let found = parts.reason.as_deref();
            assert_eq!((parts.version, parts.status.as_u16()), (version, status), "{line}");
            assert_eq!(found, reason.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused_and_as_soon_as_it_is_clear() {
        use BadHead::*;
        for (text, expected) in [
            ("SSH-2.0", StatusLine),
            ("\r\n", StatusLine),
            (" HTTP/1.1 200\r\n\r\n", StatusLine),
            ("HTTP/2.0 200\r\n\r\n", StatusLine),
            ("HTTP/1.2 200\r\n\r\n", StatusLine),
            ("HTTP/1.1  200\r\n\r\n", StatusLine),
            ("HTTP/1.1\t200\r\n\r\n", StatusLine),
            ("HTTP/1.1 20\r\n\r\n", StatusLine),
            ("HTTP/1.1 2000\r\n\r\n", StatusLine),
            ("HTTP/1.1 099\r\n\r\n", StatusLine),
            ("HTTP/1.1 200\tOK\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 O\0K\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 O\rK\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 OK\r\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 OK\rXA: b\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 OK\n", BareLf),
            ("HTTP/1.1 200 OK\r\nA: b\n", BareLf),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Field),
            ("HTTP/1.1 200 OK\r\nA\r\n\r\n", Field),
        ] {
            assert_eq!(read(text.as_bytes()).map(|_| ()), Err(expected), "{text:?}");
        }
        let fields = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(read(fields(FIELDS_MAX).as_bytes()).unwrap().is_some());
        assert_eq!(read(fields(FIELDS_MAX + 1).as_bytes()).unwrap_err(), TooLarge);
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(Scan::default().find(long.as_bytes()), Err(TooLarge));
        for partial in ["", "H", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 200 OK\r\n\r"] {
            assert!(read(partial.as_bytes()).unwrap().is_none(), "{partial:?}");
        }
    }
}
