//! The head of a request, from bytes.
//!
//! Strict where RFC 9112 leaves a choice: lines end in CRLF, a request line has two single spaces, there are no
//! folded fields. What a head means, and whether it means one thing only, is judged by
//! [`crate::filter::guard`].

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};

use crate::config::Limits;
use crate::fields::{self, RequestHead};
use crate::filter::guard;
use crate::http1::block::{self, BadBlock};
use crate::http1::lines::Lines;

/// Empty lines before a request (RFC 9112 section 2.2): old clients send one behind a POST.
const EMPTY_LINES_MAX: usize = 4;
/// Bytes of a request line besides its target: a method, two spaces, a version, CRLF.
const LINE_OVERHEAD_BYTES: usize = guard::METHOD_BYTES_MAX + 12;

/// Why a head is not even a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// It is not HTTP/1, or not strictly so.
    Malformed,
    /// The request line is longer than `limits.uri-bytes` allows.
    UriTooLong,
    /// The head is longer than `limits.header-bytes` allows, or has more fields than `limits.headers`.
    TooLarge,
    /// Another major version.
    Version,
    /// Another protocol: three words, of which the second is no target and the third no version of HTTP.
    Foreign,
}

impl BadHead {
    /// True when the client is told. Who does not speak HTTP could not read it: a client of HTTP/2 whose preface is none
    /// (RFC 9113 section 3.4) would take it for a frame.
    pub fn is_answered(self) -> bool {
        self != BadHead::Foreign
    }

    /// What the client gets, and what it is counted as.
    pub fn status(self) -> StatusCode {
        match self {
            BadHead::Malformed | BadHead::Foreign => StatusCode::BAD_REQUEST,
            BadHead::UriTooLong => StatusCode::URI_TOO_LONG,
            BadHead::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            BadHead::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

impl From<BadBlock> for BadHead {
    fn from(bad: BadBlock) -> Self {
        match bad {
            BadBlock::Malformed => BadHead::Malformed,
            BadBlock::TooMany => BadHead::TooLarge,
        }
    }
}

/// Finds the end of a head that arrives in pieces.
#[derive(Debug, Default)]
pub struct Scan {
    empty_lines: usize,
    lines: Lines,
    line_is_checked: bool,
}

/// Where a head is in the bytes that it was looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Behind empty lines.
    pub begin: usize,
    /// Behind the empty line that ends it.
    pub end: usize,
}

impl Scan {
    /// Where the head is, once it is whole. `bytes` begins each time where it began the first time.
    ///
    /// # Errors
    /// It cannot become a head.
    pub fn find(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Place>, BadHead> {
        while bytes[2 * self.empty_lines..].starts_with(b"\r\n") {
            self.empty_lines += 1;
            if self.empty_lines > EMPTY_LINES_MAX {
                return Err(BadHead::Malformed);
            }
        }
        let begin = 2 * self.empty_lines;
        let head = &bytes[begin..];
        if head == b"\r" {
            // Another empty line, or none.
            return Ok(None);
        }
        let end = self.lines.end(head).map_err(|_| BadHead::Malformed)?;
        let line_max = limits.uri_bytes + LINE_OVERHEAD_BYTES;
        if self.lines.first().unwrap_or(without_cr(head).len()) > line_max {
            return Err(BadHead::UriTooLong);
        }
        if end.unwrap_or(head.len()) > line_max + limits.header_bytes {
            return Err(BadHead::TooLarge);
        }
        match end {
            Some(end) => Ok(Some(Place { begin, end: begin + end })),
            None => self.is_hopeful(head).map(|()| None),
        }
    }

    /// True when some of a head is there, not only empty lines.
    pub fn has_begun(&self, bytes: &[u8]) -> bool {
        bytes.len() > 2 * self.empty_lines
    }

    /// What is wrong already need not be waited for.
    fn is_hopeful(&mut self, head: &[u8]) -> Result<(), BadHead> {
        if self.line_is_checked {
            return Ok(());
        }
        if let Some(length) = self.lines.first() {
            self.line_is_checked = true;
            return RequestLine::split(&head[..length]).map(|_| ());
        }
        match without_cr(head).iter().any(|b| b.is_ascii_control()) {
            true => Err(BadHead::Malformed),
            false => Ok(()),
        }
    }
}

/// A line whose end may have come by half.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// RFC 9112 section 3: `method SP target SP version`, each space just one.
    fn split(line: &'a [u8]) -> Result<Self, BadHead> {
        let mut words = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BadHead::Malformed);
        };
        let version = match version {
            b"HTTP/1.0" => Version::HTTP_10,
            // RFC 9110 section 2.5: a higher minor version is the highest that we speak.
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::HTTP_11,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(BadHead::Version),
            [b'H' | b'h', ..] | [] => return Err(BadHead::Malformed),
            _ if target.iter().all(u8::is_ascii_alphabetic) => return Err(BadHead::Foreign),
            _ => return Err(BadHead::Malformed),
        };
        if method.is_empty() || !method.iter().all(|b| fields::is_token_byte(*b)) {
            return Err(BadHead::Malformed);
        }
        let is_visible = target.iter().all(|b| b.is_ascii_graphic());
        // RFC 9112 section 3.2: no form of a target has a fragment. http::Uri would drop it.
        if !is_visible || memchr::memchr(b'#', target).is_some() {
            return Err(BadHead::Malformed);
        }
        Ok(RequestLine { method, target, version })
    }
}

/// A head that `scan` has found, from its first byte to its empty line.
///
/// # Errors
/// It is none.
pub fn parse(head: &[u8], scan: &Scan, limits: &Limits) -> Result<RequestHead, BadHead> {
    let line_bytes = scan.lines.first().ok_or(BadHead::Malformed)?;
    let block_begin = line_bytes + b"\r\n".len();
    let line = RequestLine::split(&head[..line_bytes])?;
    let method = Method::from_bytes(line.method).map_err(|_| BadHead::Malformed)?;
    let target = Bytes::copy_from_slice(line.target);
    let mut uri = Uri::from_maybe_shared(target).map_err(|_| BadHead::Malformed)?;
    if method == Method::OPTIONS && has_no_path(line.target) {
        uri = of_the_server(uri).ok_or(BadHead::Malformed)?;
    }
    let newlines = scan.lines.newlines().skip(1).map(|newline| newline - block_begin);
    let fields = block::fields(&head[block_begin..], newlines, limits.headers)?;
    Ok(RequestHead { method, uri, version: line.version, fields })
}

/// A URL that ends with its authority. http::Uri says `/` for the path that is not there. A path may have another URL
/// in its query: what stands before `://` must be a scheme.
fn has_no_path(target: &[u8]) -> bool {
    let Some(scheme_end) = memchr::memmem::find(target, b"://") else { return false };
    let is_path = |bytes: &[u8]| bytes.iter().any(|b| matches!(b, b'/' | b'?'));
    !is_path(&target[..scheme_end]) && !is_path(&target[scheme_end + 3..])
}

/// RFC 9112 section 3.2.4: OPTIONS of such a URL asks about the server as a whole.
fn of_the_server(uri: Uri) -> Option<Uri> {
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { uri_bytes: 100, header_bytes: 200, headers: 3, ..Limits::default() }
    }

    /// All at once, and byte by byte: they must agree.
    fn read(text: &str) -> Result<Option<RequestHead>, BadHead> {
        let bytes = text.as_bytes();
        let read = |scan: &mut Scan, bytes: &[u8]| {
            let Some(place) = scan.find(bytes, &limits())? else { return Ok(None) };
            parse(&bytes[place.begin..place.end], scan, &limits()).map(Some)
        };
        let whole = read(&mut Scan::default(), bytes);
        let mut scan = Scan::default();
        let piecemeal =
            (0..=bytes.len()).map(|n| read(&mut scan, &bytes[..n])).find(|r| !matches!(r, Ok(None)));
        // A head that is too long may be bad before it is.
        let outcome =
            |read: &Result<Option<RequestHead>, BadHead>| read.as_ref().map(|p| p.is_some()).map_err(|_| ());
        assert_eq!(outcome(&whole), outcome(&piecemeal.unwrap_or(Ok(None))), "{text:?}");
        whole
    }

    #[test]
    fn a_head_is_read_to_the_byte() {
        let parts =
            read("\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nA:\tb \t\r\nA: \u{e9}\r\n\r\nGET /").unwrap().unwrap();

        assert_eq!((parts.method, parts.version), (Method::POST, Version::HTTP_11));
        assert_eq!(parts.uri, "/a?b");
        let values: Vec<_> = parts.fields.get_all("a").collect();
        assert_eq!(values, [&b"b"[..], "\u{e9}".as_bytes()]);
    }

    #[test]
    fn options_of_a_url_without_a_path_ask_about_the_server() {
        for (line, path) in [
            ("OPTIONS http://test", "*"),
            ("OPTIONS http://test/", "/"),
            ("OPTIONS http://test?a", "/"),
            ("OPTIONS *", "*"),
            ("OPTIONS /a?b=http://test", "/a"),
            ("OPTIONS /a://test", "/a://test"),
            ("OPTIONS http://test/a?b=http://test", "/a"),
            ("GET http://test", "/"),
        ] {
            let parts = read(&format!("{line} HTTP/1.1\r\n\r\n")).unwrap().unwrap();
            assert_eq!(parts.uri.path(), path, "{line}");
        }
    }

    #[test]
    fn minor_versions_are_ours_and_others_are_not() {
        for (version, expected) in [
            ("HTTP/1.0", Ok(Version::HTTP_10)),
            ("HTTP/1.1", Ok(Version::HTTP_11)),
            ("HTTP/1.2", Ok(Version::HTTP_11)),
            ("HTTP/1.9", Ok(Version::HTTP_11)),
            ("HTTP/2.0", Err(BadHead::Version)),
            ("HTTP/0.9", Err(BadHead::Version)),
            ("HTTP/1.10", Err(BadHead::Malformed)),
            ("HTTP/1", Err(BadHead::Malformed)),
            ("http/1.1", Err(BadHead::Malformed)),
            ("HTTP/1.1 ", Err(BadHead::Malformed)),
            ("", Err(BadHead::Malformed)),
        ] {
            let read = read(&format!("GET / {version}\r\n\r\n")).map(|parts| parts.unwrap().version);
            assert_eq!(read, expected, "{version:?}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused_and_as_soon_as_it_is_clear() {
        use BadHead::*;
        for (text, expected) in [
            ("GET /\r\n", Malformed),
            ("\x16\x03\x01", Malformed),
            ("GET  / HTTP/1.1\r\n\r\n", Malformed),
            (" GET / HTTP/1.1\r\n\r\n", Malformed),
            ("GET\t/\tHTTP/1.1\r\n\r\n", Malformed),
            ("GET /#a HTTP/1.1\r\n\r\n", Malformed),
            ("GET /\u{e9} HTTP/1.1\r\n\r\n", Malformed),
            ("G\u{e9}T / HTTP/1.1\r\n\r\n", Malformed),
            ("G(T / HTTP/1.1\r\n", Malformed),
            ("GET / HTP/1.1\r\n", Malformed),
            ("GET / http/1.1\r\n", Malformed),
            ("GET /x FTP/1.1\r\n", Malformed),
            ("INVALID CONNECTION PREFACE\r\n\r\n", Foreign),
            ("HELO mail example\r\n", Foreign),
            ("G\0T / HTTP/1.1\r\nA: b", Malformed),
            (" / HTTP/1.1\r\n", Malformed),
            ("GET / HTTP/1.1\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\r\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\n A: b\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA : b\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\n: b\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\0\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n", Malformed),
            ("\r\n\r\n\r\n\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", TooLarge),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(expected), "{text:?}");
        }
        assert_eq!(read(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(400))).unwrap_err(), UriTooLong);
        assert_eq!(read(&"a".repeat(200)).unwrap_err(), UriTooLong);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(400))).unwrap_err(), TooLarge);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(400))).unwrap_err(), TooLarge);
        // The longest line: 100 bytes of a target, and 44 besides.
        let longest = format!("GET /{} HTTP/1.1", "a".repeat(130));
        assert_eq!(longest.len(), 144);
        assert!(read(&format!("{longest}\r\n\r\n")).unwrap().is_some());
        assert_eq!(read(&format!("{longest}1\r\n\r\n")).unwrap_err(), UriTooLong);
        for partial in ["", "\r", "\r\n", "GET / HT", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\nA: b\r\n\r"] {
            assert!(read(partial).unwrap().is_none(), "{partial:?}");
        }
    }
}
