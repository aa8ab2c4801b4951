//! The chunked coding of a body (RFC 9112 section 7.1), read strictly.
//!
//! What follows a size is where readers differ, and what is smuggled hides: here lines end in CRLF, a size is
//! hexadecimal digits alone, an extension has no control characters, and nothing is skipped.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::body::LENGTH_MAX;
use crate::fields;
use crate::http1::block;
use crate::http1::lines::Lines;

/// Bytes of one chunk's size and extensions.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of extensions in one body. Nobody uses them; each is work for nothing (CVE-2023-39326).
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Digits of a size: 16 fill a number.
const DIGITS_MAX: usize = 16;
/// Smaller chunks are gathered: a server that is sent each of them alone pays more for it than the client did.
const GATHER_BELOW_BYTES: usize = 4 * 1024;
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Some of it.
    Data(Bytes),
    /// What follows it, and its end.
    Trailers(HeaderMap),
    /// Its end.
    End,
    /// More must be read first.
    More,
}

/// It is not chunked as it says. What it means is in doubt from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadChunk;

impl std::fmt::Display for BadChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body is not chunked as it says")
    }
}

impl std::error::Error for BadChunk {}

/// Reads the chunks of one body.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    extension_bytes: usize,
    trailer_bytes_max: usize,
    trailers_max: usize,
    padding: Padding,
}

/// What becomes of blanks behind a size. Old servers align their sizes with them; no client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Skipped,
    Refused,
}

#[derive(Debug)]
enum State {
    /// A size is to come.
    Size,
    /// Bytes of a chunk that are to come.
    Data(u64),
    /// The CRLF behind a chunk.
    DataEnd,
    /// The last chunk is there; fields and an empty line follow.
    Trailers(Lines),
    Done,
}

impl Chunked {
    /// Of a body with at most so many bytes of trailers, in so many fields.
    pub fn new(trailer_bytes_max: usize, trailers_max: usize) -> Self {
        let padding = Padding::Refused;
        Chunked { state: State::Size, extension_bytes: 0, trailer_bytes_max, trailers_max, padding }
    }

    /// The same of a response's body.
    pub fn of_response(trailer_bytes_max: usize, trailers_max: usize) -> Self {
        Chunked { padding: Padding::Skipped, ..Chunked::new(trailer_bytes_max, trailers_max) }
    }

    /// Takes what it can off `bytes`.
    ///
    /// # Errors
    /// It is not chunked.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Next, BadChunk> {
        let mut gathered = BytesMut::new();
        loop {
            match &mut self.state {
                State::Data(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    if length == 0 {
                        break;
                    }
                    *left -= length as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    if length >= GATHER_BELOW_BYTES && gathered.is_empty() {
                        return Ok(Next::Data(bytes.split_to(length).freeze()));
                    }
                    gathered.extend_from_slice(&bytes[..length]);
                    bytes.advance(length);
                    if gathered.len() >= GATHERED_BYTES_MAX {
                        break;
                    }
                }
                State::Trailers(_) | State::Done if !gathered.is_empty() => break,
                State::Trailers(_) => return self.trailers(bytes),
                State::Done => return Ok(Next::End),
                State::Size => match self.size(bytes)? {
                    Some(size) => self.state = size,
                    None => break,
                },
                State::DataEnd => match &bytes[..] {
                    [b'\r', b'\n', ..] => {
                        bytes.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(BadChunk),
                },
            }
        }
        if gathered.is_empty() { Ok(Next::More) } else { Ok(Next::Data(gathered.freeze())) }
    }

    /// Takes the end off `bytes` where nothing else stands before it, without trailers. False: that is not known, or not so.
    pub fn ends(&mut self, bytes: &mut BytesMut) -> bool {
        let end: &[u8] = match &self.state {
            State::DataEnd => b"\r\n0\r\n\r\n",
            State::Size => b"0\r\n\r\n",
            State::Trailers(_) => b"\r\n",
            State::Data(_) => return false,
            State::Done => return true,
        };
        if !bytes.starts_with(end) {
            return false;
        }
        bytes.advance(end.len());
        self.state = State::Done;
        true
    }

    /// A size, once its line is whole.
    fn size(&mut self, bytes: &mut BytesMut) -> Result<Option<State>, BadChunk> {
        let Some(newline) = memchr::memchr(b'\n', bytes) else {
            // What is wrong already need not be waited for.
            let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            let is_hopeful = line.len() <= LINE_BYTES_MAX && (line.is_empty() || split_size(line).is_ok());
            return if is_hopeful { Ok(None) } else { Err(BadChunk) };
        };
        let line = bytes[..newline].strip_suffix(b"\r").ok_or(BadChunk)?;
        let unpadded = match self.padding {
            // Blanks alone: a CR before the CRLF is the end of a line for some.
            Padding::Skipped => trim_end(line),
            Padding::Refused => line,
        };
        let (size, extension_bytes) = parse_size(unpadded)?;
        self.extension_bytes += extension_bytes;
        if line.len() > LINE_BYTES_MAX || self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(BadChunk);
        }
        bytes.advance(newline + 1);
        Ok(Some(if size == 0 { State::Trailers(Lines::default()) } else { State::Data(size) }))
    }

    fn trailers(&mut self, bytes: &mut BytesMut) -> Result<Next, BadChunk> {
        let State::Trailers(lines) = &mut self.state else { return Ok(Next::End) };
        let end = lines.end(bytes).map_err(|_| BadChunk)?;
        if end.unwrap_or(bytes.len()) > self.trailer_bytes_max {
            return Err(BadChunk);
        }
        let Some(end) = end else { return Ok(Next::More) };
        let block = bytes.split_to(end);
        let fields = block::fields(&block, lines.newlines(), self.trailers_max).map_err(|_| BadChunk)?;
        self.state = State::Done;
        Ok(if fields.is_empty() { Next::End } else { Next::Trailers(fields.to_map()) })
    }
}

/// `chunk-size [ chunk-ext ]`: the size, and how long the rest is.
fn parse_size(line: &[u8]) -> Result<(u64, usize), BadChunk> {
    let (size, extension) = split_size(line)?;
    if !is_extension(extension) {
        return Err(BadChunk);
    }
    let digit = |b: u8| u64::from((b as char).to_digit(16).unwrap_or(0));
    let size = size.iter().fold(0, |size, b| size << 4 | digit(*b));
    if size > LENGTH_MAX { Err(BadChunk) } else { Ok((size, extension.len())) }
}

/// The digits, and what may become an extension: blanks stand before the `;` of one, and nowhere else.
fn split_size(line: &[u8]) -> Result<(&[u8], &[u8]), BadChunk> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    let first = extension.iter().find(|b| !is_blank(b));
    let is_plain = |b: &u8| !b.is_ascii_control() || *b == b'\t';
    let is_hopeful = first.is_none_or(|b| *b == b';') && extension.iter().all(is_plain);
    if digits == 0 || digits > DIGITS_MAX || !is_hopeful { Err(BadChunk) } else { Ok((size, extension)) }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (RFC 9112 section 7.1.1).
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(named) = after(rest, b';').and_then(token) else { return false };
        rest = named;
        if let Some(value) = after(rest, b'=') {
            let Some(behind) = quoted(value).or_else(|| token(value)) else { return false };
            rest = behind;
        }
    }
    true
}

/// What comes behind `byte` and the blanks around it.
fn after(rest: &[u8], byte: u8) -> Option<&[u8]> {
    trim_start(rest).strip_prefix(&[byte]).map(trim_start)
}

fn token(rest: &[u8]) -> Option<&[u8]> {
    let length = rest.iter().take_while(|b| fields::is_token_byte(**b)).count();
    if length == 0 { None } else { Some(&rest[length..]) }
}

/// `quoted-string` (RFC 9110 section 5.6.4); control characters are gone already.
fn quoted(rest: &[u8]) -> Option<&[u8]> {
    let mut rest = rest.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
            [] => return None,
        };
    }
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|b| is_blank(b)).count();
    &bytes[blanks..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().rev().take_while(|b| is_blank(b)).count();
    &bytes[..bytes.len() - blanks]
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data, trailers, and what is left behind them.
    type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// What a body comes to that arrives in pieces of `piece` bytes.
    fn read(text: &[u8], piece: usize) -> Result<Read, BadChunk> {
        let mut chunked = Chunked::new(200, 2);
        let (mut bytes, mut data) = (BytesMut::new(), Vec::new());
        let mut pieces = text.chunks(piece);
        loop {
            match chunked.next(&mut bytes)? {
                Next::Data(some) => data.extend_from_slice(&some),
                end @ (Next::End | Next::Trailers(_)) => {
                    let rest = [&bytes[..], &pieces.collect::<Vec<_>>().concat()].concat();
                    let trailers = if let Next::Trailers(map) = end { Some(map) } else { None };
                    return Ok((data, trailers, rest));
                }
                Next::More => match pieces.next() {
                    Some(piece) => bytes.extend_from_slice(piece),
                    None => return Err(BadChunk),
                },
            }
        }
    }

    #[test]
    fn chunks_are_read_to_the_byte_however_they_arrive() {
        let big = vec![b'x'; 10_000];
        let long = [b"2710;a=\"b\"\r\n", &big[..], b"\r\n0\r\n\r\nGET /"].concat();
        for piece in [1, 2, 3, 7, 4096, 100_000] {
            let simple =
                read(b"3;a;b = \"\\\"; \";c=d\r\nabc\r\n0000A ;x\r\n0123456789\r\n00\r\n\r\nGET /", piece);
            assert_eq!(simple, Ok((b"abc0123456789".to_vec(), None, b"GET /".to_vec())));
            let (data, trailers, rest) = read(&long, piece).unwrap();
            assert_eq!((data == big, trailers, rest), (true, None, b"GET /".to_vec()));
            let (data, trailers, rest) = read(b"1\r\na\r\n0\r\nSum: 1\r\nB: c\r\n\r\nx", piece).unwrap();
            assert_eq!((data, rest), (b"a".to_vec(), b"x".to_vec()));
            assert_eq!(trailers.unwrap()["sum"], "1");
        }
    }

    #[test]
    fn blanks_behind_a_size_are_taken_of_servers_alone() {
        let text = b"3 \t\r\nabc\r\n0 \r\n\r\n";
        let data = |mut chunked: Chunked| chunked.next(&mut BytesMut::from(&text[..]));

        assert_eq!(data(Chunked::of_response(0, 0)), Ok(Next::Data(Bytes::from("abc"))));
        assert_eq!(data(Chunked::new(0, 0)), Err(BadChunk));
        let longest = format!("3{}\r\nabc", " ".repeat(LINE_BYTES_MAX - 1));
        assert!(Chunked::of_response(0, 0).next(&mut BytesMut::from(&longest[..])).is_ok());
        for text in [
            "3 a\r\n",
            "3\r\r\n",
            "3 \r\r\n",
            "3;a\r\r\n",
            "3\x0c\r\n",
            "3\x0b\r\n",
            "3 \n\r\n",
            &longest.replacen(' ', "  ", 1),
        ] {
            assert_eq!(Chunked::of_response(0, 0).next(&mut BytesMut::from(text)), Err(BadChunk), "{text:?}");
        }
    }

    #[test]
    fn an_end_is_taken_along_with_the_last_piece_where_it_has_come() {
        for (text, ends) in [
            ("3\r\nabc\r\n0\r\n\r\n", true),
            ("9000\r\n", false),
            ("3\r\nabc\r\n0\r\n", false),
            ("3\r\nabc\r\n0\r\nSum: 1\r\n\r\n", false),
            ("3\r\nabc\r\n0;a\r\n\r\n", true),
        ] {
            let (mut chunked, mut bytes) = (Chunked::new(100, 1), BytesMut::from(text));
            let data = chunked.next(&mut bytes);
            assert_eq!(matches!(data, Ok(Next::Data(_))), text != "9000\r\n");
            assert_eq!(chunked.ends(&mut bytes), ends, "{text:?}");
            assert_eq!(ends, chunked.next(&mut bytes) == Ok(Next::End), "{text:?}");
        }
    }

    #[test]
    fn small_chunks_are_gathered() {
        let mut bytes = BytesMut::from(&b"1\r\na\r\n".repeat(1000)[..]);
        let Ok(Next::Data(data)) = Chunked::new(0, 0).next(&mut bytes) else { panic!("there is data") };
        assert_eq!(data.len(), 1000);
    }

    #[test]
    fn what_another_reader_could_read_otherwise_is_no_chunk() {
        let endless = b"1;a=bcdefghij\r\na\r\n".repeat(2000);
        let too_long = [b"1;", &[b'a'; 5000][..], b"\r\na\r\n0\r\n\r\n"].concat();
        let big_trailer = [b"0\r\nA: ", &[b'a'; 300][..], b"\r\n\r\n"].concat();
        for text in [
            &b"\r\n"[..],
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabc\r\n0\n\n",
            b"3\r\nabc\r\n0\r\n\n",
            b"3\rabc\r\n0\r\n\r\n",
            b"3\r\r\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nab\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"3\x0b\r\nabc\r\n0\r\n\r\n",
            b"3 a\r\nabc\r\n0\r\n\r\n",
            b"3;\r\nabc\r\n0\r\n\r\n",
            b"3;a;\r\nabc\r\n0\r\n\r\n",
            b"3;a=\r\nabc\r\n0\r\n\r\n",
            b"3;a b\r\nabc\r\n0\r\n\r\n",
            b"3;a=\"b\r\nabc\r\n0\r\n\r\n",
            b"3;a=\"b\"c\r\nabc\r\n0\r\n\r\n",
            b"3;a\rb\r\nabc\r\n0\r\n\r\n",
            b"3;a\nb\r\nabc\r\n0\r\n\r\n",
            b"3;a\0\r\nabc\r\n0\r\n\r\n",
            b"3;\"\n\"\r\nabc\r\n0\r\n\r\n",
            b";a\r\n\r\n",
            b"zz\r\n",
            b"3g\r\nabc\r\n0\r\n\r\n",
            b"00000000000000003\r\nabc\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nA: b\r\n c\r\n\r\n",
            b"0\r\nA: b\0\r\n\r\n",
            b"0\r\nA: b\r\nA: b\r\nA: b\r\n\r\n",
            b"3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
            &endless,
            &too_long,
            &big_trailer,
        ] {
            for piece in [1, 5, 100_000] {
                let shown = String::from_utf8_lossy(&text[..text.len().min(40)]);
                assert_eq!(read(text, piece), Err(BadChunk), "{shown:?} in {piece}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_chunked_comes_back_whole(
            data in proptest::collection::vec(proptest::collection::vec(0u8..255, 1..6000), 0..8),
            piece in 1usize..5000,
        ) {
            let mut text = Vec::new();
            for chunk in &data {
                text.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            proptest::prop_assert_eq!(read(&text, piece), Ok((data.concat(), None, Vec::new())));
        }
    }
}
