//! Header fields, and the reading of those whose form many of them share.

mod head;
mod known;
mod list;

use http::HeaderMap;
use http::HeaderName;
use http::header;

pub use head::{RequestHead, ResponseHead};
pub use known::Known;
pub use list::{Field, Fields, Name};

/// A value as text, if it is visible ASCII (RFC 9110 §5.5), which includes blanks.
#[inline]
pub fn visible(value: &[u8]) -> Option<&str> {
    let is_visible = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    if is_visible { std::str::from_utf8(value).ok() } else { None }
}

/// Whether a line without CR and LF may be a value: no control characters but tabs (RFC 9110 §5.5).
#[inline]
pub fn is_value(bytes: &[u8]) -> bool {
    // All of them are looked at, however it stands: that way many are at once.
    !bytes.iter().fold(false, |has, byte| has | is_control(*byte))
}

/// Whether no value may have that byte: control characters but tabs (RFC 9110 §5.5).
#[inline]
pub const fn is_control(byte: u8) -> bool {
    (byte < b' ') & (byte != b'\t') | (byte == 0x7f)
}

/// Whether there are blanks before or behind the value, which are no part of one (RFC 9110 §5.5).
#[inline]
pub fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// The elements of one line of a list, without the white space around them; empty ones are left out (RFC 9110 §5.6.1.2).
pub fn of(line: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    line.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// `1*DIGIT`, if it can be counted.
#[inline]
pub fn number(digits: &[u8]) -> Option<u64> {
    let next = |number: u64, digit: &u8| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, next) }
}

/// RFC 9110 §5.6.2.
pub const fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let (mut table, others) = ([false; 256], b"!#$%&'*+-.^_`|~");
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut index = 0;
        while index < others.len() {
            table[others[index] as usize] = true;
            index += 1;
        }
        table
    };
    TOKEN[byte as usize]
}

/// Makes the token that `bytes` begin with small; how long it is.
#[inline]
pub fn lower_token(bytes: &mut [u8]) -> usize {
    const LOWER: [u8; 256] = {
        let (mut table, mut byte) = ([0; 256], 0);
        while byte < 256 {
            if is_token_byte(byte as u8) {
                table[byte] = (byte as u8).to_ascii_lowercase();
            }
            byte += 1;
        }
        table
    };
    for (place, byte) in bytes.iter_mut().enumerate() {
        match LOWER[usize::from(*byte)] {
            0 => return place,
            lower => *byte = lower,
        }
    }
    bytes.len()
}

/// The number in decimal, with leading zeros up to `width`.
pub fn digits(out: &mut Vec<u8>, mut number: u64, width: usize) {
    // 2^64 has 20 digits.
    let mut text = [b'0'; 20];
    let mut start = text.len();
    while number > 0 {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[start.min(text.len() - width)..]);
}

/// Fields that mean something only before a body: how it is framed and read, where it goes, who may see it, how long it
/// keeps (RFC 9110 §6.5.1).
const NEVER_TRAILERS: [HeaderName; 32] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::HOST,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("set-cookie2"),
];

/// Leaves what may stand behind a body. The rest is no reason to refuse a body that has passed already.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    for name in &NEVER_TRAILERS {
        trailers.remove(name);
    }
}

/// The values of the cookies called `name`, in all of the `Cookie` lines, as they were sent. Other cookies may hold
/// bytes that are no ASCII.
fn cookies<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.get_all(Known::Cookie).flat_map(|line| line.split(|&b| b == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// All that the request's cookies called `name` say, byte for byte: a server may take the first of several or
/// the last, with quotes or without.
pub fn cookie_bytes(fields: &Fields, name: &str) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = cookies(fields, name).collect();
    (!values.is_empty()).then(|| values.join(&b"; "[..]))
}

/// The value of the first cookie called `name` that is text, without its quotes.
pub fn cookie<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    cookies(fields, name).find_map(|value| {
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        std::str::from_utf8(value).ok()
    })
}

/// The values that a response's `Set-Cookie` lines give the cookie `name`, without quotes; those that are text and say
/// something. A line that takes the cookie back gives it none, whatever it says in its place ("deleted").
pub fn set_cookies<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = fields.get_all(Known::SetCookie).filter_map(visible);
    lines.filter_map(move |line| {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let value = pair.trim().strip_prefix(name)?.strip_prefix('=')?;
        if is_taken_back(attributes) {
            return None;
        }
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

// RFC 6265 section 5.3, first that applies: Max-Age, of which none or less is the past; Expires.

/// Whether a cookie with these attributes is gone at once. The past is 1970, which is what frameworks write: with that, no
/// clock is needed, and nobody else's is believed.
fn is_taken_back(attributes: &str) -> bool {
    let attribute = |wanted: &str| {
        let pairs = attributes.split(';').filter_map(|pair| pair.split_once('='));
        let same = |(name, value): (&str, _)| name.trim().eq_ignore_ascii_case(wanted).then_some(value);
        pairs.filter_map(same).next_back().map(str::trim)
    };
    match attribute("max-age") {
        Some(seconds) => seconds == "0" || seconds.starts_with('-'),
        None => attribute("expires").is_some_and(|date| date.contains("1970")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn trailers_keep_what_may_stand_behind_a_body() {
        let names =
            ["grpc-status", "content-length", "Set-Cookie", "etag", "x-sum", "connection", "keep-alive"];
        let mut trailers: HeaderMap = names
            .iter()
            .map(|name| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("1")))
            .collect();

        clean_trailers(&mut trailers);

        let mut kept: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["etag", "grpc-status", "x-sum"]);
    }

    #[test]
    fn a_cookie_that_a_server_sets_is_found_without_its_attributes() {
        let lines = ["a=1", "sid=\"x y\"; Path=/; HttpOnly", "sid=; Max-Age=0", "sidx=3"];
        let fields: Fields = lines.iter().map(|line| ("set-cookie", line)).collect();
        assert_eq!(set_cookies(&fields, "sid").collect::<Vec<_>>(), ["x y"]);
    }

    #[test]
    fn a_cookie_that_a_server_takes_back_has_no_value() {
        for (attributes, is_set) in [
            ("", true),
            ("; Path=/; Max-Age=10", true),
            ("; max-age = 0", false),
            ("; Max-Age=-1", false),
            ("; Expires=Thu, 01-Jan-1970 00:00:01 GMT; Path=/", false),
            ("; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=10", true),
            ("; Expires=Tue, 19 Jan 2038 00:00:00 GMT", true),
        ] {
            let line = format!("sid=deleted{attributes}");
            let fields = Fields::from_iter([("set-cookie", &line)]);
            assert_eq!(set_cookies(&fields, "sid").next().is_some(), is_set, "{line}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let find = |lines: &[&str]| {
            let fields: Fields = lines.iter().map(|line| ("cookie", line)).collect();
            cookie(&fields, "t").map(str::to_owned)
        };
        for (lines, expected) in [
            (&[][..], None),
            (&["t=1"], Some("1")),
            (&["a=t=2; t=1;t=3"], Some("1")),
            (&["a=é; t=\"1\""], Some("1")),
            (&["a=1", "tt=2; t=3"], Some("3")),
            (&["T=1; t; tt=1"], None),
            (&["t="], Some("")),
        ] {
            assert_eq!(find(lines).as_deref(), expected, "{lines:?}");
        }
    }
}
