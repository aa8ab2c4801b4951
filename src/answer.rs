//! A response on its way to a client, in the form that its connection writes.
//!
//! Over HTTP/1.1 a head is text in the end. What is only passed on, from a server or from the store, is made text at
//! once, without a map in between. What we say ourselves, and all that goes over HTTP/2, has its fields in a map.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header, response};
use hyper::ext::ReasonPhrase;

use crate::body::Body;
use crate::fields;
use crate::http1::sending::COPIED_BYTES_MAX;

/// Fields of ours behind those of a server or of the store.
const ADDED_FIELDS: usize = 3;
/// Bytes of their lines, and of those that the connection adds.
const ADDED_BYTES: usize = 320;
/// Bytes of the line of a field, mostly.
const LINE_BYTES: usize = 48;

/// What a client gets.
pub struct Answer {
    head: Head,
    /// What follows the head.
    pub body: Body,
}

/// A response's head, in one form or the other.
pub enum Head {
    /// As fields.
    Parts(response::Parts),
    /// As text, for HTTP/1.1 alone.
    Written(Written),
}

/// The status line and the fields of a response, as HTTP/1.1 writes them. What its connection says is left to that: where
/// the body ends, whether another request may follow, and the empty line.
#[derive(Debug, Clone)]
pub struct Written {
    status: StatusCode,
    text: Vec<u8>,
    length: Option<u64>,
    has_date: bool,
    closes: bool,
}

impl Answer {
    /// Without a body, and with room for so many fields, in the form that suits `version`.
    pub fn new(status: StatusCode, phrase: Option<&ReasonPhrase>, version: Version, fields: usize) -> Self {
        if version <= Version::HTTP_11 {
            return Written::new(status, phrase, fields * LINE_BYTES + ADDED_BYTES).into();
        }
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        *response.headers_mut() = HeaderMap::with_capacity(fields + ADDED_FIELDS);
        response.into()
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        match &self.head {
            Head::Parts(parts) => parts.status,
            Head::Written(written) => written.status,
        }
    }

    /// Adds a field behind the others.
    pub fn append(&mut self, name: &HeaderName, value: &HeaderValue) {
        match &mut self.head {
            Head::Written(written) => written.put(name, value.as_bytes()),
            Head::Parts(parts) => {
                let fits = parts.headers.try_append(name.clone(), value.clone()).is_ok();
                debug_assert!(fits, "a head of more fields than the guard lets through");
            }
        }
    }

    /// Adds a field whose value `write` makes: visible ASCII.
    pub fn append_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        if let Head::Written(written) = &mut self.head {
            return written.put_with(name, write);
        }
        let mut value = Vec::new();
        write(&mut value);
        let value = HeaderValue::from_maybe_shared(Bytes::from(value));
        debug_assert!(value.is_ok(), "a value that is no text");
        value.into_iter().for_each(|value| self.append(name, &value));
    }

    /// Whether it has a `Date`.
    pub fn has_date(&self) -> bool {
        match &self.head {
            Head::Parts(parts) => parts.headers.contains_key(header::DATE),
            Head::Written(written) => written.has_date,
        }
    }

    /// Whether it says how long its body is, or would be.
    pub fn has_length(&self) -> bool {
        match &self.head {
            Head::Parts(parts) => parts.headers.contains_key(header::CONTENT_LENGTH),
            Head::Written(written) => written.length.is_some(),
        }
    }

    /// Its head as text, and its body.
    pub fn into_written(self) -> (Written, Body) {
        let written = match self.head {
            Head::Parts(parts) => Written::of(&parts),
            Head::Written(written) => written,
        };
        (written, self.body)
    }

    /// Its head as fields, as it was made for HTTP/2.
    pub fn into_response(self) -> Response<Body> {
        match self.head {
            Head::Parts(parts) => Response::from_parts(parts, self.body),
            Head::Written(written) => {
                debug_assert!(false, "a head was written for a client of HTTP/2");
                let mut response = Response::new(self.body);
                *response.status_mut() = written.status;
                response
            }
        }
    }
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Answer { head: Head::Parts(parts), body }
    }
}

impl From<Written> for Answer {
    fn from(written: Written) -> Self {
        Answer { head: Head::Written(written), body: Body::Empty }
    }
}

impl Written {
    /// The status line (RFC 9112 section 4), and room for so many bytes behind it. The version is our own, whatever the
    /// client's (RFC 9110 section 2.5).
    pub fn new(status: StatusCode, phrase: Option<&ReasonPhrase>, room: usize) -> Self {
        let phrase = phrase.map(ReasonPhrase::as_bytes);
        let phrase = phrase.unwrap_or(status.canonical_reason().unwrap_or_default().as_bytes());
        let mut text = Vec::with_capacity(b"HTTP/1.1 200 \r\n".len() + phrase.len() + room);
        for part in [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", phrase, b"\r\n"] {
            text.extend_from_slice(part);
        }
        Written { status, text, length: None, has_date: false, closes: false }
    }

    /// A head that was written before, with a `Date`: `text` is all of it, `length` what it says of the body.
    pub fn again(status: StatusCode, text: &[u8], length: Option<u64>) -> Self {
        let copied =
            length.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes <= COPIED_BYTES_MAX);
        let mut again = Vec::with_capacity(text.len() + ADDED_BYTES + copied.unwrap_or(0));
        again.extend_from_slice(text);
        Written { status, text: again, length, has_date: true, closes: false }
    }

    /// The head of a response that has its fields in a map.
    fn of(head: &response::Parts) -> Self {
        let room = head.headers.len() * LINE_BYTES + ADDED_BYTES;
        let mut written = Written::new(head.status, head.extensions.get(), room);
        for (name, value) in &head.headers {
            written.put(name, value.as_bytes());
        }
        written
    }

    /// Adds a field, unless it is one that the connection says.
    pub fn put(&mut self, name: &HeaderName, value: &[u8]) {
        match *name {
            header::CONNECTION if self.status != StatusCode::SWITCHING_PROTOCOLS => {
                self.closes |= names_close(value);
            }
            header::TRANSFER_ENCODING => {}
            // RFC 9110 section 8.6.
            header::CONTENT_LENGTH if self.status == StatusCode::NO_CONTENT => {}
            header::CONTENT_LENGTH => self.put_length(value),
            _ => {
                self.has_date |= *name == header::DATE;
                self.put_with(name, |text| text.extend_from_slice(value));
            }
        }
    }

    /// One, and none that is no number: the body's end would be where nobody finds it.
    fn put_length(&mut self, value: &[u8]) {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        if number.is_some() && self.length.is_none() {
            self.length = number;
            self.put_with(&header::CONTENT_LENGTH, |text| text.extend_from_slice(value));
        }
    }

    /// Adds a field whose value is a number.
    pub fn put_number(&mut self, name: &HeaderName, number: u64) {
        self.put_with(name, |text| fields::digits(text, number, 1));
    }

    /// Adds a field whose value `write` makes.
    pub fn put_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        self.text.extend_from_slice(name.as_str().as_bytes());
        self.text.extend_from_slice(b": ");
        write(&mut self.text);
        self.text.extend_from_slice(b"\r\n");
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says of the length of the body.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether it says that no other request can follow.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// What is written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What is written, to be written on.
    pub fn into_text(self) -> Vec<u8> {
        self.text
    }
}

fn names_close(connection: &[u8]) -> bool {
    let line = std::str::from_utf8(connection).unwrap_or_default();
    fields::of(line).any(|word| word.eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: Answer) -> (String, Option<u64>, bool) {
        let written = answer.into_written().0;
        let (length, closes) = (written.length(), written.closes());
        (String::from_utf8(written.into_text()).unwrap(), length, closes)
    }

    #[test]
    fn a_head_is_the_same_text_however_it_was_made() {
        let fields = [("a", "b"), ("date", "x"), ("content-length", "7"), ("connection", "x, Close")];
        let mut written = Answer::new(StatusCode::NOT_FOUND, None, Version::HTTP_11, 0);
        let mut parts = Answer::new(StatusCode::NOT_FOUND, None, Version::HTTP_2, 0);
        for answer in [&mut written, &mut parts] {
            assert!(!answer.has_date() && !answer.has_length());
            for (name, value) in fields {
                answer.append(&HeaderName::from_static(name), &HeaderValue::from_static(value));
            }
            assert!(answer.has_date() && answer.has_length());
        }

        let expected = "HTTP/1.1 404 Not Found\r\na: b\r\ndate: x\r\ncontent-length: 7\r\n".to_owned();
        assert_eq!(text(written), (expected.clone(), Some(7), true));
        assert_eq!(text(parts), (expected, Some(7), true));
    }

    #[test]
    fn fields_of_the_connection_are_left_to_it() {
        for (status, name, value, expected) in [
            (200, "transfer-encoding", "chunked", ""),
            (200, "connection", "keep-alive", ""),
            (101, "connection", "upgrade", "connection: upgrade\r\n"),
            (204, "content-length", "0", ""),
            (200, "content-length", "many", ""),
            (304, "content-length", "5", "content-length: 5\r\n"),
        ] {
            let mut written = Written::new(StatusCode::from_u16(status).unwrap(), None, 0);
            let before = written.text().len();
            written.put(&HeaderName::from_static(name), value.as_bytes());
            assert_eq!(&written.text()[before..], expected.as_bytes(), "{status} {name}: {value}");
        }
    }
}
