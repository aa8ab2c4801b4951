//! However a server reads the path that it is sent, it finds the segments that the route was chosen by.
//!
//! A reading may take an encoded slash or backslash for a separator, drop the parameters of a segment, and take a run of
//! slashes for one or for several. What it may not do is to come to another place: a `..` must take back the same
//! segment in all of them. Not among them are servers that decode twice, and those that do not resolve dots at all:
//! docs/threat-model.md names them as the operator's business.

use http::Request;
use tidegate::config::Limits;
use tidegate::fields::RequestHead;
use tidegate::filter::guard::check_request;
use tidegate::router::path::normal;

#[derive(Clone, Copy)]
struct Reading {
    separators: bool,
    parameters: bool,
    merges: bool,
}

pub fn holds(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    is_normal(path);
    let Ok(request) = Request::get(path).header("host", "a").body(()) else { return };
    let head = RequestHead::from(request.into_parts().0);
    if check_request(&head, &Limits::default()).is_err() || !head.uri.path().starts_with('/') {
        return;
    }
    for bits in 0..8 {
        let reading = Reading { separators: bits & 1 > 0, parameters: bits & 2 > 0, merges: bits & 4 > 0 };
        let ours = pieces(&normal(head.uri.path()), reading);
        let theirs = reading.of(head.uri.path());
        assert_eq!(theirs, ours, "{:?} with {bits:03b}", head.uri.path());
    }
}

/// RFC 3986 section 6.2.2: no dot segment, no escape of what needs none, no run of slashes.
fn is_normal(path: &str) {
    if !path.starts_with('/') {
        return;
    }
    let once = normal(path);
    assert!(once.starts_with('/') && !once.contains("//"));
    assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
    assert!(once.len() <= path.len() + 1);
    // A stray `%` may join what follows it; apart from those, a second round changes nothing.
    if !path.contains("%%") && !path.ends_with('%') && !has_stray_percent(path) {
        assert_eq!(normal(&once), once);
    }
}

fn has_stray_percent(path: &str) -> bool {
    let is_escape = |rest: &[u8]| rest.len() > 1 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    path.match_indices('%').any(|(at, _)| !is_escape(&path.as_bytes()[at + 1..]))
}

impl Reading {
    /// The segments that a server comes to.
    fn of(self, path: &str) -> Vec<String> {
        let path = decoded(path);
        let path = if self.separators { separated(&path) } else { path };
        let mut kept: Vec<String> = Vec::new();
        for segment in path.split('/').skip(1) {
            let segment = self.without_parameters(segment);
            match segment {
                "." => {}
                ".." => drop(kept.pop()),
                "" if self.merges => {}
                _ => kept.push(segment.to_owned()),
            }
        }
        kept.retain(|segment| !segment.is_empty());
        kept
    }

    fn without_parameters(self, segment: &str) -> &str {
        if self.parameters { segment.split(';').next().unwrap_or_default() } else { segment }
    }
}

/// The segments of a path that is normal, taken apart as this reading does, and no dots resolved.
fn pieces(normal: &str, reading: Reading) -> Vec<String> {
    let path = if reading.separators { separated(normal) } else { normal.to_owned() };
    let segments = path.split('/').map(|segment| reading.without_parameters(segment));
    segments.filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

fn separated(path: &str) -> String {
    path.replace("%2F", "/").replace("%5C", "/")
}

/// Byte by byte: what RFC 3986 section 2.3 calls unreserved is decoded, other escapes get capital digits.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = escape.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
                at += 3;
            }
            Some(byte) => {
                out.push_str(&format!("%{byte:02X}"));
                at += 3;
            }
            None => {
                let character = path[at..].chars().next().unwrap_or_default();
                out.push(character);
                at += character.len_utf8();
            }
        }
    }
    out
}
