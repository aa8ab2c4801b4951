//! A response on its way to a client.
//!
//! Over HTTP/1.1 a head is text in the end, and what is in the store is text already. So what is passed on is made text at
//! once, without a map in between; over HTTP/2 its lines are read off again, which costs less than a map too.

use std::iter;

use http::StatusCode;

use crate::body::Body;
use crate::fields::{self, Field, Known, Name, ResponseHead};
use crate::http1::sending::COPIED_BYTES_MAX;

/// Bytes of the lines of ours behind those of a server or of the store, and of those that the connection adds.
const ADDED_BYTES: usize = 320;
/// Bytes of the line of a field, mostly.
const LINE_BYTES: usize = 48;

/// What a client gets.
pub struct Answer {
    head: Written,
    /// What follows the head.
    pub body: Body,
}

/// The status line and the fields of a response's head, as HTTP/1.1 writes them. What its connection says is left to that: where
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
    /// Without a body, and with room for so many fields.
    pub fn new(status: StatusCode, phrase: Option<&[u8]>, fields: usize) -> Self {
        Written::new(status, phrase, fields * LINE_BYTES + ADDED_BYTES).into()
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Adds a field behind the others.
    pub fn append<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8]) {
        self.head.put(name.into(), value);
    }

    /// Adds a field that somebody else's message had.
    pub fn pass(&mut self, field: Field<'_>) {
        self.head.pass(field);
    }

    /// Adds a field whose value is a number.
    pub fn append_number<'a>(&mut self, name: impl Into<Name<'a>>, number: u64) {
        self.head.put_number(name.into(), number);
    }

    /// Adds a field whose value `write` makes: visible ASCII.
    pub fn append_with<'a>(&mut self, name: impl Into<Name<'a>>, write: impl FnOnce(&mut Vec<u8>)) {
        self.head.put_with(name, write);
    }

    /// Whether it has a `Date`.
    pub fn has_date(&self) -> bool {
        self.head.has_date
    }

    /// Whether it says how long its body is, or would be.
    pub fn has_length(&self) -> bool {
        self.head.length.is_some()
    }

    /// Its head, and its body.
    pub fn into_parts(self) -> (Written, Body) {
        (self.head, self.body)
    }
}

impl From<ResponseHead> for Answer {
    fn from(head: ResponseHead) -> Self {
        let mut answer = Answer::new(head.status, head.reason.as_deref(), head.fields.len());
        head.fields.iter().for_each(|field| answer.pass(field));
        answer
    }
}

impl From<Written> for Answer {
    fn from(head: Written) -> Self {
        Answer { head, body: Body::Empty }
    }
}

impl Written {
    /// The status line (RFC 9112 section 4), and room for so many bytes behind it. The version is our own, whatever the
    /// client's (RFC 9110 section 2.5).
    pub fn new(status: StatusCode, phrase: Option<&[u8]>, room: usize) -> Self {
        let phrase = phrase.unwrap_or(status.canonical_reason().unwrap_or_default().as_bytes());
        let mut text = Vec::with_capacity(b"HTTP/1.1 200 \r\n".len() + phrase.len() + room);
        for part in [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", phrase, b"\r\n"] {
            text.extend_from_slice(part);
        }
        Written { status, text, length: None, has_date: false, closes: false }
    }

    /// The head of a stored response, which has a `Date`: `lines` are those of its fields, `length` what they say of the body.
    pub fn stored(status: StatusCode, lines: &[u8], length: Option<u64>) -> Self {
        let copied =
            length.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes <= COPIED_BYTES_MAX);
        let mut written = Written::new(status, None, lines.len() + ADDED_BYTES + copied.unwrap_or(0));
        written.text.extend_from_slice(lines);
        Written { length, has_date: true, ..written }
    }

    /// Adds a field that somebody else's message had, unless it is one that the connection says.
    #[inline]
    pub fn pass(&mut self, field: Field<'_>) {
        if self.takes(field.known(), field.value()) {
            self.text.extend_from_slice(field.line());
        }
    }

    /// Adds a field, unless it is one that the connection says.
    pub fn put(&mut self, name: Name<'_>, value: &[u8]) {
        if self.takes(name.known(), value) {
            self.put_with(name, |text| text.extend_from_slice(value));
        }
    }

    /// Whether a field is to be written; what it says is noted.
    fn takes(&mut self, name: Known, value: &[u8]) -> bool {
        match name {
            Known::Connection if self.status != StatusCode::SWITCHING_PROTOCOLS => {
                self.closes |= names_close(value);
                false
            }
            Known::TransferEncoding => false,
            // RFC 9110 section 8.6.
            Known::ContentLength if self.status == StatusCode::NO_CONTENT => false,
            Known::ContentLength => self.takes_length(value),
            Known::Date => {
                self.has_date = true;
                true
            }
            _ => true,
        }
    }

    /// One, and none that is no number: the body's end would be where nobody finds it.
    fn takes_length(&mut self, value: &[u8]) -> bool {
        let number = fields::number(value);
        let is_taken = number.is_some() && self.length.is_none();
        if is_taken {
            self.length = number;
        }
        is_taken
    }

    /// Adds a field whose value is a number.
    pub fn put_number(&mut self, name: Name<'_>, number: u64) {
        if name.known() == Known::ContentLength {
            self.length = Some(number);
        }
        self.put_with(name, |text| fields::digits(text, number, 1));
    }

    /// Adds a field whose value `write` makes.
    pub fn put_with<'a>(&mut self, name: impl Into<Name<'a>>, write: impl FnOnce(&mut Vec<u8>)) {
        let name = name.into();
        self.has_date |= name.known() == Known::Date;
        name.put_line(&mut self.text, write);
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

    /// Its fields, names in small letters, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.text[..];
        let mut line = move || {
            let (line, next) = rest.split_at(memchr::memchr(b'\n', rest)? + 1);
            rest = next;
            line.strip_suffix(b"\r\n")
        };
        // The status line.
        line();
        iter::from_fn(move || {
            let line = line()?;
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].strip_prefix(b" ")?))
        })
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
    fields::of(connection).any(|word| word.eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_same_text_however_it_was_made_and_its_fields_are_found_in_it() {
        let fields = [("a", "b: c"), ("date", "x"), ("empty", ""), ("content-length", "7")];
        let mut appended = Answer::new(StatusCode::NOT_FOUND, None, 0);
        let mut passed = ResponseHead::new(StatusCode::NOT_FOUND);
        assert!(!appended.has_date() && !appended.has_length());
        for (name, value) in fields.into_iter().chain([("connection", "x, Close")]) {
            appended.append(name, value.as_bytes());
            passed.fields.append(name, value.as_bytes());
        }

        for answer in [appended, passed.into()] {
            assert!(answer.has_date() && answer.has_length());
            let head = answer.into_parts().0;
            let text = "HTTP/1.1 404 Not Found\r\na: b: c\r\ndate: x\r\nempty: \r\ncontent-length: 7\r\n";
            assert_eq!(std::str::from_utf8(head.text()).unwrap(), text);
            assert_eq!((head.length(), head.closes()), (Some(7), true));
            let found: Vec<_> = head.fields().collect();
            assert_eq!(found, fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        }
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
            written.put(name.into(), value.as_bytes());
            assert_eq!(&written.text()[before..], expected.as_bytes(), "{status} {name}: {value}");
        }
    }
}
