//! A range is never outside the body, and its bytes are those of the whole at that place.
//!
//! The lines: `Range` of a client, the length of the whole, `Range` that a part was asked for with, `Content-Range` that it
//! came with.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tidegate::cache::policy::{Times, judge_response};
use tidegate::cache::range::{Asked, Slice, asked, carried, slice};
use tidegate::cache::{Entry, Head, StoredBody};
use tidegate::config::RouteCache;
use tidegate::fields::RequestHead;

use super::head;

/// Bytes of a whole that is made for a test.
const WHOLE_BYTES_MAX: u64 = 4096;

pub fn holds(data: &[u8]) {
    let mut lines = data.split(|&b| b == b'\n').map(head::value);
    let mut next = || lines.next().flatten();
    let Some(range) = next() else { return };
    let length = next().and_then(|line| line.to_str().ok()?.parse::<u64>().ok()).unwrap_or(10);

    let headers = HeaderMap::from_iter([(RANGE, range.clone())]);
    let found = asked(&get(&headers));
    assert_eq!(found, read(range.as_bytes()), "{range:?}");
    if let Some(asks) = found {
        is_within(asks, length);
    }
    if let Some(whole) = entry(StatusCode::OK, length.min(WHOLE_BYTES_MAX), &HeaderMap::new(), &headers, 0) {
        answers_rightly(&whole, &headers, 0);
    }
    if let (Some(asked), Some(part)) = (next(), next()) {
        answers_from_a_part(asked, part, &headers);
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
fn entry(
    status: StatusCode,
    length: u64,
    fields: &HeaderMap,
    asked: &HeaderMap,
    first: u64,
) -> Option<Entry> {
    let mut res = Response::new(()).into_parts().0;
    res.status = status;
    res.headers = fields.clone();
    res.headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    let times = Times { asked: 1_000_000_000, received: 1_000_000_000 };
    let meta = judge_response(&get(asked), &res, times, &RouteCache::new(1 << 20)).ok()?;
    let whole: Vec<u8> = (first..first + length).map(byte).collect();
    let (one, other) = whole.split_at(whole.len() / 2);
    let body = StoredBody::new(vec![Bytes::copy_from_slice(one), Bytes::copy_from_slice(other)]);
    Some(Entry::new(Arc::new(Head::new(meta, status, &res.headers)), body))
}

fn get(headers: &HeaderMap) -> RequestHead {
    RequestHead::new(Request::new(()).into_parts().0).with(|parts| parts.headers = headers.clone())
}

/// `first` is the place in the whole of the entry's first byte.
fn answers_rightly(entry: &Entry, headers: &HeaderMap, first_byte: u64) {
    match slice(entry, &get(headers)) {
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

fn answers_from_a_part(range: HeaderValue, content_range: HeaderValue, asked: &HeaderMap) {
    let fields = HeaderMap::from_iter([(CONTENT_RANGE, content_range)]);
    let Some((first, last, complete)) = carried(&fields) else { return };
    assert!(first <= last && complete.is_none_or(|complete| last < complete));
    let length = last - first;
    if length >= WHOLE_BYTES_MAX || last == u64::MAX {
        return;
    }
    let of_part = HeaderMap::from_iter([(RANGE, range)]);
    if let Some(part) = entry(StatusCode::PARTIAL_CONTENT, length + 1, &fields, &of_part, first) {
        answers_rightly(&part, asked, first);
    }
}
