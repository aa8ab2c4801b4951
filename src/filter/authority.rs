//! `Host` and `:authority`, read once and strictly.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longer names do not exist: RFC 1035 §2.3.4 ends at 253 characters, and this leaves room for brackets.
const NAME_BYTES_MAX: usize = 255;

/// A host and, maybe, a port: `uri-host [ ":" port ]` (RFC 9110 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As it was sent; an IPv6 address is in its brackets.
    pub name: &'a str,
    /// `None` when there is none, or nothing behind the colon.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `text` by the grammar of RFC 3986 §3.2, minus what has no use in HTTP but to confuse the next
    /// reader: userinfo (RFC 9110 §4.2.4), an empty host (§4.2.1), `IPvFuture`, commas (a second `Host` that someone
    /// folded into the first), escapes of ASCII and empty labels: who undoes them finds another host than the router.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let end = inner.find(']')?;
                inner[..end].parse::<Ipv6Addr>().ok()?;
                text.split_at(end + 2)
            }
            None => {
                let colon = memchr::memchr(b':', text.as_bytes());
                let (name, port) = text.split_at(colon.unwrap_or(text.len()));
                is_reg_name(name.as_bytes()).then_some((name, port))?
            }
        };
        (name.len() <= NAME_BYTES_MAX).then_some(Authority { name, port: parse_port(port)? })
    }

    /// In lower case, without the trailing dot of a fully qualified name.
    pub fn normal_name(self) -> Cow<'a, str> {
        let name = self.name.strip_suffix('.').unwrap_or(self.name);
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        }
    }

    /// Whether it names an IP address, as no name of DNS can look.
    pub fn is_address(self) -> bool {
        self.name.starts_with('[') || self.name.parse::<Ipv4Addr>().is_ok()
    }

    /// Whether both name the same place.
    pub fn is_same(self, other: Authority<'_>) -> bool {
        self.port == other.port && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// The outer `None` is a mistake, the inner one the absence of a port.
fn parse_port(text: &str) -> Option<Option<u16>> {
    let Some(digits) = text.strip_prefix(':') else { return text.is_empty().then_some(None) };
    if digits.is_empty() {
        return Some(None);
    }
    // `parse` alone would take a sign.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok().map(Some))?
}

/// `reg-name` of RFC 3986 §3.2.2, without empty labels but the last of a full name.
fn is_reg_name(name: &[u8]) -> bool {
    if name.starts_with(b".") || name.windows(2).any(|two| two == b"..") {
        return false;
    }
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match after {
            _ if PLAIN[usize::from(byte)] => after,
            [high, low, after @ ..] if byte == b'%' && is_escape_beyond_ascii(*high, *low) => after,
            _ => return false,
        };
    }
    !name.is_empty()
}

/// unreserved / sub-delims, without the comma.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*')
            || matches!(byte, b'+' | b';' | b'=');
        byte += 1;
    }
    plain
};

fn is_escape_beyond_ascii(high: u8, low: u8) -> bool {
    matches!(high, b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F') && low.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_grammar_are_taken_apart() {
        for (text, name, port) in [
            ("example.com", "example.com", None),
            ("Example.com.:8080", "Example.com.", Some(8080)),
            ("a:", "a", None),
            ("a:0", "a", Some(0)),
            ("a:65535", "a", Some(65535)),
            ("10.0.0.1:080", "10.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
            ("under_score", "under_score", None),
            ("caf%C3%A9", "caf%C3%A9", None),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { name, port }), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a:b",
            "a:80:80",
            "user@a",
            "u:p@a",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a\"b",
            "a,b",
            "a\\b",
            "[::1",
            "[::1]x",
            "[::1]x:80",
            "[1.2.3.4]",
            "[v1.x]",
            "[]",
            "::1",
            "..",
            "a..",
            "a..b",
            ".a",
            "a%2Eb",
            "%61",
            "a%2Fb",
            "a%00b",
            "a%c",
            "a%cg",
            "a%",
            "a%2",
            "é",
            "a\t",
            "<a>",
            "a|b",
            "{a}",
            "[::1%25eth0]",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
        assert_eq!(Authority::parse(&"a".repeat(256)), None);
    }

    #[test]
    fn names_are_compared_without_case_and_trailing_dot() {
        assert_eq!(
            Authority::parse("WWW.Example.com.").map(|a| a.normal_name()).as_deref(),
            Some("www.example.com")
        );
        let same = |a, b| Authority::parse(a).zip(Authority::parse(b)).is_some_and(|(a, b)| a.is_same(b));
        assert!(same("a.B:80", "A.b:80"));
        assert!(!same("a:80", "a"));
        assert!(!same("a", "b"));
    }
}
