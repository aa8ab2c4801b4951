//! A range is never outside the body, and its bytes are those of the whole at that place.
//!
//! The lines: `Range` of a client, the length of the whole, `Range` that a part was asked for with, `Content-Range` that it
//! came with.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tidegate::cache::policy::{Times, judge_response};
use tidegate::cache::range::{Asked, Slice, asked, carried, slice};
use tidegate::cache::{Entry, Head, StoredBody};
use tidegate::config::RouteCache;
use tidegate::fields::{Fields, ResponseHead};

use super::head;

/// Bytes of a whole that is made for a test.
const WHOLE_BYTES_MAX: u64 = 4096;

pub fn holds(data: &[u8]) {
    let mut lines = data.split(|&b| b == b'\n').map(head::value);
    let mut next = || lines.next().flatten();
    let Some(range) = next() else { return };
    let length = next().and_then(|line| std::str::from_utf8(line).ok()?.parse::<u64>().ok()).unwrap_or(10);

    let fields = Fields::from_iter([("range", range)]);
    let found = asked(&head::get(&fields));
    assert_eq!(found, read(range), "{fields:?}");
    if let Some(asks) = found {
        is_within(asks, length);
    }
    if let Some(whole) = entry(StatusCode::OK, length.min(WHOLE_BYTES_MAX), &Fields::new(), &fields, 0) {
        answers_rightly(&whole, &fields, 0);
    }
    if let (Some(asked), Some(part)) = (next(), next()) {
        answers_from_a_part(asked, part, &fields);
    }
}

/// RFC 9110 section 14.1.2, one range: the unit, then `FIRST-`, `FIRST-LAST` or `-LAST`.
fn read(range: &[u8]) -> Option<Asked> {
    let text: String = range.iter().map(|&b| char::from(b)).collect();
    let at = text.find('=')?;
    if !text[..at].trim_matches([' ', '\t']).eq_ignore_ascii_case("bytes") {
        return None;
    }
    let spec: Vec<&str> = text[at + 1..].split('-').map(|part| part.trim_matches([' ', '\t'])).collect();
    let number = |part: &str| {
        let is_number = !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        part.trim_start_matches('0').len().le(&20).then_some(())?;
        if is_number { u64::try_from(part.parse::<u128>().ok()?).ok() } else { None }
    };
    match spec[..] {
        ["", last] => Some(Asked::Last(number(last)?)),
        [first, ""] => Some(Asked::From(number(first)?, None)),
        [first, last] => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::From(first, Some(last)))
        }
        _ => None,
    }
}

fn is_within(asks: Asked, length: u64) {
    let wide = u128::from;
    let expected = match asks {
        Asked::From(first, last) => (wide(first), last.map_or(wide(length), |last| wide(last) + 1)),
        Asked::Last(count) => (wide(length).saturating_sub(wide(count)), wide(length)),
    };
    let (first, end) = (expected.0, expected.1.min(wide(length)));
    match asks.of(length) {
        Some(range) => assert_eq!((wide(range.start), wide(range.end)), (first, end)),
        None => assert!(first >= end, "{asks:?} of {length}"),
    }
    assert!(asks.of(length).is_none_or(|range| range.start < range.end && range.end <= length));
}

/// The byte at a place of the whole.
fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

/// A response as it would be stored, if it would be.
fn entry(status: StatusCode, length: u64, fields: &Fields, asked: &Fields, first: u64) -> Option<Entry> {
    let mut res = ResponseHead { fields: fields.clone(), ..ResponseHead::new(status) };
    res.fields.append("cache-control", b"max-age=60");
    let times = Times { asked: 1_000_000_000, received: 1_000_000_000 };
    let meta = judge_response(&head::get(asked), &res, times, &RouteCache::new(1 << 20)).ok()?;
    let whole: Vec<u8> = (first..first + length).map(byte).collect();
    let (one, other) = whole.split_at(whole.len() / 2);
    let body = StoredBody::new(vec![Bytes::copy_from_slice(one), Bytes::copy_from_slice(other)]);
    Some(Entry::new(Arc::new(Head::new(meta, status, &res.fields)), body))
}

/// `first` is the place in the whole of the entry's first byte.
fn answers_rightly(entry: &Entry, asked: &Fields, first_byte: u64) {
    match slice(entry, &head::get(asked)) {
        Slice::Bytes { body, first, complete } => {
            assert!(body.start < body.end && body.end <= entry.body.len());
            assert_eq!(first, first_byte + body.start);
            let length = body.end - body.start;
            assert!(complete.is_none_or(|complete| first + length <= complete));
            let answer: Vec<u8> = entry.body.slice(body).pieces().concat();
            assert!(answer.iter().copied().eq((first..first + length).map(byte)));
        }
        Slice::Unsatisfiable(length) => assert_eq!(length, entry.body.len()),
        Slice::Stored | Slice::Absent => {}
    }
}

fn answers_from_a_part(range: &[u8], content_range: &[u8], asked: &Fields) {
    let fields = Fields::from_iter([("content-range", content_range)]);
    let Some((first, last, complete)) = carried(&fields) else { return };
    assert!(first <= last && complete.is_none_or(|complete| last < complete));
    let length = last - first;
    if length >= WHOLE_BYTES_MAX || last == u64::MAX {
        return;
    }
    let of_part = Fields::from_iter([("range", range)]);
    if let Some(part) = entry(StatusCode::PARTIAL_CONTENT, length + 1, &fields, &of_part, first) {
        answers_rightly(&part, asked, first);
    }
}
