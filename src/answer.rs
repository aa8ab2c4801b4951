//! A response on its way to a client.
//!
//! Over HTTP/1.1 a head is text in the end, and what is in the store is text already. So what is passed on is made text at
//! once, without a map in between. Over HTTP/2 its lines are taken off the text again, which costs less than a map too: what
//! goes there has a mark before each, by which it is found and known.

use std::iter;

use http::{StatusCode, Version};

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
    /// Where the status line ends.
    begin: usize,
    /// Each line behind that has a [`Mark`] before it.
    is_marked: bool,
}

/// What is known of a line when it is written.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Bytes of the line.
    line: usize,
    /// Bytes of its name.
    name: usize,
    known: Known,
}

/// Bytes of a mark: three for the name, four for the line, one for the number of the name.
const MARK_BYTES: usize = 8;

impl Answer {
    /// Without a body, and with room for so many fields.
    pub fn new(status: StatusCode, phrase: Option<&[u8]>, fields: usize) -> Self {
        Written::new(status, phrase, fields * LINE_BYTES + ADDED_BYTES).into()
    }

    /// For a client who speaks `version`: to be said before there are fields.
    pub fn to_version(&mut self, version: Version) {
        debug_assert_eq!(self.head.begin, self.head.text.len());
        self.head.is_marked = version == Version::HTTP_2;
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
    #[inline]
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
        let begin = text.len();
        Written { status, text, length: None, has_date: false, closes: false, begin, is_marked: false }
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
            if self.is_marked {
                return self.pass_marked(field);
            }
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
        if self.is_marked {
            return self.put_marked(name, write);
        }
        name.put_line(&mut self.text, write);
    }

    #[inline(never)]
    fn pass_marked(&mut self, field: Field<'_>) {
        let mark = Mark { line: field.line().len(), name: field.name().len(), known: field.known() };
        self.text.extend_from_slice(&mark.bytes());
        self.text.extend_from_slice(field.line());
    }

    #[inline(never)]
    fn put_marked(&mut self, name: Name<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.text.len();
        self.text.extend_from_slice(&[0; MARK_BYTES]);
        name.put_line(&mut self.text, write);
        let Some((bytes, line)) = self.text[begin..].split_first_chunk_mut::<MARK_BYTES>() else { return };
        *bytes = Mark { line: line.len(), name: name.as_bytes().len(), known: name.known() }.bytes();
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

    /// Its fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let mut rest = &self.text[self.begin..];
        iter::from_fn(move || {
            let mark = if self.is_marked { Mark::take(&mut rest) } else { Mark::find(rest) }?;
            let (line, behind) = rest.split_at_checked(mark.line)?;
            rest = behind;
            Some(Field::of_line(line, mark.name, mark.known))
        })
    }

    /// What is written, as HTTP/1.1 writes it; to be written on.
    pub fn into_text(self) -> Vec<u8> {
        if self.is_marked { self.unmarked() } else { self.text }
    }

    /// Nobody asks for it, mostly: what is marked is for HTTP/2.
    #[cold]
    fn unmarked(&self) -> Vec<u8> {
        let mut text = self.text[..self.begin].to_vec();
        self.fields().for_each(|field| text.extend_from_slice(field.line()));
        text
    }
}

impl Mark {
    /// That of the first line, by looking.
    fn find(lines: &[u8]) -> Option<Mark> {
        let line = memchr::memchr(b'\n', lines)? + 1;
        let name = memchr::memchr(b':', &lines[..line])?;
        Some(Mark { line, name, known: Known::of(&lines[..name]) })
    }

    /// That before the first line, which then is what comes next.
    fn take(rest: &mut &[u8]) -> Option<Mark> {
        let (bytes, behind) = rest.split_first_chunk::<MARK_BYTES>()?;
        *rest = behind;
        let word = u64::from_le_bytes(*bytes);
        let known = Known::ALL.get(usize::from(word as u8)).copied().unwrap_or(Known::Other);
        Some(Mark { line: (word >> 32) as usize, name: (word as u32 >> 8) as usize, known })
    }

    fn bytes(self) -> [u8; MARK_BYTES] {
        debug_assert!(self.line < 1 << 24, "limits.header-bytes is far below");
        ((self.line as u64) << 32 | (self.name as u64) << 8 | self.known as u64).to_le_bytes()
    }
}

fn names_close(connection: &[u8]) -> bool {
    fields::of(connection).any(|word| word.eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;

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
            assert_eq!(std::str::from_utf8(&head.clone().into_text()).unwrap(), text);
            assert_eq!((head.length(), head.closes()), (Some(7), true));
            let found: Vec<_> = head.fields().map(|field| (field.name(), field.value())).collect();
            assert_eq!(found, fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        }
    }

    #[test]
    fn a_head_has_the_same_fields_and_text_whoever_it_is_for() {
        let (long, large) = ("x".repeat(300), "a".repeat(100_000));
        let fields = [
            ("x-a", ""),
            ("date", "x"),
            (&long, "1"),
            ("date", &large),
            ("content-length", "7"),
            ("y", "b: c"),
        ];
        let [one, two] = [Version::HTTP_11, Version::HTTP_2].map(|version| {
            let mut answer = Answer::new(StatusCode::OK, Some(b"a: b"), 0);
            answer.to_version(version);
            for (n, (name, value)) in fields.iter().enumerate() {
                match n % 2 {
                    0 => answer.append(*name, value.as_bytes()),
                    _ => Fields::from_iter([(*name, value)]).iter().for_each(|field| answer.pass(field)),
                }
            }
            answer.head
        });

        let expected = Fields::from_iter(fields);
        for head in [&one, &two] {
            let known = |field: Field<'_>| (field.known(), field.line().to_vec());
            let found: Vec<_> = head.fields().map(known).collect();
            assert_eq!(found, expected.iter().map(known).collect::<Vec<_>>());
            assert!(head.has_date && head.length == Some(7));
        }
        assert_ne!(one.text, two.text);
        assert_eq!(one.into_text(), two.into_text());
    }

    #[test]
    fn fields_are_found_behind_those_of_a_stored_head() {
        let stored = Fields::from_iter([("date", "x"), ("x-a", "b: c")]);
        let mut answer = Answer::from(Written::stored(StatusCode::OK, stored.text(), None));
        answer.append(Known::Age, b"1");
        let expected = Fields::from_iter([("date", "x"), ("x-a", "b: c"), ("age", "1")]);
        assert_eq!(answer.head.fields().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
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
            let before = written.text.len();
            written.put(name.into(), value.as_bytes());
            assert_eq!(&written.text[before..], expected.as_bytes(), "{status} {name}: {value}");
        }
    }
}
