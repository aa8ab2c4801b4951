//! Paths that two servers may read as two.

/// Whether `path` holds `%00`, climbs above the root, climbs behind a segment that is not one segment for everybody, or
/// has a dot segment next to an encoded slash or backslash (`%2f`, `%5c`) or before path parameters (`..;x`). Dots
/// count in either form, `.` or `%2e`.
///
/// RFC 3986 §5.2.4 stays at the root instead of climbing; but nobody writes such a path in good faith, and what
/// stands behind us may join it to a directory.
pub(super) fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Nearly every path ends here: no escape, and no dot that begins a segment.
    if memchr::memchr(b'%', bytes).is_none() && !bytes.windows(2).any(|w| w == b"/.") {
        return false;
    }
    let (mut depth, mut is_counted_alike) = (0_usize, true);
    // What is before the first slash is no segment.
    for segment in bytes.split(|&b| b == b'/').skip(1) {
        if has_null(segment) || has_hidden_dots(segment) {
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

/// Whether every server counts `segment` as one, so that all agree on what a `..` behind it takes back. An empty one is
/// nothing for who merges slashes and one for RFC 3986; `;x` is empty for who drops parameters; `a%2fb` is two for who
/// decodes before it splits.
fn is_one_segment(segment: &[u8]) -> bool {
    let has_separator = |at: usize| segment[at] == b'%' && separator(&segment[at..]) > 0;
    !matches!(segment, [] | [b';', ..]) && !(0..segment.len()).any(has_separator)
}

fn has_null(segment: &[u8]) -> bool {
    segment.windows(3).any(|w| w == b"%00")
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
        [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] => 3,
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
            "/100%",
            "/%e2%82%ac",
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
