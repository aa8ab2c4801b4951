//! Parts of a representation (RFC 9110 §14): what a client asks for, what a 206 carries, what of it
//! is here.

use std::ops::Range;

use http::Method;
use http::StatusCode;

use crate::cache::directives::parse_date;
use crate::cache::entry::Entry;
use crate::cache::policy::Meta;
use crate::fields;
use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::RequestHead;

/// One range of bytes, as a client asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// From one byte to another, or to the end.
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

/// What a stored 206 is a part of.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The place of its first byte.
    pub first: u64,
    /// The length of the whole, if it is known.
    pub complete: Option<u64>,
    /// The `Range` that it answered.
    pub asked: Box<[u8]>,
    /// Bytes that it may come to with others: those of the route it came by.
    pub object_max: u64,
}

/// What of an entry answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice {
    /// The response as it is stored: the request asks for no part, or may not have one.
    Stored,
    /// These bytes of the stored body, at this place in a whole of that length.
    Bytes {
        /// In the stored body.
        body: Range<u64>,
        /// Of the first of them, in the whole.
        first: u64,
        /// The length of the whole.
        complete: Option<u64>,
    },
    /// 416: the whole has this length, and no such bytes (RFC 9110 §15.5.17).
    Unsatisfiable(u64),
    /// Nothing: other bytes than those that are here.
    Absent,
}

/// The range that a GET asks for; `None` when it asks for none, for several, or in another unit.
pub fn asked(req: &RequestHead) -> Option<Asked> {
    let mut lines = req.fields.get_all(Known::Range);
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let line = fields::visible(line)?;
    let (unit, spec) = line.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", last) => Some(Asked::Last(number(last)?)),
        (first, "") => Some(Asked::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::From(first, Some(last)))
        }
    }
}

/// The part that a 206 says it carries: first byte, last byte, length of the whole (RFC 9110 §14.4).
pub fn carried(fields: &Fields) -> Option<(u64, u64, Option<u64>)> {
    let mut lines = fields.get_all(Known::ContentRange);
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (unit, rest) = fields::visible(line)?.split_once(' ')?;
    let (range, complete) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let complete = if complete == "*" { None } else { Some(number(complete)?) };
    let is_sound = first <= last && complete.is_none_or(|length| last < length);
    (unit.eq_ignore_ascii_case("bytes") && is_sound).then_some((first, last, complete))
}

impl Asked {
    /// These bytes of a whole of `length`; `None` when it has none of them.
    pub fn of(self, length: u64) -> Option<Range<u64>> {
        match self {
            Asked::From(first, _) if first >= length => None,
            Asked::From(first, last) => Some(first..last.map_or(length, |l| length.min(l.saturating_add(1)))),
            Asked::Last(0) => None,
            Asked::Last(_) if length == 0 => None,
            Asked::Last(count) => Some(length.saturating_sub(count)..length),
        }
    }
}

/// What of `entry` answers `req`.
pub fn slice(entry: &Entry, req: &RequestHead) -> Slice {
    let meta = &entry.head.meta;
    let asks = (req.method == Method::GET).then(|| asked(req)).flatten();
    match (asks, &meta.part) {
        (None, None) => Slice::Stored,
        (None, Some(_)) => Slice::Absent,
        (Some(_), None) if entry.head.status != StatusCode::OK || !may_have_part(meta, req) => Slice::Stored,
        (Some(asks), None) => {
            let length = entry.body.len();
            match asks.of(length) {
                None => Slice::Unsatisfiable(length),
                Some(body) => Slice::Bytes { first: body.start, body, complete: Some(length) },
            }
        }
        (Some(_), Some(_)) if !may_have_part(meta, req) => Slice::Absent,
        (Some(_), Some(part)) if req.fields.get(Known::Range) == Some(&*part.asked) => Slice::Stored,
        (Some(asks), Some(part)) => within(asks, part, entry.body.len()),
    }
}

fn within(asks: Asked, part: &Part, length: u64) -> Slice {
    let wanted = match (part.complete, asks) {
        (Some(complete), asks) => asks.of(complete),
        (None, Asked::From(first, Some(last))) => Some(first..last.saturating_add(1)),
        (None, _) => None,
    };
    match wanted {
        Some(wanted) if wanted.start >= part.first && wanted.end <= part.first.saturating_add(length) => {
            Slice::Bytes {
                first: wanted.start,
                body: wanted.start - part.first..wanted.end - part.first,
                complete: part.complete,
            }
        }
        _ => Slice::Absent,
    }
}

/// RFC 9110 §13.1.5: a part only of the very representation that `If-Range` names, by a strong tag or
/// by its exact date.
fn may_have_part(meta: &Meta, req: &RequestHead) -> bool {
    let Some(condition) = req.fields.get(Known::IfRange) else { return true };
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return meta.strong_etag().is_some_and(|etag| etag == condition);
    }
    let date = parse_date(condition, meta.received);
    // RFC 9110 §8.8.2.2: a date is as good as a strong tag when nothing can have changed within it.
    meta.last_modified.is_some() && date == Some(meta.modified) && meta.modified < meta.date
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::{entry, part};

    fn get(fields: &[(&'static str, &str)]) -> RequestHead {
        let head = RequestHead::from(http::Request::new(()).into_parts().0);
        head.with(|head| head.fields = fields.iter().copied().collect())
    }

    #[test]
    fn one_range_of_bytes_is_read_and_anything_else_is_not() {
        for (value, expected) in [
            ("bytes=0-4", Some(Asked::From(0, Some(4)))),
            ("Bytes=5-", Some(Asked::From(5, None))),
            ("bytes=-5", Some(Asked::Last(5))),
            ("bytes= 0-4", Some(Asked::From(0, Some(4)))),
            ("bytes=4-0", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=99999999999999999999-", None),
            ("lines=0-4", None),
            ("0-4", None),
        ] {
            assert_eq!(asked(&get(&[("range", value)])), expected, "{value}");
        }
        assert_eq!(asked(&get(&[("range", "bytes=0-1"), ("range", "bytes=2-3")])), None);
    }

    #[test]
    fn a_content_range_is_sound_or_nothing() {
        for (value, expected) in [
            ("bytes 0-4/10", Some((0, 4, Some(10)))),
            ("bytes 0-4/*", Some((0, 4, None))),
            ("bytes 5-4/10", None),
            ("bytes 0-10/10", None),
            ("bytes */10", None),
            ("bytes 0-4", None),
            ("items 0-4/10", None),
        ] {
            assert_eq!(carried(&get(&[("content-range", value)]).fields), expected, "{value}");
        }
    }

    #[test]
    fn a_range_is_cut_to_the_whole() {
        for (asks, length, expected) in [
            (Asked::From(0, Some(4)), 10, Some(0..5)),
            (Asked::From(8, Some(99)), 10, Some(8..10)),
            (Asked::From(8, Some(u64::MAX)), 10, Some(8..10)),
            (Asked::From(10, None), 10, None),
            (Asked::Last(3), 10, Some(7..10)),
            (Asked::Last(30), 10, Some(0..10)),
            (Asked::Last(0), 10, None),
            (Asked::Last(1), 0, None),
        ] {
            assert_eq!(asks.of(length), expected, "{asks:?} of {length}");
        }
    }

    #[test]
    fn a_whole_entry_answers_any_part_of_itself() {
        let whole = entry(&[("cache-control", "max-age=60"), ("etag", "\"a\"")], "0123456789");
        let of = |fields: &[(&'static str, &str)]| slice(&whole, &get(fields));

        assert_eq!(of(&[]), Slice::Stored);
        assert_eq!(of(&[("range", "bytes=-3")]), Slice::Bytes { body: 7..10, first: 7, complete: Some(10) });
        assert_eq!(of(&[("range", "bytes=10-")]), Slice::Unsatisfiable(10));
        assert_eq!(of(&[("range", "bytes=0-1,4-5")]), Slice::Stored);
        assert!(matches!(of(&[("range", "bytes=0-1"), ("if-range", "\"a\"")]), Slice::Bytes { .. }));
        for other in ["\"b\"", "W/\"a\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(of(&[("range", "bytes=0-1"), ("if-range", other)]), Slice::Stored, "{other}");
        }
    }

    #[test]
    fn a_part_answers_what_lies_within_it_and_what_it_was_asked_for() {
        let stored = part("bytes=-5", "bytes 4-9/10", "01234");
        let of = |range: &str| slice(&stored, &get(&[("range", range)]));

        assert_eq!(of("bytes=6-8"), Slice::Bytes { body: 2..5, first: 6, complete: Some(10) });
        assert_eq!(of("bytes=-5"), Slice::Stored, "the very same question");
        for beyond in ["bytes=3-5", "bytes=6-", "bytes=8-9", "bytes=-1"] {
            assert_eq!(of(beyond), Slice::Absent, "{beyond}: the tenth byte never came");
        }
        assert_eq!(slice(&stored, &get(&[])), Slice::Absent);
    }
}
