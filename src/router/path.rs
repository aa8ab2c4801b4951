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
    fn a_normal_path_is_not_copied() {
        assert!(matches!(normal("/index.html"), Cow::Borrowed(_)));
        assert!(matches!(normal("/.well-known/"), Cow::Borrowed(_)));
    }

    proptest! {
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
