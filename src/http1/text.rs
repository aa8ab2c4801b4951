//! The text of a message, piece by piece.

use std::io::Write;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::fields::{Fields, Name};

/// A field's line.
pub fn field<'a>(text: &mut Vec<u8>, name: impl Into<Name<'a>>, value: &[u8]) {
    name.into().put_line(text, |text| text.extend_from_slice(value));
}

/// An interim response, whole: there is no body (RFC 9112 section 6.3).
pub fn interim(text: &mut Vec<u8>, status: StatusCode, fields: &Fields) {
    // The space before a reason is part of the line also where there is none (RFC 9112 section 4).
    put(
        text,
        format_args!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()),
    );
    fields.iter().for_each(|field| text.extend_from_slice(field.line()));
    text.extend_from_slice(b"\r\n");
}

/// A chunk's first line.
pub fn chunk(text: &mut Vec<u8>, length: usize) {
    put(text, format_args!("{length:x}\r\n"));
}

/// The last chunk, and what follows it.
pub fn end_of_chunks<'a>(
    text: &mut Vec<u8>,
    trailers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) {
    text.extend_from_slice(b"0\r\n");
    trailers.for_each(|(name, value)| field(text, name, value.as_bytes()));
    text.extend_from_slice(b"\r\n");
}

/// Whatever else.
pub fn put(text: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // Cannot fail: it is memory.
    let _ = text.write_fmt(what);
}
