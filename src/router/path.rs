//! The form in which paths are compared. The server still gets the path that the client sent.

use std::borrow::Cow;

/// `path` with everything undone that does not change what it means:
///
/// - percent-encoded unreserved characters are decoded (RFC 3986 §6.2.2.2), other escapes get capital
///   digits (§6.2.2.1); `%2F` stays what it is, a character within a segment;
/// - dot segments are removed (§5.2.4); one that climbs above the root stays at the root;
/// - runs of slashes count as one. This one is not in the RFC, it is what servers do.
///
/// Borrows when the path is normal already, which it nearly always is.
pub fn normal(path: &str) -> Cow<'_, str> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    let decoded = normal_segment(path);
    if is_normal_but_for_escapes(&decoded) {
        return Cow::Owned(decoded.into_owned());
    }
    Cow::Owned(without_dots(&decoded))
}

/// What servers make of `path` that undo more than [`normal`] does, as far as that differs: encoded slashes and
/// backslashes taken for slashes; segments cut off where parameters begin (`;`), and the path where `?` and `#` stand
/// encoded; both. Empty for nearly every path.
pub(super) fn other_readings(path: &str) -> Vec<String> {
    if memchr::memchr2(b';', b'%', path.as_bytes()).is_none() {
        return Vec::new();
    }
    let split = with_separators_decoded(path);
    let mut readings = vec![without_parameters(path), without_parameters(&split), split];
    readings.retain(|reading| reading != path);
    readings
}

fn with_separators_decoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_separator = matches!(escape(rest.as_bytes()), Some(b'/' | b'\\'));
        let (piece, width) = if is_separator { ("/", 3) } else { ("%", 1) };
        out.push_str(piece);
        rest = &rest[width..];
    }
    out.push_str(rest);
    out
}

fn without_parameters(path: &str) -> String {
    let end_of = |text: &str, ends: fn(u8) -> bool| {
        let bytes = text.as_bytes();
        let is_end = |at: &usize| ends(bytes[*at]) || escape_at(&bytes[*at..]).is_some_and(ends);
        (0..bytes.len()).find(is_end).unwrap_or(bytes.len())
    };
    let path = &path[..end_of(path, |b| matches!(b, b'?' | b'#'))];
    let segments = path.split('/').map(|segment| &segment[..end_of(segment, |b| b == b';')]);
    segments.collect::<Vec<_>>().join("/")
}

/// Only the escapes, for text that is one segment.
pub(super) fn normal_segment(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match escape(rest.as_bytes()) {
            Some(byte) => {
                if is_unreserved(byte) {
                    out.push(char::from(byte));
                } else {
                    out.push_str(&rest[..3].to_ascii_uppercase());
                }
                rest = &rest[3..];
            }
            None => {
                out.push('%');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn is_normal(path: &str) -> bool {
    memchr::memchr(b'%', path.as_bytes()).is_none() && is_normal_but_for_escapes(path)
}

/// No empty segment but the last, and no dot segment.
fn is_normal_but_for_escapes(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'/', bytes).all(|slash| {
        let rest = bytes.get(slash + 1..).unwrap_or_default();
        !matches!(rest, [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
    })
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/') {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if open || out.is_empty() {
        out.push('/');
    }
    out
}

fn escape_at(text: &[u8]) -> Option<u8> {
    text.starts_with(b"%").then(|| escape(text))?
}

/// The byte that an escape at the start of `text` stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let high = char::from(*text.get(1)?).to_digit(16)?;
    let low = char::from(*text.get(2)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_change_the_meaning_is_undone() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/..a/...", "/..a/..."),
            ("/%61/%7E", "/a/~"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("/%é", "/%é"),
            ("//a///b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/../../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn what_servers_may_undo_besides_gives_other_readings() {
        for (path, expected) in [
            ("/a/b", &[][..]),
            ("/a%20b", &[]),
            ("/a%2fb", &["/a/b", "/a/b"]),
            ("/a%5Cb", &["/a/b", "/a/b"]),
            ("/a;x/b;y", &["/a/b", "/a/b"]),
            ("/a%3Bx/b", &["/a/b", "/a/b"]),
            ("/a%3fx/b", &["/a", "/a"]),
            ("/a%23", &["/a", "/a"]),
            ("/a;x%2fb", &["/a", "/a/b", "/a;x/b"]),
            ("/é%2f%", &["/é/%", "/é/%"]),
        ] {
            assert_eq!(other_readings(path), expected, "{path}");
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        assert!(matches!(normal("/index.html"), Cow::Borrowed(_)));
        assert!(matches!(normal("/.well-known/"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_path_makes_the_other_readings_panic(path in "(/|;|%|2|f|5|c|3|b|#|é){0,24}") {
            for reading in other_readings(&path) {
                prop_assert!(!reading.contains(';') || path.contains("%2") || path.contains("%5"));
            }
        }

        #[test]
        fn normal_is_final_and_has_no_dot_segment(path in "/([ab./]|%2[eEfF]|%){0,20}") {
            let once = normal(&path).into_owned();
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.contains("//"));
            prop_assert!(!once.split('/').any(|s| s == "." || s == ".."));
            // A stray `%` may join what follows it; apart from those, a second round changes nothing.
            if !path.contains("%%") && !path.ends_with('%') {
                prop_assert_eq!(normal(&once).into_owned(), once.clone());
            }
        }
    }
}
