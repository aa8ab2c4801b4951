//! Comma-separated lists in fields.

use http::HeaderMap;
use http::header::AsHeaderName;

/// The elements of every line of a list field, without the white space around them. A line that is not
/// visible ASCII has none.
pub(super) fn elements(
    headers: &HeaderMap,
    name: impl AsHeaderName,
) -> impl DoubleEndedIterator<Item = &str> {
    headers.get_all(name).iter().flat_map(|value| of(value.to_str().unwrap_or_default()))
}

/// The elements of one line; empty ones are left out (RFC 9110 §5.6.1.2).
pub(super) fn of(line: &str) -> impl DoubleEndedIterator<Item = &str> {
    line.split(',').map(|e| e.trim_matches([' ', '\t'])).filter(|e| !e.is_empty())
}
