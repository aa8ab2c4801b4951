//! A stored response, as the client gets it.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::response;

use crate::answer::Answer;
use crate::answer::Written;
use crate::body::Body;
use crate::cache::combine::content_range;
use crate::cache::entry::Entry;
use crate::cache::entry::Head;
use crate::cache::flight::Reader;
use crate::cache::policy::Conditional;
use crate::cache::policy::conditional;
use crate::cache::range::Slice;
use crate::cache::range::slice;
use crate::fields::RequestHead;

/// RFC 9110 §15.4.5: what describes content that is not there only costs bytes.
const OF_CONTENT: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
];

/// Answers `req` from an entry of this age: whole, a part (RFC 9110 §14.2), 304 (RFC 9111 §4.3.2), or
/// to HEAD without a body. Age is set (RFC 9111 §5.1), Date left as it was.
pub fn respond(entry: &Entry, req: &RequestHead, age: u64) -> Answer {
    let stored = &*entry.head;
    if conditional(req, stored.status, &stored.meta) == Conditional::NotModified {
        return not_modified(head(stored, age)).into();
    }
    match slice(entry, req) {
        // A part that does not answer is not found in the first place.
        Slice::Stored | Slice::Absent if req.method == Method::HEAD => head(stored, age).into(),
        Slice::Stored | Slice::Absent => whole(entry, age),
        Slice::Bytes { body, first, complete } => {
            let mut response = head(stored, age);
            let length = body.end - body.start;
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_RANGE, content_range(first, first + length, complete));
            headers.insert(header::CONTENT_LENGTH, length.into());
            *response.body_mut() = entry.body.slice(body).to_body();
            response.into()
        }
        Slice::Unsatisfiable(length) => {
            let mut response = head(stored, age);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let headers = response.headers_mut();
            without_content(headers);
            headers.insert(header::CONTENT_LENGTH, 0.into());
            headers.insert(header::CONTENT_RANGE, unsatisfied(length));
            response.into()
        }
    }
}

/// The stored response as it is: its head is ready but for the age.
fn whole(entry: &Entry, age: u64) -> Answer {
    let stored = &*entry.head;
    let mut written = Written::again(stored.status, &stored.text, stored.meta.content_length);
    written.put_number(&header::AGE, age);
    let mut answer = Answer::from(written);
    answer.body = entry.body.to_body();
    answer
}

/// Answers `req` from a response that is still arriving; a range is not taken out of it (RFC 9110
/// §14.2 lets a server ignore `Range`).
pub fn respond_stream(stored: &Head, req: &RequestHead, age: u64, reader: Reader) -> Answer {
    let mut response = head(stored, age);
    if conditional(req, stored.status, &stored.meta) == Conditional::NotModified {
        response = not_modified(response);
    } else if req.method != Method::HEAD {
        *response.body_mut() = Body::wrap(reader);
    }
    response.into()
}

/// For the request that a response was fetched for: what the server sent, or 304 in its place if that is what the
/// client's own conditions come to.
pub fn respond_first(stored: &Head, req: &RequestHead, parts: &mut response::Parts, body: &mut Body) {
    // RFC 9110 §13.1.2, §13.1.3: of another method the conditions are the server's to judge.
    let is_read = matches!(req.method, Method::GET | Method::HEAD);
    if is_read && conditional(req, stored.status, &stored.meta) == Conditional::NotModified {
        parts.status = StatusCode::NOT_MODIFIED;
        // The server's phrase is for another status.
        parts.extensions.clear();
        without_content(&mut parts.headers);
        *body = Body::Empty;
    }
}

fn head(stored: &Head, age: u64) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = stored.status;
    *response.headers_mut() = stored.headers.clone();
    response.headers_mut().insert(header::AGE, HeaderValue::from(age));
    response
}

fn not_modified(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    without_content(response.headers_mut());
    response
}

fn without_content(headers: &mut HeaderMap) {
    for name in &OF_CONTENT {
        headers.remove(name);
    }
}

/// RFC 9110 §15.5.17.
fn unsatisfied(length: u64) -> HeaderValue {
    let text = format!("bytes */{length}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}
