//! A slow and simple reader of what a server says: RFC 9112 as it stands there, and as strict as we are.

use super::exchange::Asks;

/// Limits, as docs/limits-and-errors.md has them.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 100;
const INTERIMS_MAX: usize = 16;
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// What may not stand behind a body (RFC 9110 section 6.5.1).
const NEVER_TRAILERS: &str = " age authorization cache-control connection content-encoding content-length \
     content-range content-type cookie date expect expires host http2-settings keep-alive location max-forwards pragma \
     proxy-authenticate proxy-authorization proxy-connection range retry-after set-cookie set-cookie2 te trailer \
     transfer-encoding upgrade vary warning www-authenticate ";

/// Names in small letters, each with a value, in the order of the message.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub is_11: bool,
    pub status: u16,
    /// The usual one, where none is said.
    pub reason: Vec<u8>,
    pub fields: Fields,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// What came is no response, or none to be believed.
    #[default]
    Refused,
    /// All of it was there.
    Whole,
    /// The connection ended before the head had; some of a head was there.
    NoHead { amid: bool },
    /// The connection ended before the body had.
    Cut,
    /// What follows the head is another protocol.
    Tunnel,
}

/// What the server has said.
#[derive(Debug, Default)]
pub struct Found {
    pub interims: Vec<(u16, Fields)>,
    pub head: Option<Head>,
    pub data: Vec<u8>,
    /// In the order of the names, and of one name in that of the message: they pass in a map.
    pub trailers: Fields,
    pub outcome: Outcome,
    /// What was cut could not have become good: it may also be refused at once.
    pub is_hopeless: bool,
    /// Where the next response begins.
    pub end: usize,
    /// The end of the connection is the end of the body.
    pub is_until_close: bool,
    /// The next response begins there, as far as this one tells.
    pub keeps: bool,
}

/// Why there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Not {
    /// It is something else.
    Good,
    /// It has not ended.
    Whole,
}

pub fn sorted(mut fields: Fields) -> Fields {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

pub fn read(bytes: &[u8], asks: &Asks) -> Found {
    let mut found = Found::default();
    loop {
        let behind = &bytes[found.end..];
        let (head, length) = match head(behind) {
            Ok(head) => head,
            Err(Not::Good) => return found,
            Err(Not::Whole) => {
                return Found { outcome: Outcome::NoHead { amid: !behind.is_empty() }, ..found };
            }
        };
        found.end += length;
        match head.status {
            100..200 if head.status != 101 => {}
            _ => return read_final(bytes, head, asks, found),
        }
        if found.interims.len() == INTERIMS_MAX {
            return found;
        }
        found.interims.push((head.status, head.fields));
    }
}

fn read_final(bytes: &[u8], head: Head, asks: &Asks, mut found: Found) -> Found {
    let behind = &bytes[found.end..];
    let is_good = is_good(&head, asks);
    let head = found.head.insert(head);
    if !is_good {
        return found;
    }
    if head.status == 101 {
        return Found { outcome: Outcome::Tunnel, data: behind.to_vec(), ..found };
    }
    let has_none = asks.method == http::Method::HEAD || [204, 304].contains(&head.status);
    let codings = head.all("transfer-encoding").len();
    let lengths: Vec<u64> = head.all("content-length").into_iter().filter_map(number).collect();
    // A server that says that a 204 has a body may send one.
    let is_clear =
        head.status != 204 || codings == 0 && head.all("content-length").iter().all(|l| *l == b"0");
    found.keeps = head.is_11 && is_clear && !head.names("connection", b"close");
    if has_none {
        found.outcome = Outcome::Whole;
    } else if codings > 0 {
        let named = head.clone();
        read_chunks(behind, &mut found);
        found.trailers.retain(|(name, _)| !named.names("connection", name.as_bytes()));
    } else if let Some(&length) = lengths.first() {
        let is_there = length <= behind.len() as u64;
        found.outcome = if is_there { Outcome::Whole } else { Outcome::Cut };
        found.data = behind[..behind.len().min(usize::try_from(length).unwrap_or(usize::MAX))].to_vec();
        found.end += found.data.len();
    } else {
        (found.is_until_close, found.keeps, found.outcome) = (true, false, Outcome::Whole);
        (found.data, found.end) = (behind.to_vec(), bytes.len());
    }
    found.keeps &= found.outcome == Outcome::Whole;
    found
}

impl Head {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(its, _)| its == name).map(|(_, value)| &value[..]).collect()
    }

    /// Whether a field that is a list has an element.
    fn names(&self, field: &str, element: &[u8]) -> bool {
        let lines = self.all(field);
        let mut elements = lines.iter().flat_map(|line| line.split(|&b| b == b','));
        elements.any(|one| one.trim_ascii().eq_ignore_ascii_case(element))
    }
}

/// Whether a last response says one thing only.
fn is_good(head: &Head, asks: &Asks) -> bool {
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    let is_one = |length: &[u8]| number(length).is_some() && number(length) == number(lengths[0]);
    let is_framed = match (&lengths[..], &codings[..]) {
        (lengths, []) => lengths.iter().all(|length| is_one(length)),
        ([], [coding]) => head.is_11 && coding.eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    let upgrades = head.all("upgrade");
    let is_asked = head.status != 101
        || asks.wants_websocket
            && head.is_11
            && matches!(upgrades[..], [to] if to.eq_ignore_ascii_case(b"websocket"))
            && head.names("connection", b"upgrade")
            && codings.is_empty()
            && lengths.iter().all(|length| *length == b"0");
    // As they are counted, which is not quite as they were sent.
    let bytes: usize = head.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    is_framed && is_asked && head.status < 600 && bytes <= HEAD_BYTES_MAX
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let number = if is_number { std::str::from_utf8(digits).ok()?.parse().ok() } else { None };
    number.filter(|number| *number <= i64::MAX as u64)
}

/// A head, and its bytes.
fn head(bytes: &[u8]) -> Result<(Head, usize), Not> {
    if !bytes.iter().zip(b"HTTP/1.").all(|(one, other)| one == other) {
        return Err(Not::Good);
    }
    let (lines, length) = block(bytes, HEAD_BYTES_MAX)?;
    let (version, status, reason) = match lines[0] {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', version @ b'0'..=b'1', b' ', status @ ..] => {
            let (status, reason) = status.split_at_checked(3).ok_or(Not::Good)?;
            (*version, number(status).filter(|status| *status >= 100).ok_or(Not::Good)?, reason)
        }
        _ => return Err(Not::Good),
    };
    let status = u16::try_from(status).map_err(|_| Not::Good)?;
    if !is_text(reason) || !matches!(reason, [] | [b' ', ..]) {
        return Err(Not::Good);
    }
    let usual = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let reason = match reason {
        [] | [_] => usual.unwrap_or_default().as_bytes(),
        [_, said @ ..] => said,
    };
    let fields = fields(&lines[1..])?;
    Ok((Head { is_11: version == b'1', status, reason: reason.to_vec(), fields }, length))
}

/// The lines of a block up to its empty line, and its bytes, of which there may be so many.
fn block(bytes: &[u8], bytes_max: usize) -> Result<(Vec<&[u8]>, usize), Not> {
    let (mut lines, mut at) = (Vec::new(), 0);
    loop {
        let Some(length) = bytes[at..].iter().position(|&b| b == b'\n') else {
            return Err(if bytes.len() > bytes_max { Not::Good } else { Not::Whole });
        };
        let line = bytes[at..at + length].strip_suffix(b"\r").ok_or(Not::Good)?;
        at += length + 1;
        if line.is_empty() {
            return if at > bytes_max { Err(Not::Good) } else { Ok((lines, at)) };
        }
        lines.push(line);
    }
}

fn fields(lines: &[&[u8]]) -> Result<Fields, Not> {
    if lines.len() > FIELDS_MAX {
        return Err(Not::Good);
    }
    lines.iter().map(|line| field(line)).collect::<Option<Fields>>().ok_or(Not::Good)
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5).
fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(is_token) || !is_text(value) {
        return None;
    }
    Some((String::from_utf8(name.to_ascii_lowercase()).ok()?, value.trim_ascii().to_vec()))
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f)
}

/// RFC 9112 section 7.1.
fn read_chunks(bytes: &[u8], found: &mut Found) {
    let (mut at, mut extensions) = (0, 0);
    let not = loop {
        let (size, extension, length) = match size(&bytes[at..]) {
            Ok(line) => line,
            Err(not) => {
                found.is_hopeless = is_hopeless(&bytes[at..]);
                break not;
            }
        };
        (at, extensions) = (at + length, extensions + extension);
        if extensions > EXTENSION_BYTES_MAX {
            break Not::Good;
        }
        if size == 0 {
            return read_trailers(&bytes[at..], at, found);
        }
        let there = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len() - at);
        found.data.extend_from_slice(&bytes[at..at + there]);
        at += there;
        match &bytes[at..] {
            [] | [b'\r'] => break Not::Whole,
            [b'\r', b'\n', ..] => at += 2,
            _ => break Not::Good,
        }
    };
    if not == Not::Whole {
        found.outcome = Outcome::Cut;
    }
}

fn read_trailers(bytes: &[u8], at: usize, found: &mut Found) {
    let trailers = block(bytes, TRAILER_BYTES_MAX);
    match trailers.and_then(|(lines, length)| Ok((fields(&lines)?, length))) {
        Ok((mut fields, length)) => {
            fields.retain(|(name, _)| !NEVER_TRAILERS.contains(&format!(" {name} ")));
            (found.trailers, found.outcome, found.end) =
                (sorted(fields), Outcome::Whole, found.end + at + length);
        }
        Err(Not::Whole) => found.outcome = Outcome::Cut,
        Err(Not::Good) => {}
    }
}

/// A chunk's size, the bytes of its extensions, and those of the line.
fn size(bytes: &[u8]) -> Result<(u64, usize, usize), Not> {
    let newline = bytes.iter().position(|&b| b == b'\n').ok_or(Not::Whole)?;
    let line = bytes[..newline].strip_suffix(b"\r").ok_or(Not::Good)?;
    let (size, extension) = size_of(line).ok_or(Not::Good)?;
    Ok((size, extension, newline + 1))
}

/// Whether a line has begun that nothing can be put behind to make it a good one.
fn is_hopeless(begun: &[u8]) -> bool {
    let begun = begun.strip_suffix(b"\r").unwrap_or(begun);
    let is_good = |end: &&str| size_of(&[begun, end.as_bytes()].concat()).is_some();
    !begun.is_empty() && !["", "a", "\"", "a\""].iter().any(is_good)
}

/// `chunk-size [ chunk-ext ]`, and blanks.
fn size_of(line: &[u8]) -> Option<(u64, usize)> {
    if line.len() > CHUNK_LINE_BYTES_MAX || !is_text(line) {
        return None;
    }
    let line = line.trim_ascii_end();
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    if digits > 16 || !is_extension(extension) {
        return None;
    }
    let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
    (size <= i64::MAX as u64).then_some((size, extension.len()))
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = rest.trim_ascii_start().strip_prefix(b";") else { return false };
        let Some(behind) = without_token(name.trim_ascii_start()) else { return false };
        rest = behind;
        if let Some(value) = behind.trim_ascii_start().strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            let behind = if value.starts_with(b"\"") { without_quoted(value) } else { without_token(value) };
            let Some(behind) = behind else { return false };
            rest = behind;
        }
    }
    true
}

fn without_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|b| is_token(b)).count();
    if length == 0 { None } else { Some(&text[length..]) }
}

/// RFC 9110 section 5.6.4.
fn without_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut is_escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(&text[at + 1..]),
            _ => {}
        }
    }
    None
}
