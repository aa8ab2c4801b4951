//! A stored response.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderName;
use http::Method;
use http::StatusCode;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;

use crate::body::Body;
use crate::body::BodyError;
use crate::cache::directives::Members;
use crate::cache::policy::Meta;
use crate::cache::policy::Times;
use crate::cache::policy::gives_lifetime;
use crate::cache::policy::judge_response;
use crate::cache::status::CacheReason;
use crate::config::RouteCache;
use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::RequestHead;
use crate::fields::ResponseHead;

/// What the name of a withheld field costs beyond its bytes: its handle, and what may be behind that.
const NAME_OVERHEAD: usize = 64;

/// What an entry costs beyond its parts: `Head`, `Entry`, `Variants`, moka's key, node and place, and what the
/// allocator adds when it rounds up. Such that `benches/store_memory` finds as much resident as is counted.
const ENTRY_OVERHEAD: usize = 1280;

/// What a piece of a body costs beyond its bytes: its handle, and what its copies share.
const PIECE_OVERHEAD: usize = 2 * size_of::<Bytes>();

/// Smaller bodies are packed into one piece when stored: hits are then written without a vector.
/// Larger ones would hold up everybody else while they are copied: see [`StoredBody::piece`].
const PACKED_BYTES_MAX: u64 = 1 << 20;

/// Fields of a connection, never of a response (RFC 9111 §3.1, RFC 9110 §7.6.1); and Age and our request id, which are
/// written anew each time.
const NOT_STORED: [Known; 12] = [
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::ProxyAuthenticationInfo,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
    Known::Te,
    Known::Trailer,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Age,
    Known::XRequestId,
];

/// The part of a stored response that is known before its body has come.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its terms.
    pub meta: Meta,
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without those that are never stored; packed, so that their text can be sent as it is.
    pub fields: Fields,
}

/// A whole stored response.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What came before the body.
    pub head: Arc<Head>,
    /// Its body.
    pub body: StoredBody,
    /// The number of the last invalidation from before its fetch began; given when it is stored.
    pub(super) born: u64,
}

/// A body in memory, shared by all who read it.
#[derive(Debug, Clone, Default)]
pub struct StoredBody {
    pieces: Arc<[Bytes]>,
    length: u64,
}

/// What a 304 made of an entry.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The entry to store, and the answer for all who wait; its body is the old one's.
    pub entry: Arc<Entry>,
    /// The answer for whom it was validated: with what the 304 said to this client alone.
    pub answer: Arc<Entry>,
    /// The old one's head.
    pub(super) of: Arc<Head>,
    /// Whether it may be kept; the new fields may forbid it.
    pub storable: Result<(), CacheReason>,
}

impl Head {
    /// The head to store for a response that was judged storable.
    pub fn new(meta: Meta, status: StatusCode, fields: &Fields) -> Self {
        let mut fields = storable_fields(fields, &meta.withheld);
        // RFC 9110 §6.6.1: who stores a response without Date gives it one.
        if !fields.has(Known::Date) {
            fields.append(Known::Date, date(meta.received).as_bytes());
        }
        // RFC 9110 §8.6: none where there is no content, and else one number.
        match meta.content_length {
            Some(length) if status != StatusCode::NO_CONTENT => set_length(&mut fields, length),
            _ => fields.remove(Known::ContentLength),
        }
        Self { meta, status, fields: fields.packed() }
    }
}

impl Entry {
    /// The whole response; its fields get a Content-Length if they had none.
    pub fn new(head: Arc<Head>, body: StoredBody) -> Self {
        let has_no_content = head.status == StatusCode::NO_CONTENT;
        if head.fields.has(Known::ContentLength) || has_no_content {
            return Self { head, body, born: 0 };
        }
        let Head { mut meta, status, mut fields } = Arc::unwrap_or_clone(head);
        set_length(&mut fields, body.length);
        meta.content_length = Some(body.length);
        Self { head: Arc::new(Head::new(meta, status, &fields)), body, born: 0 }
    }

    /// Its age in seconds (RFC 9111 §4.2.3).
    pub fn age(&self, now: u64) -> u64 {
        self.head.meta.age(now)
    }

    /// The same, stale from `now` on.
    pub fn stale_from(&self, now: u64) -> Self {
        let mut head = (*self.head).clone();
        head.meta.lifetime = head.meta.lifetime.min(head.meta.age(now));
        head.meta.is_doubted = true;
        self.with_head(head)
    }

    /// The same, not to be served while it is validated.
    pub fn outdated(&self) -> Self {
        let mut head = (*self.head).clone();
        head.meta.stale_while_revalidate = 0;
        self.with_head(head)
    }

    /// The same, of which each use is validated.
    pub fn invalid(&self) -> Self {
        let mut head = (*self.head).clone();
        let meta = &mut head.meta;
        (meta.no_cache, meta.must_revalidate, meta.is_doubted) = (true, true, true);
        (meta.stale_while_revalidate, meta.stale_if_error, meta.stale_if_unreachable) = (0, 0, 0);
        self.with_head(head)
    }

    /// The same with these fields in place of its own of the same names.
    fn with(&self, own: &Fields) -> Self {
        let mut head = (*self.head).clone();
        head.fields.replace(own);
        head.fields = head.fields.packed();
        self.with_head(head)
    }

    fn with_head(&self, head: Head) -> Self {
        Self { head: Arc::new(head), body: self.body.clone(), born: self.born }
    }

    /// Bytes of memory behind it.
    pub fn bytes(&self) -> u64 {
        let Head { meta, fields, .. } = &*self.head;
        let withheld: usize = meta.withheld.iter().map(|name| NAME_OVERHEAD + name.as_str().len()).sum();
        let validators = [&meta.etag, &meta.last_modified].into_iter().flatten();
        let validators: usize = validators.map(|validator| validator.len()).sum();
        let pieces = self.body.pieces.len() * PIECE_OVERHEAD;
        let parts = fields.bytes() + withheld + validators + pieces;
        (ENTRY_OVERHEAD + parts + meta.selection.bytes() + meta.tags.bytes()) as u64 + self.body.length
    }
}

/// What becomes of an entry that the server says has not changed (RFC 9111 §4.3.4, §3.2): every
/// field of the 304 replaces the stored one, Content-Length excepted; terms are read anew. A cookie is for all only if
/// the lifetime is in the same message: the one that was given before was not given to it.
pub fn update_from_304(
    entry: &Entry,
    req: &RequestHead,
    res304: &ResponseHead,
    times: Times,
    rules: &RouteCache,
) -> Refreshed {
    let mut updated =
        ResponseHead { fields: entry.head.fields.clone(), ..ResponseHead::new(entry.head.status) };
    // The old Date would make the entry as old as it was before.
    updated.fields.remove(Known::Date);
    let mut fresh = storable_fields(&res304.fields, &[]);
    fresh.remove(Known::ContentLength);
    let mut own = fresh.clone();
    let is_cookie_for_all = gives_lifetime(res304, times.received, rules);
    if !is_cookie_for_all {
        fresh.remove(Known::SetCookie);
    }
    updated.fields.replace(&fresh);
    // Not stored, but it counts when the terms are judged.
    if let Some(age) = res304.fields.get(Known::Age) {
        updated.fields.set(Known::Age, age);
    }
    let get = req.clone().with(|req| req.method = Method::GET);
    let (meta, storable) = match judge_response(&get, &updated, times, rules) {
        Ok(meta) => (meta, Ok(())),
        Err(reason) => (Meta { received: times.received, ..entry.head.meta.clone() }, Err(reason)),
    };
    let head = Head::new(meta, updated.status, &updated.fields);
    own.retain(|field| {
        head.meta.withheld.iter().any(|name| name.as_str().as_bytes() == field.name())
            || field.known() == Known::SetCookie && !is_cookie_for_all
    });
    let refreshed = Arc::new(Entry::new(Arc::new(head), entry.body.clone()));
    let answer = if own.is_empty() { refreshed.clone() } else { Arc::new(refreshed.with(&own)) };
    Refreshed { entry: refreshed, answer, of: entry.head.clone(), storable }
}

impl StoredBody {
    /// `chunk` as it may be kept when the body was announced with this length. Like fields, chunks are slices of
    /// read buffers, which may be many times as large. Bodies that will be packed at their end are left
    /// alone; others are copied bit by bit, since a copy of the whole would take milliseconds.
    pub(super) fn piece(chunk: Bytes, announced: Option<u64>) -> Bytes {
        let will_be_packed = announced.is_some_and(|length| length <= PACKED_BYTES_MAX);
        if will_be_packed { chunk } else { Bytes::copy_from_slice(&chunk) }
    }

    /// A body of these pieces, in order.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        if length == 0 || length > PACKED_BYTES_MAX {
            let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
            return Self { pieces, length };
        }
        let mut packed = BytesMut::with_capacity(length as usize);
        pieces.iter().for_each(|piece| packed.extend_from_slice(piece));
        Self { pieces: Arc::new([packed.freeze()]), length }
    }

    /// These bytes of it; nothing is copied.
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut at = 0;
        let cut = |piece: &Bytes| {
            let (from, to) = (at, at + piece.len() as u64);
            at = to;
            let inner = range.start.clamp(from, to) - from..range.end.clamp(from, to) - from;
            (inner.start < inner.end).then(|| piece.slice(inner.start as usize..inner.end as usize))
        };
        let pieces: Arc<[Bytes]> = self.pieces.iter().filter_map(cut).collect();
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, length }
    }

    /// It, and another behind it.
    pub fn then(&self, next: &StoredBody) -> Self {
        Self::new(self.pieces.iter().chain(&*next.pieces).cloned().collect())
    }

    /// What it is made of, in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A body to send; nothing is copied.
    pub fn to_body(&self) -> Body {
        match &*self.pieces {
            [] => Body::Empty,
            [only] => Body::full(only.clone()),
            _ => Body::wrap(Pieces { body: self.clone(), next: 0 }),
        }
    }
}

struct Pieces {
    /// `length` is what remains.
    body: StoredBody,
    next: usize,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = self.body.pieces.get(self.next).cloned();
        if let Some(piece) = &piece {
            self.next += 1;
            self.body.length -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.body.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.length)
    }
}

fn storable_fields(fields: &Fields, withheld: &[HeaderName]) -> Fields {
    let named: Vec<Vec<u8>> =
        fields.get_all(Known::Connection).flat_map(Members::new).map(<[u8]>::to_ascii_lowercase).collect();
    // By these it is judged again when it has been validated, whoever is not to have them.
    let governs = |known: Known| matches!(known, Known::Vary | Known::CacheControl);
    let mut kept = fields.clone();
    kept.retain(|field| {
        governs(field.known())
            || !NOT_STORED.contains(&field.known())
                && !named.iter().any(|name| name == field.name())
                && !withheld.iter().any(|name| name.as_str().as_bytes() == field.name())
    });
    kept
}

/// One length, as it is written: servers repeat theirs, or put zeros before it.
fn set_length(fields: &mut Fields, length: u64) {
    let text = length.to_string();
    if !fields.get_all(Known::ContentLength).eq([text.as_bytes()]) {
        fields.set(Known::ContentLength, text.as_bytes());
    }
}

fn date(at: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn entry(fields: &[(&'static str, &str)], body: &'static str) -> Arc<Entry> {
        let (req, parts) = exchange(fields);
        Arc::new(stored(&req, &parts, body.as_bytes()))
    }

    fn stored(req: &RequestHead, res: &ResponseHead, body: &[u8]) -> Entry {
        let times = Times { asked: 100, received: 100 };
        let meta = judge_response(req, res, times, &RouteCache::new(1000)).unwrap();
        let head = Head::new(meta, res.status, &res.fields);
        Entry::new(Arc::new(head), StoredBody::new(vec![Bytes::copy_from_slice(body)]))
    }

    /// What a 206 with this Content-Range left behind that answered this Range.
    pub(crate) fn part(range: &str, content_range: &str, body: &str) -> Entry {
        part_with(range, content_range, body, &[])
    }

    pub(crate) fn part_with(
        range: &str,
        content_range: &str,
        body: &str,
        fields: &[(&'static str, &str)],
    ) -> Entry {
        let (req, mut res) = exchange(fields);
        let req = req.with(|req| req.fields.set(Known::Range, range.as_bytes()));
        res.status = StatusCode::PARTIAL_CONTENT;
        res.fields.set(Known::CacheControl, b"max-age=60");
        res.fields.set(Known::ContentRange, content_range.as_bytes());
        stored(&req, &res, body.as_bytes())
    }

    pub(crate) fn exchange(fields: &[(&'static str, &str)]) -> (RequestHead, ResponseHead) {
        let fields = fields.iter().copied().collect();
        (
            http::Request::new(()).into_parts().0.into(),
            ResponseHead { fields, ..ResponseHead::new(StatusCode::OK) },
        )
    }

    #[test]
    fn fields_of_the_connection_and_withheld_ones_are_not_stored() {
        let entry = entry(
            &[
                ("cache-control", "max-age=60, no-cache=\"x-secret\""),
                ("connection", "close, X-Hop"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("x-hop", "1"),
                ("x-secret", "1"),
                ("age", "3"),
                ("x-kept", "1"),
            ],
            "abc",
        );

        let text = std::str::from_utf8(entry.head.fields.text()).unwrap();
        let date = date(100);
        let expected = format!(
            "cache-control: max-age=60, no-cache=\"x-secret\"\r\nx-kept: 1\r\ndate: {date}\r\ncontent-length: 3\r\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_stored_keeps_no_read_buffer_in_memory() {
        let buffer = Bytes::from(b"head and body".to_vec());
        let times = Times { asked: 100, received: 100 };
        let (req, res) = exchange(&[("etag", "\"a\""), ("cache-control", "max-age=60")]);
        let meta = judge_response(&req, &res, times, &RouteCache::new(1000)).unwrap();
        let head = Head::new(meta, res.status, &res.fields);

        let old = Entry::new(Arc::new(head), StoredBody::new(vec![buffer.slice(buffer.len() - 4..)]));

        assert!(buffer.is_unique());
        assert_eq!(old.body.pieces().concat(), b"body");
    }

    #[test]
    fn an_entry_counts_at_least_what_its_parts_ask_for() {
        let long = "x".repeat(1000);
        let bare = entry(&[("cache-control", "max-age=60")], "abc");
        let withholding = format!("max-age=60, no-cache=\"{long}\"");
        for fields in [
            &[("cache-control", &*withholding)][..],
            &[("cache-control", "max-age=60"), ("vary", &long)],
            &[("cache-control", "max-age=60"), ("x-long", &long)],
        ] {
            let more = entry(fields, "abc").bytes() - bare.bytes();
            assert!(more > 1000, "{fields:?}: {more}");
        }

        let fixed = size_of::<Head>() + size_of::<Entry>() + size_of::<Bytes>();
        assert!(bare.bytes() as usize > fixed + bare.head.fields.bytes() + 3);
    }

    #[test]
    fn a_304_updates_every_field_but_the_length() {
        let old = entry(
            &[("cache-control", "max-age=1"), ("etag", "\"a\""), ("link", "<a>"), ("x-old", "kept")],
            "abc",
        );
        let (req, res304) = exchange(&[
            ("cache-control", "max-age=60"),
            ("content-length", "10"),
            ("link", "<b>"),
            ("link", "<c>"),
            ("x-new", "1"),
        ]);

        let new =
            update_from_304(&old, &req, &res304, Times { asked: 500, received: 500 }, &RouteCache::new(1000));

        assert_eq!(new.storable, Ok(()));
        let head = &new.entry.head;
        assert_eq!(head.fields.get(Known::ContentLength), Some(&b"3"[..]));
        assert_eq!(head.fields.get("x-old"), Some(&b"kept"[..]));
        assert_eq!(head.fields.get("x-new"), Some(&b"1"[..]));
        assert_eq!(head.fields.get_all("link").collect::<Vec<_>>(), [b"<b>", b"<c>"]);
        assert_eq!((head.meta.lifetime, new.entry.age(500)), (60, 0));
    }

    #[test]
    fn a_304_that_forbids_storing_is_still_an_answer() {
        let old = entry(&[("cache-control", "max-age=1"), ("etag", "\"a\"")], "abc");
        let (req, res304) = exchange(&[("cache-control", "no-store")]);

        let new =
            update_from_304(&old, &req, &res304, Times { asked: 500, received: 500 }, &RouteCache::new(1000));

        assert_eq!(new.storable, Err(CacheReason::NoStore));
        assert_eq!(new.entry.body.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn a_slice_is_those_bytes(cuts in proptest::collection::vec(0usize..5, 0..6), a in 0u64..20, b in 0u64..20) {
            let mut all = Vec::new();
            let pieces = cuts.iter().map(|&length| {
                let piece: Vec<u8> = (0..length).map(|n| (all.len() + n) as u8).collect();
                all.extend_from_slice(&piece);
                Bytes::from(piece)
            });
            let body = StoredBody { pieces: pieces.collect(), length: cuts.iter().sum::<usize>() as u64 };
            let clamp = |n: u64| n.min(all.len() as u64) as usize;
            let expected = all.get(clamp(a)..clamp(b)).unwrap_or_default();

            let slice = body.slice(a..b);
            proptest::prop_assert_eq!(slice.pieces().concat(), expected);
            proptest::prop_assert_eq!(slice.len(), expected.len() as u64);
        }
    }
}
