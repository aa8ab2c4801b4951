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
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use http::response;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;

use crate::answer::Written;
use crate::body::Body;
use crate::body::BodyError;
use crate::cache::directives::Members;
use crate::cache::policy::Meta;
use crate::cache::policy::Times;
use crate::cache::policy::judge_response;
use crate::cache::status::CacheReason;
use crate::config::RouteCache;
use crate::fields::RequestHead;

/// What a header line costs beyond its bytes: a slot of the map (104 bytes, with both handles), its
/// places in the map's index, and the handle behind a name that is not a usual one.
const LINE_OVERHEAD: usize = 128;

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
const NOT_STORED: [HeaderName; 12] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::AGE,
    HeaderName::from_static("x-request-id"),
];

/// The part of a stored response that is known before its body has come.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its terms.
    pub meta: Meta,
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without those that are never stored.
    pub headers: HeaderMap,
    /// The same as HTTP/1.1 writes them, behind their status line. The values of `headers` are slices of it.
    pub text: Bytes,
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
    /// The entry to answer with; its body is the old one's.
    pub entry: Arc<Entry>,
    /// The old one's head.
    pub(super) of: Arc<Head>,
    /// Whether it may be kept; the new fields may forbid it.
    pub storable: Result<(), CacheReason>,
}

impl Head {
    /// The head to store for a response that was judged storable.
    pub fn new(mut meta: Meta, status: StatusCode, headers: &HeaderMap) -> Self {
        let mut headers = storable_fields(headers, &meta.withheld);
        // RFC 9110 §6.6.1: who stores a response without Date gives it one.
        if !headers.contains_key(header::DATE) {
            headers.insert(header::DATE, date(meta.received));
        }
        let (headers, text) = packed(status, &headers);
        meta.etag = meta.etag.map(|etag| shared(&headers, &header::ETAG, etag));
        meta.last_modified = meta.last_modified.map(|at| shared(&headers, &header::LAST_MODIFIED, at));
        Self { meta, status, headers, text }
    }
}

impl Entry {
    /// The whole response; its fields get a Content-Length if they had none.
    pub fn new(head: Arc<Head>, body: StoredBody) -> Self {
        let has_no_content = head.status == StatusCode::NO_CONTENT;
        if head.headers.contains_key(header::CONTENT_LENGTH) || has_no_content {
            return Self { head, body, born: 0 };
        }
        let Head { mut meta, status, mut headers, .. } = Arc::unwrap_or_clone(head);
        headers.insert(header::CONTENT_LENGTH, body.length.into());
        meta.content_length = Some(body.length);
        Self { head: Arc::new(Head::new(meta, status, &headers)), body, born: 0 }
    }

    /// Its age in seconds (RFC 9111 §4.2.3).
    pub fn age(&self, now: u64) -> u64 {
        self.head.meta.age(now)
    }

    /// The same, stale from `now` on.
    pub fn stale_from(&self, now: u64) -> Self {
        let mut head = (*self.head).clone();
        head.meta.lifetime = head.meta.lifetime.min(head.meta.age(now));
        self.with_head(head)
    }

    /// The same, of which each use is validated.
    pub fn invalid(&self) -> Self {
        let mut head = (*self.head).clone();
        (head.meta.no_cache, head.meta.must_revalidate) = (true, true);
        let meta = &mut head.meta;
        (meta.stale_while_revalidate, meta.stale_if_error, meta.stale_if_unreachable) = (0, 0, 0);
        self.with_head(head)
    }

    fn with_head(&self, head: Head) -> Self {
        Self { head: Arc::new(head), body: self.body.clone(), born: self.born }
    }

    /// Bytes of memory behind it.
    pub fn bytes(&self) -> u64 {
        let Head { meta, headers, text, .. } = &*self.head;
        let fields: usize = headers.keys().map(|name| LINE_OVERHEAD + name.as_str().len()).sum();
        let fields = fields + text.len();
        let withheld: usize = meta.withheld.iter().map(|name| LINE_OVERHEAD + name.as_str().len()).sum();
        let pieces = self.body.pieces.len() * PIECE_OVERHEAD;
        (ENTRY_OVERHEAD + fields + withheld + pieces + meta.selection.bytes() + meta.tags.bytes()) as u64
            + self.body.length
    }
}

/// What becomes of an entry that the server says has not changed (RFC 9111 §4.3.4, §3.2): every
/// field of the 304 replaces the stored one, Content-Length excepted; terms are read anew.
pub fn update_from_304(
    entry: &Entry,
    req: &RequestHead,
    res304: &response::Parts,
    times: Times,
    rules: &RouteCache,
) -> Refreshed {
    let mut headers = entry.head.headers.clone();
    // The old Date would make the entry as old as it was before.
    headers.remove(header::DATE);
    let mut fresh = storable_fields(&res304.headers, &[]);
    fresh.remove(header::CONTENT_LENGTH);
    for name in fresh.keys() {
        headers.remove(name);
    }
    for (name, value) in &fresh {
        headers.append(name.clone(), value.clone());
    }
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = entry.head.status;
    parts.headers = headers;
    // Not stored, but it counts when the terms are judged.
    if let Some(age) = res304.headers.get(header::AGE) {
        parts.headers.insert(header::AGE, age.clone());
    }
    let mut get = http::Request::new(()).into_parts().0;
    get.headers = req.headers.clone();
    let get = RequestHead::new(get);
    let (meta, storable) = match judge_response(&get, &parts, times, rules) {
        Ok(meta) => (meta, Ok(())),
        Err(reason) => (Meta { received: times.received, ..entry.head.meta.clone() }, Err(reason)),
    };
    let head = Head::new(meta, parts.status, &parts.headers);
    let refreshed = Entry::new(Arc::new(head), entry.body.clone());
    Refreshed { entry: Arc::new(refreshed), of: entry.head.clone(), storable }
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

fn storable_fields(headers: &HeaderMap, withheld: &[HeaderName]) -> HeaderMap {
    let mut kept = headers.clone();
    for line in headers.get_all(header::CONNECTION) {
        for name in Members::new(line.as_bytes()).filter_map(|m| HeaderName::from_bytes(m).ok()) {
            kept.remove(name);
        }
    }
    for name in NOT_STORED.iter().chain(withheld) {
        kept.remove(name);
    }
    kept
}

/// The same fields, and the text that they make, in one piece of memory of the right size. As they come, values are slices
/// of what a connection has read: kept for long, a date of 29 bytes would keep 8 KiB or more, which nobody counts.
fn packed(status: StatusCode, headers: &HeaderMap) -> (HeaderMap, Bytes) {
    // A clone has no spare room either.
    let mut headers = headers.clone();
    let mut written = Written::new(status, None, 0);
    let mut put = |(name, value): (&HeaderName, &HeaderValue)| {
        let before = written.text().len();
        written.put(name, value.as_bytes());
        let end = written.text().len().checked_sub(b"\r\n".len()).filter(|end| *end > before);
        end.map(|end| end - value.len()..end)
    };
    let places: Vec<_> = headers.iter().map(&mut put).collect();
    let text = Bytes::from(written.into_text().into_boxed_slice());
    for (value, place) in headers.values_mut().zip(places) {
        // What is not written is a length where there is no body.
        let bytes = place.map_or_else(|| Bytes::copy_from_slice(value.as_bytes()), |place| text.slice(place));
        *value = with_bytes(value, bytes);
    }
    (headers, text)
}

/// The validator as the stored field that it came from; a copy if that is not stored.
fn shared(headers: &HeaderMap, name: &HeaderName, validator: HeaderValue) -> HeaderValue {
    match headers.get(name) {
        Some(stored) if *stored == validator => stored.clone(),
        _ => with_bytes(&validator, Bytes::copy_from_slice(validator.as_bytes())),
    }
}

/// `value` in other memory.
fn with_bytes(value: &HeaderValue, bytes: Bytes) -> HeaderValue {
    debug_assert_eq!(value.as_bytes(), &bytes[..]);
    let mut other = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
    other.set_sensitive(value.is_sensitive());
    other
}

fn date(at: u64) -> HeaderValue {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn entry(fields: &[(&'static str, &str)], body: &'static str) -> Arc<Entry> {
        let (req, parts) = exchange(fields);
        Arc::new(stored(&req, &parts, body.as_bytes()))
    }

    fn stored(req: &RequestHead, res: &response::Parts, body: &[u8]) -> Entry {
        let times = Times { asked: 100, received: 100 };
        let meta = judge_response(req, res, times, &RouteCache::new(1000)).unwrap();
        let head = Head::new(meta, res.status, &res.headers);
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
        let req = req.with(|parts| drop(parts.headers.insert(header::RANGE, range.parse().unwrap())));
        res.status = StatusCode::PARTIAL_CONTENT;
        res.headers.insert(header::CACHE_CONTROL, "max-age=60".parse().unwrap());
        res.headers.insert(header::CONTENT_RANGE, content_range.parse().unwrap());
        stored(&req, &res, body.as_bytes())
    }

    pub(crate) fn exchange(fields: &[(&'static str, &str)]) -> (RequestHead, response::Parts) {
        let mut parts = http::Response::new(()).into_parts().0;
        for (name, value) in fields {
            parts.headers.append(*name, value.parse().unwrap());
        }
        (http::Request::new(()).into_parts().0.into(), parts)
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

        let mut names: Vec<_> = entry.head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "content-length", "date", "x-kept"]);
        assert_eq!(entry.head.headers[header::CONTENT_LENGTH], "3");
    }

    /// Head and body as slices of one read buffer, as an HTTP/1 client hands them over.
    fn exchange_in(buffer: &Bytes, fields: &[(&'static str, &str)]) -> (RequestHead, response::Parts) {
        let (req, mut parts) = exchange(&[]);
        for (name, value) in fields {
            let at = memchr::memmem::find(buffer, value.as_bytes()).unwrap();
            let value = HeaderValue::from_maybe_shared(buffer.slice(at..at + value.len())).unwrap();
            parts.headers.append(*name, value);
        }
        (req, parts)
    }

    #[test]
    fn what_is_stored_keeps_no_read_buffer_in_memory() {
        let modified = "Tue, 14 Nov 2023 22:13:20 GMT";
        let fields =
            [("etag", "\"a\""), ("last-modified", modified), ("cache-control", "max-age=60"), ("x-a", "1")];
        // The second head withholds its own validator.
        for control in ["max-age=60", "max-age=60, no-cache=\"etag, last-modified\""] {
            let fields = fields.map(|(n, v)| if n == "cache-control" { (n, control) } else { (n, v) });
            let buffer = Bytes::from(fields.map(|(_, value)| value).concat() + "body");
            let times = Times { asked: 100, received: 100 };
            let (req, parts) = exchange_in(&buffer, &fields);
            let meta = judge_response(&req, &parts, times, &RouteCache::new(1000)).unwrap();
            let head = Head::new(meta, parts.status, &parts.headers);
            let old = Entry::new(Arc::new(head), StoredBody::new(vec![buffer.slice(buffer.len() - 4..)]));
            let new = update_from_304(&old, &req, &parts, times, &RouteCache::new(1000)).entry;
            drop(parts);

            assert!(buffer.is_unique(), "{control}");
            assert_eq!(new.head.meta.etag.as_ref().unwrap(), "\"a\"");
            assert_eq!(new.head.meta.last_modified.as_ref().unwrap(), modified);
            assert_eq!(new.head.headers["x-a"], "1");
        }
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
            assert!(more > 1000 + size_of::<HeaderName>() as u64, "{fields:?}: {more}");
        }

        let slot = size_of::<(HeaderName, HeaderValue)>() + 4 * size_of::<usize>();
        let fixed = size_of::<Head>() + size_of::<Entry>() + size_of::<Bytes>();
        assert!(bare.bytes() as usize > fixed + bare.head.headers.len() * slot + 3);
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
        assert_eq!(head.headers[header::CONTENT_LENGTH], "3");
        assert_eq!(head.headers["x-old"], "kept");
        assert_eq!(head.headers["x-new"], "1");
        assert_eq!(head.headers.get_all("link").iter().collect::<Vec<_>>(), ["<b>", "<c>"]);
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
