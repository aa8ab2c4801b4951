//! A stored response, as the client gets it.

use http::Method;
use http::StatusCode;

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
use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::RequestHead;
use crate::fields::ResponseHead;

/// RFC 9110 §15.4.5: what describes content that is not there only costs bytes.
const OF_CONTENT: [&str; 5] =
    ["content-length", "content-type", "content-encoding", "content-language", "content-range"];

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
            let mut part = head(stored, age);
            let length = body.end - body.start;
            part.status = StatusCode::PARTIAL_CONTENT;
            part.fields.set(Known::ContentRange, content_range(first, first + length, complete).as_bytes());
            part.fields.set(Known::ContentLength, length.to_string().as_bytes());
            let mut answer = Answer::from(part);
            answer.body = entry.body.slice(body).to_body();
            answer
        }
        Slice::Unsatisfiable(length) => {
            let mut none = head(stored, age);
            none.status = StatusCode::RANGE_NOT_SATISFIABLE;
            without_content(&mut none.fields);
            none.fields.append(Known::ContentLength, b"0");
            // RFC 9110 §15.5.17.
            none.fields.append(Known::ContentRange, format!("bytes */{length}").as_bytes());
            none.into()
        }
    }
}

/// The stored response as it is: its head is ready but for the age.
fn whole(entry: &Entry, age: u64) -> Answer {
    let stored = &*entry.head;
    let mut written = Written::stored(stored.status, stored.fields.text(), stored.meta.content_length);
    written.put_number(Known::Age.into(), age);
    let mut answer = Answer::from(written);
    answer.body = entry.body.to_body();
    answer
}

/// Answers `req` from a response that is still arriving; a range is not taken out of it (RFC 9110
/// §14.2 lets a server ignore `Range`).
pub fn respond_stream(stored: &Head, req: &RequestHead, age: u64, reader: Reader) -> Answer {
    let head = head(stored, age);
    if conditional(req, stored.status, &stored.meta) == Conditional::NotModified {
        return not_modified(head).into();
    }
    let mut answer = Answer::from(head);
    if req.method != Method::HEAD {
        answer.body = Body::wrap(reader);
    }
    answer
}

/// For the request that a response was fetched for: what the server sent, or 304 in its place if that is what the
/// client's own conditions come to.
pub fn respond_first(stored: &Head, req: &RequestHead, parts: &mut ResponseHead, body: &mut Body) {
    // RFC 9110 §13.1.2, §13.1.3: of another method the conditions are the server's to judge.
    let is_read = matches!(req.method, Method::GET | Method::HEAD);
    if is_read && conditional(req, stored.status, &stored.meta) == Conditional::NotModified {
        parts.status = StatusCode::NOT_MODIFIED;
        // The server's phrase is for another status.
        parts.reason = None;
        without_content(&mut parts.fields);
        *body = Body::Empty;
    }
}

fn head(stored: &Head, age: u64) -> ResponseHead {
    let mut fields = stored.fields.clone();
    fields.append(Known::Age, age.to_string().as_bytes());
    ResponseHead { fields, ..ResponseHead::new(stored.status) }
}

fn not_modified(mut head: ResponseHead) -> ResponseHead {
    head.status = StatusCode::NOT_MODIFIED;
    without_content(&mut head.fields);
    head
}

fn without_content(fields: &mut Fields) {
    OF_CONTENT.iter().for_each(|name| fields.remove(*name));
}
