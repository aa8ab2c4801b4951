//! Two parts of one representation become a larger one (RFC 9111 §3.4, RFC 9110 §15.3.7.3).

use std::sync::Arc;

use http::StatusCode;

use crate::cache::entry::Entry;
use crate::cache::entry::Head;
use crate::cache::range::Part;
use crate::fields::Known;

/// Pieces of a combined body: a client that asks for a byte at a time gets no further with each than with the first.
const PIECES_MAX: usize = 256;

/// What `new` and an `old` stored part are together, if they have one strong entity tag, and overlap or
/// touch; the whole response, if nothing is missing any more. Fields are those of the newer one, and
/// those that only the older one has. Not more than the route stores, nor in more than
/// [`PIECES_MAX`].
pub fn combine(old: &Entry, new: &Entry) -> Option<Entry> {
    let (a, b) = (old.head.meta.part.as_ref()?, new.head.meta.part.as_ref()?);
    let is_same = old.head.meta.strong_etag()? == new.head.meta.strong_etag()?;
    let complete = match (a.complete, b.complete) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => b.or(a),
    };
    let (a_end, b_end) = (a.first + old.body.len(), b.first + new.body.len());
    if !is_same || a.first > b_end || b.first > a_end || complete.is_some_and(|c| a_end.max(b_end) > c) {
        return None;
    }
    let (first, end) = (a.first.min(b.first), a_end.max(b_end));
    if end - first > b.object_max {
        return None;
    }
    let before = old.body.slice(0..b.first.saturating_sub(a.first));
    let after = old.body.slice(b_end.clamp(a.first, a_end) - a.first..old.body.len());
    let body = before.then(&new.body).then(&after);
    if body.pieces().len() > PIECES_MAX {
        return None;
    }

    let (mut meta, mut status, mut fields) =
        (new.head.meta.clone(), old.head.status, old.head.fields.clone());
    fields.replace(&new.head.fields);
    meta.content_length = Some(body.len());
    fields.set(Known::ContentLength, body.len().to_string().as_bytes());
    if first == 0 && complete == Some(end) {
        meta.part = None;
        status = StatusCode::OK;
        fields.remove(Known::ContentRange);
    } else {
        let asked = format!("bytes={first}-{}", end - 1).into_bytes().into();
        fields.set(Known::ContentRange, content_range(first, end, complete).as_bytes());
        meta.part = Some(Part { first, complete, asked, object_max: b.object_max });
    }
    Some(Entry { head: Arc::new(Head::new(meta, status, &fields)), body, born: old.born.min(new.born) })
}

/// `Content-Range` of the bytes from `first` to before `end` (RFC 9110 §14.4).
pub fn content_range(first: u64, end: u64, complete: Option<u64>) -> String {
    let last = end.saturating_sub(1);
    match complete {
        Some(complete) => format!("bytes {first}-{last}/{complete}"),
        None => format!("bytes {first}-{last}/*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::part_with;

    const TAG: &[(&str, &str)] = &[("etag", "\"a\"")];

    fn bytes(entry: &Entry) -> String {
        let pieces = entry.body.pieces().concat();
        String::from_utf8(pieces).unwrap()
    }

    #[test]
    fn parts_that_touch_or_overlap_become_one() {
        let whole = "0123456789";
        for ((a, b), (c, d), expected) in [
            ((0, 5), (5, 8), Some("bytes 0-7/10")),
            ((5, 8), (0, 5), Some("bytes 0-7/10")),
            ((0, 5), (3, 8), Some("bytes 0-7/10")),
            ((3, 8), (0, 5), Some("bytes 0-7/10")),
            ((0, 8), (2, 4), Some("bytes 0-7/10")),
            ((2, 4), (0, 8), Some("bytes 0-7/10")),
            ((2, 4), (2, 4), Some("bytes 2-3/10")),
            ((0, 4), (5, 8), None),
            ((5, 8), (0, 4), None),
        ] {
            let make = |from: usize, to: usize| {
                let range = format!("bytes={from}-{}", to - 1);
                part_with(&range, &format!("bytes {from}-{}/10", to - 1), &whole[from..to], TAG)
            };
            let combined = combine(&make(a, b), &make(c, d));
            let found = combined.as_ref().and_then(|entry| entry.head.fields.get(Known::ContentRange));
            assert_eq!(found, expected.map(str::as_bytes), "{a}..{b} and {c}..{d}");
            if let Some(entry) = combined {
                assert_eq!(bytes(&entry), whole[a.min(c)..b.max(d)]);
                assert_eq!(entry.head.status, StatusCode::PARTIAL_CONTENT);
            }
        }
    }

    #[test]
    fn the_last_missing_part_makes_a_whole_response() {
        let old = part_with(
            "bytes=0-4",
            "bytes 0-4/10",
            "01234",
            &[("etag", "\"a\""), ("x-old", "1"), ("x-a", "1")],
        );
        let new = part_with("bytes=5-", "bytes 5-9/*", "56789", &[("etag", "\"a\""), ("x-a", "2")]);

        let whole = combine(&old, &new).unwrap();

        assert_eq!((whole.head.status, bytes(&whole).as_str()), (StatusCode::OK, "0123456789"));
        assert!(whole.head.meta.part.is_none() && !whole.head.fields.has(Known::ContentRange));
        assert_eq!(whole.head.fields.get(Known::ContentLength), Some(&b"10"[..]));
        let field = |name: &str| whole.head.fields.get(name);
        assert_eq!((field("x-old"), field("x-a")), (Some(&b"1"[..]), Some(&b"2"[..])));
    }

    #[test]
    fn parts_of_different_things_stay_apart() {
        let old = part_with("bytes=0-4", "bytes 0-4/10", "01234", TAG);
        for (range, fields) in [
            ("bytes 5-9/10", &[("etag", "\"b\"")][..]),
            ("bytes 5-9/10", &[("etag", "W/\"a\"")]),
            ("bytes 5-9/10", &[]),
            ("bytes 5-9/11", TAG),
        ] {
            let new = part_with("bytes=5-", range, "56789", fields);
            assert!(combine(&old, &new).is_none(), "{range} {fields:?}");
        }
        let mut large = part_with("bytes=5-", "bytes 5-9/10", "56789", TAG);
        let head = Arc::make_mut(&mut large.head);
        head.meta.part.as_mut().unwrap().object_max = 9;
        assert!(combine(&old, &large).is_none(), "more than the route stores");
    }
}
