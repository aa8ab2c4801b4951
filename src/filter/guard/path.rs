//! Paths that two servers may read as two.

/// Whether `path` holds `%00`, a `%` that is no escape, or an overlong form of UTF-8 (`%c0%ae` is a dot to some), climbs
/// above the root or behind a segment that is not one segment for everybody, or has a dot segment next to an encoded
/// slash or backslash (`%2f`, `%5c`) or next to a semicolon (`..;x`), which begins parameters, in either form. Dots count
/// in either form, `.` or `%2e`.
///
/// Other bytes that are no UTF-8 are nobody's business but the server's. RFC 3986 §5.2.4 stays at the root instead of
/// climbing; but nobody writes such a path in good faith, and what stands behind us may join it to a directory.
pub(super) fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Nearly every path ends here: no escape, and no dot that begins a segment.
    let has_escape = memchr::memchr(b'%', bytes).is_some();
    if !has_escape && !bytes.windows(2).any(|w| matches!(w, [b'/' | b';', b'.'])) {
        return false;
    }
    if has_escape && has_odd_escape(bytes) {
        return true;
    }
    let (mut depth, mut is_counted_alike) = (0_usize, true);
    // What is before the first slash is no segment.
    for segment in bytes.split(|&b| b == b'/').skip(1) {
        if has_hidden_dots(segment) {
            return true;
        }
        match Dots::of(segment) {
            Dots::Two if depth == 0 || !is_counted_alike => return true,
            Dots::Two => depth -= 1,
            Dots::One => {}
            Dots::None => {
                is_counted_alike &= is_one_segment(segment);
                depth += usize::from(!segment.is_empty());
            }
        }
    }
    false
}

/// RFC 3986 §2.1: `%` and two digits. RFC 3629 §3: a byte of an overlong form is C0, C1, F8 or above, or one of E0 and F0
/// with too small a second byte.
fn has_odd_escape(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = &rest[at..];
        let Some(byte) = escaped(rest) else { return true };
        rest = &rest[3..];
        let is_odd = match byte {
            0 | 0xc0 | 0xc1 | 0xf8..=0xfd => escaped(rest).is_some_and(|b| b >= 0x80) || byte == 0,
            0xe0 => escaped(rest).is_some_and(|b| (0x80..0xa0).contains(&b)),
            0xf0 => escaped(rest).is_some_and(|b| (0x80..0x90).contains(&b)),
            _ => false,
        };
        if is_odd {
            return true;
        }
    }
    false
}

/// The byte that an escape at the start of `text` stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// Whether every server counts `segment` as one, so that all agree on what a `..` behind it takes back. An empty one is
/// nothing for who merges slashes and one for RFC 3986; `;x` is empty for who drops parameters; `a%2fb` is two for who
/// decodes before it splits.
fn is_one_segment(segment: &[u8]) -> bool {
    let has_separator = |at: usize| segment[at] == b'%' && separator(&segment[at..]) > 0;
    !matches!(segment, [] | [b';', ..]) && !(0..segment.len()).any(has_separator)
}

/// The parts between encoded slashes and before `;`, when there is more than one.
fn has_hidden_dots(segment: &[u8]) -> bool {
    let (mut start, mut at, mut parted) = (0, 0, false);
    while at < segment.len() {
        let width = separator(&segment[at..]);
        if width > 0 {
            parted = true;
            if Dots::of(&segment[start..at]) != Dots::None {
                return true;
            }
            start = at + width;
        }
        at += width.max(1);
    }
    parted && Dots::of(&segment[start..]) != Dots::None
}

/// How many bytes at the start of `text` some servers take for a separator.
fn separator(text: &[u8]) -> usize {
    match text {
        [b';', ..] => 1,
        [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] | [b'%', b'3', b'b' | b'B', ..] => 3,
        _ => 0,
    }
}

#[derive(PartialEq)]
enum Dots {
    None,
    One,
    Two,
}

impl Dots {
    fn of(segment: &[u8]) -> Dots {
        let mut count = 0;
        let mut rest = segment;
        while !rest.is_empty() {
            rest = match rest {
                [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] => after,
                _ => return Dots::None,
            };
            count += 1;
        }
        match count {
            1 => Dots::One,
            2 => Dots::Two,
            _ => Dots::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_climb_or_hide_dots_are_ambiguous() {
        for path in [
            "/..",
            "/../",
            "/a/../..",
            "/a//../..",
            "/%2e%2e/",
            "/.%2E/x",
            "/a/./../../b",
            "/a%00",
            "/..%2fx",
            "/a/..%5Cx",
            "/a%2f..%2fb",
            "/a%2f..",
            "/a%2F%2e%2e",
            "/a/..;/b",
            "/a/..;x=1",
            "/a/.%2fb",
            "/..%2f..%2f",
            "/a/..%3B/b",
            "/a/;../b",
            "/100%",
            "/a%2",
            "/%zz",
            "/%%32e",
            "/%u002e",
            "/%c0%ae",
            "/%C1%9C",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%f8%80%80%80%af",
            "/admin//../a",
            "/a//b/../..",
            "/a/;/../b",
            "/a/;x=1/%2e%2e/b",
            "/a/b%2fc/../d",
            "/a/%5C/../b",
        ] {
            assert!(is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_are_not() {
        for path in [
            "/",
            "/a",
            "/a/..",
            "/a/../b",
            "/a/./b",
            "/.well-known/x",
            "/...",
            "/a%2fb",
            "/a%5cb",
            "/a..b",
            "/..a",
            "/a;b=..c",
            "/%e2%82%ac",
            "/%e0%a4%85",
            "/%f0%9f%98%80",
            "/caf%e9",
            "/%c0",
            "/%ff",
            "/a%252e",
            "/a%2f.b",
            "/;",
            "/a//b/./c",
            "/a/../b//c",
            "/a;x=1/../b",
            "/file.tar.gz",
        ] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "(/|\\.|%|2|e|f|5|c|;|0|a|é){0,24}") {
            is_ambiguous(&path);
        }
    }
}
