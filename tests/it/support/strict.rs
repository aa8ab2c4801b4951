//! HTTP/1.1 by the letter, over bytes in memory: what is not exactly of the grammar of RFC 9112 is a fault.
//!
//! Nothing is trimmed, mended or skipped, so that what a lenient reader would take for one thing, and another for two,
//! is neither here. Bytes become characters one for one (Latin-1): no byte is lost, and text can be compared.

/// A message as it stood on the wire.
#[derive(Debug, Clone, Default)]
pub struct Exact {
    /// The request line or the status line.
    pub first: String,
    pub fields: Vec<(String, String)>,
    pub body: String,
    pub trailers: Vec<(String, String)>,
}

/// Why there is no message, yet or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The bytes end before it does.
    More,
    /// No reader should take it for one.
    Fault(String),
}

/// What a request or a response is followed by.
enum Framing {
    Nothing,
    Length(usize),
    Chunks,
    /// Until the connection ends: only a response may.
    End,
}

/// The request at the start of `bytes`, and its length.
pub fn request(bytes: &[u8]) -> Result<(Exact, usize), Stop> {
    let mut at = Place { bytes, at: 0 };
    let first = at.line()?;
    check_request_line(&first)?;
    let fields = at.fields()?;
    let hosts = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count();
    if hosts != 1 {
        return fault(format!("{hosts} Host fields in {first:?}"));
    }
    let framing = framing(&fields)?.unwrap_or(Framing::Nothing);
    at.message(first, fields, framing)
}

/// The response to a request of `method` at the start of `bytes`, and its length. `has_ended` is for a body that
/// ends with its connection.
pub fn response(bytes: &[u8], method: &str, has_ended: bool) -> Result<(Exact, usize), Stop> {
    let mut at = Place { bytes, at: 0 };
    let first = at.line()?;
    let status = check_status_line(&first)?;
    let fields = at.fields()?;
    let said = framing(&fields)?;
    let framing = match status {
        _ if method == "HEAD" => Framing::Nothing,
        100..200 | 204 if said.is_some() => return fault(format!("{status} with a length")),
        100..200 | 204 | 304 => Framing::Nothing,
        _ => said.unwrap_or(Framing::End),
    };
    if matches!(framing, Framing::End) && !has_ended {
        return Err(Stop::More);
    }
    at.message(first, fields, framing)
}

/// Bytes as text and back, one for one.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The other way. Characters that are no byte have no place here.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a character that is one byte")).collect()
}

impl Exact {
    pub fn method(&self) -> &str {
        self.word(0)
    }

    pub fn target(&self) -> &str {
        self.word(1)
    }

    pub fn status(&self) -> u16 {
        self.word(1).parse().expect("a status of three digits")
    }

    fn word(&self, place: usize) -> &str {
        self.first.split(' ').nth(place).unwrap_or_default()
    }

    /// Method, target and body.
    pub fn summary(&self) -> String {
        format!("{} {} {}", self.method(), self.target(), self.body).trim_end_matches(' ').to_owned()
    }

    /// The values of all fields of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }
}

fn fault<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fault(why.into()))
}

/// RFC 9112 section 3: `method SP request-target SP HTTP-version`. What comes from a proxy is in origin-form or `*`.
fn check_request_line(line: &str) -> Result<(), Stop> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return fault(format!("request line {line:?}")) };
    let is_plain = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let is_of_a_form = target.starts_with('/') || (target == "*" && method == "OPTIONS");
    if is_token(method) && is_plain && is_of_a_form {
        Ok(())
    } else {
        fault(format!("request line {line:?}"))
    }
}

/// RFC 9112 section 4: `HTTP-version SP status-code SP [ reason-phrase ]`. A client of HTTP/1.0 may be answered in its own.
fn check_status_line(line: &str) -> Result<u16, Stop> {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.split_once(' '));
    match status.map(|(digits, _)| (digits.len(), digits.parse())) {
        Some((3, Ok(status @ 100..600))) => Ok(status),
        _ => fault(format!("status line {line:?}")),
    }
}

// RFC 9112 section 6.3. One way to say it, said once.
fn framing(fields: &[(String, String)]) -> Result<Option<Framing>, Stop> {
    let mut found = None;
    for (name, value) in fields {
        let framing = match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" if value == "chunked" => Framing::Chunks,
            "content-length" if is_number(value) => Framing::Length(value.parse().expect("a number")),
            "transfer-encoding" | "content-length" => return fault(format!("{name}: {value:?}")),
            _ => continue,
        };
        if found.replace(framing).is_some() {
            return fault("two lengths");
        }
    }
    Ok(found)
}

fn is_number(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_token(text: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.chars().all(|c| u8::try_from(u32::from(c)).is_ok_and(is_tchar))
}

struct Place<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Place<'_> {
    fn message(
        mut self,
        first: String,
        fields: Vec<(String, String)>,
        framing: Framing,
    ) -> Result<(Exact, usize), Stop> {
        let mut message = Exact { first, fields, ..Exact::default() };
        match framing {
            Framing::Nothing => {}
            Framing::Length(length) => message.body = self.take(length)?,
            Framing::Chunks => self.chunks(&mut message)?,
            Framing::End => message.body = self.take(self.bytes.len() - self.at)?,
        }
        Ok((message, self.at))
    }

    fn take(&mut self, count: usize) -> Result<String, Stop> {
        let taken = self.bytes.get(self.at..self.at + count).ok_or(Stop::More)?;
        self.at += count;
        Ok(latin1(taken))
    }

    /// Up to CR LF; no other line end, and no other control character than a tab.
    fn line(&mut self) -> Result<String, Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) else {
            return Err(Stop::More);
        };
        match &rest[end..] {
            [b'\r'] => Err(Stop::More),
            [b'\r', b'\n', ..] => {
                self.at += end + 2;
                Ok(latin1(&rest[..end]))
            }
            _ => fault(format!("control character {:#04x} behind {:?}", rest[end], latin1(&rest[..end]))),
        }
    }

    /// `*( field-name ":" OWS field-value OWS CRLF ) CRLF`, where what writes for others writes one space before a
    /// value and none behind it.
    fn fields(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else { return fault(format!("field {line:?}")) };
            let value = value.strip_prefix(' ').unwrap_or(value);
            if !is_token(name) || value.trim_matches([' ', '\t']) != value {
                return fault(format!("field {line:?}"));
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// RFC 9112 section 7.1, without extensions.
    fn chunks(&mut self, message: &mut Exact) -> Result<(), Stop> {
        loop {
            let line = self.line()?;
            let is_size = (1..=8).contains(&line.len()) && line.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_size {
                return fault(format!("chunk size {line:?}"));
            }
            let size = usize::from_str_radix(&line, 16).expect("hexadecimal digits");
            if size == 0 {
                message.trailers = self.fields()?;
                return Ok(());
            }
            let data = self.take(size)?;
            message.body.push_str(&data);
            match self.line()?.as_str() {
                "" => {}
                more => return fault(format!("{more:?} behind a chunk")),
            }
        }
    }
}

#[test]
fn what_is_not_of_the_grammar_is_a_fault_here() {
    for faulty in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    ] {
        let read = request(faulty.as_bytes());
        assert!(matches!(read, Err(Stop::Fault(_))), "{faulty:?}: {read:?}");
    }
}

#[test]
fn requests_are_told_apart_byte_for_byte() {
    let all = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        PUT /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\n\xe9\r\n\r\n0\r\nx-t: 1\r\n\r\nGET";
    let (first, length) = request(all).unwrap();
    let (second, more) = request(&all[length..]).unwrap();

    assert_eq!(first.summary(), "POST /a abc");
    assert_eq!((second.summary(), second.trailers.len()), ("PUT /b \u{e9}\r\n".to_owned(), 1));
    assert_eq!(&all[length + more..], b"GET");
    for end in 0..length {
        assert_eq!(request(&all[..end]).err(), Some(Stop::More), "{end}");
    }
}
