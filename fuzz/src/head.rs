//! Heads as text: a first line, then one `name: value` a line. Values hold whatever a field value may hold.

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use tidegate::fields::{Fields, RequestHead, ResponseHead};
use tidegate::filter::forward::{ForwardContext, to_server};
use tidegate::http1::block;

/// `VERSION METHOD TARGET`, with the versions `1.0`, `1.1` and `2`; `None` when whoever reads heads for us would not have
/// made a request of it.
pub fn request(text: &[u8]) -> Option<RequestHead> {
    let (first, fields) = first_line(text);
    let mut words = first.splitn(3, |&b| b == b' ');
    let version = match words.next()? {
        b"1.0" => Version::HTTP_10,
        b"1.1" => Version::HTTP_11,
        b"2" => Version::HTTP_2,
        _ => return None,
    };
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    Some(RequestHead { method, uri, version, fields: self::fields(fields) })
}

/// Of `GET /`, with these fields.
pub fn get(fields: &Fields) -> RequestHead {
    RequestHead { fields: fields.clone(), ..Request::new(()).into_parts().0.into() }
}

/// A status, then fields.
pub fn response(text: &[u8]) -> Option<ResponseHead> {
    let (first, fields) = first_line(text);
    let status = StatusCode::from_bytes(first).ok()?;
    Some(ResponseHead { fields: self::fields(fields), ..ResponseHead::new(status) })
}

/// The lines that go to a server for `head`, with the empty one.
pub fn sent_lines(head: &RequestHead, ctx: &ForwardContext<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    to_server(head, ctx, &mut text);
    text.extend_from_slice(b"\r\n");
    text
}

/// The same, as a strict reader reads it there.
pub fn sent(head: &RequestHead, ctx: &ForwardContext<'_>) -> Fields {
    block::fields(&sent_lines(head, ctx), std::iter::empty(), usize::MAX)
        .unwrap_or_else(|bad| panic!("{bad:?}: what we write cannot be read"))
}

/// Lines that are no field are left out: where they come from, they have been refused already.
pub fn fields(text: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for line in text.split(|&b| b == b'\n') {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), value(&line[colon + 1..]));
        if let (Ok(name), Some(value)) = (name, value) {
            fields.append(&name, value);
        }
    }
    fields
}

/// Without the white space around it (RFC 9112 section 5.1).
pub fn value(text: &[u8]) -> Option<&[u8]> {
    // Another library says what a value is.
    let value = text.trim_ascii();
    HeaderValue::from_bytes(value).is_ok().then_some(value)
}

/// All lines as values of one field.
pub fn lines(name: &str, text: &[u8]) -> Fields {
    let values = text.split(|&b| b == b'\n').filter_map(value);
    values.map(|value| (name, value)).collect()
}

/// Up to the first line feed, and what is behind it.
pub fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&b| b == b'\n').unwrap_or(text.len());
    (&text[..end], text.get(end + 1..).unwrap_or_default())
}

/// All fields, each with its name in lower case and its value, in their order.
pub fn pairs(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|field| (field.name().to_vec(), field.value().to_vec())).collect()
}

/// What a parser found, in the same form.
pub fn found_pairs(fields: &[httparse::Header<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_ascii_lowercase().into_bytes(), field.value.to_vec())).collect()
}

/// All values of a field, in their order: one by one, as nobody looks for them who is in a hurry.
pub fn all<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.name() == name.as_bytes()).map(|field| field.value()).collect()
}

/// Every value of a field that a parser found.
pub fn found<'a>(fields: &'a [httparse::Header<'a>], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
}

/// The elements of a field that is a list, in lower case.
pub fn elements(fields: &Fields, name: &str) -> Vec<Vec<u8>> {
    let elements = all(fields, name).into_iter().flat_map(|line| line.split(|&b| b == b','));
    elements.map(|element| element.trim_ascii().to_ascii_lowercase()).filter(|e| !e.is_empty()).collect()
}
