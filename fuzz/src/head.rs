//! Heads as text: a first line, then one `name: value` a line. Values hold whatever a field value may hold.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, request};
use tidegate::filter::forward::{ForwardContext, to_server};
use tidegate::http1::block;

/// `VERSION METHOD TARGET`, with the versions `1.0`, `1.1` and `2`; `None` when the library that reads heads for us would
/// not have made a request of it.
pub fn request(text: &[u8]) -> Option<request::Parts> {
    let (first, fields) = first_line(text);
    let mut words = first.splitn(3, |&b| b == b' ');
    let version = match words.next()? {
        b"1.0" => Version::HTTP_10,
        b"1.1" => Version::HTTP_11,
        b"2" => Version::HTTP_2,
        _ => return None,
    };
    let mut head = Request::new(()).into_parts().0;
    head.version = version;
    head.method = Method::from_bytes(words.next()?).ok()?;
    head.uri = Uri::try_from(words.next()?).ok()?;
    head.headers = self::fields(fields);
    Some(head)
}

/// A status, then fields.
pub fn response(text: &[u8]) -> Option<http::response::Parts> {
    let (first, fields) = first_line(text);
    let mut head = http::Response::new(()).into_parts().0;
    head.status = StatusCode::from_bytes(first).ok()?;
    head.headers = self::fields(fields);
    Some(head)
}

/// What goes to a server for `head`, as a strict reader reads it there.
pub fn sent(head: &request::Parts, ctx: &ForwardContext<'_>) -> HeaderMap {
    let mut text = Vec::new();
    to_server(head, ctx, &mut text);
    text.extend_from_slice(b"\r\n");
    block::fields(&text.into(), usize::MAX)
        .unwrap_or_else(|bad| panic!("{bad:?}: what we write cannot be read"))
}

/// Lines that are no field are left out: where they come from, they have been refused already.
pub fn fields(text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in text.split(|&b| b == b'\n') {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), value(&line[colon + 1..]));
        if let (Ok(name), Some(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// Without the white space around it (RFC 9112 section 5.1).
pub fn value(text: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.trim_ascii()).ok()
}

/// All lines as values of one field.
pub fn lines(name: HeaderName, text: &[u8]) -> HeaderMap {
    let values = text.split(|&b| b == b'\n').filter_map(value);
    values.map(|value| (name.clone(), value)).collect()
}

/// Up to the first line feed, and what is behind it.
pub fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&b| b == b'\n').unwrap_or(text.len());
    (&text[..end], text.get(end + 1..).unwrap_or_default())
}

/// Fields as HTTP/1.1 has them, with the empty line.
pub fn written(first: String, fields: &HeaderMap) -> Vec<u8> {
    let mut out = first.into_bytes();
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// All values of a field, in their order.
pub fn all<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    fields.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// Every value of a field that a parser found.
pub fn found<'a>(fields: &'a [httparse::Header<'a>], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
}

/// The elements of a field that is a list, in lower case.
pub fn elements(fields: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    let lines = fields.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|&b| b == b','));
    elements.map(|element| element.trim_ascii().to_ascii_lowercase()).filter(|e| !e.is_empty()).collect()
}
