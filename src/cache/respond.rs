//! A stored response, as the client gets it.

use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request;

use crate::body::Body;
use crate::cache::entry::Entry;
use crate::cache::entry::Head;
use crate::cache::flight::Reader;
use crate::cache::policy::Conditional;
use crate::cache::policy::conditional;

/// Answers `req` from an entry of this age: whole, 304 (RFC 9111 §4.3.2), or to HEAD without a
/// body. Age is set (RFC 9111 §5.1), Date left as it was.
pub fn respond(entry: &Entry, req: &request::Parts, age: u64) -> Response<Body> {
    answer(&entry.head, req, age, || entry.body.to_body())
}

/// Answers `req` from a response that is still arriving.
pub fn respond_stream(head: &Head, req: &request::Parts, age: u64, reader: Reader) -> Response<Body> {
    answer(head, req, age, || Body::wrap(reader))
}

fn answer(head: &Head, req: &request::Parts, age: u64, body: impl FnOnce() -> Body) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.clone();
    response.headers_mut().insert(header::AGE, HeaderValue::from(age));
    if conditional(req, head.status, &head.meta) == Conditional::NotModified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        // RFC 9110 §15.4.5: what describes content that is not there only costs bytes.
        for name in [
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
            header::CONTENT_RANGE,
        ] {
            response.headers_mut().remove(name);
        }
    } else if req.method != Method::HEAD {
        *response.body_mut() = body();
    }
    response
}
