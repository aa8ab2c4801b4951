//! Where the body of a request ends.

use http::Version;

use super::Refusal;
use super::check_transfer_encoding;
use super::content_length;
use crate::fields::Known;
use crate::fields::RequestHead;

/// How a request over HTTP/1 says where its body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// The one framing of `head`.
///
/// # Errors
/// There are two, or one that is not understood.
pub fn framing(head: &RequestHead) -> Result<Framing, Refusal> {
    let length = length(head)?;
    let mut codings = head.fields.get_all(Known::TransferEncoding);
    let Some(coding) = codings.next() else {
        return Ok(length.map_or(Framing::None, Framing::Length));
    };
    if codings.next().is_some() || head.version < Version::HTTP_11 {
        return Err(Refusal::TransferEncoding);
    }
    check_transfer_encoding(coding)?;
    if length.is_some() { Err(Refusal::ContentLength) } else { Ok(Framing::Chunked) }
}

fn length(head: &RequestHead) -> Result<Option<u64>, Refusal> {
    let mut said = head.fields.get_all(Known::ContentLength);
    let length = said.next().map(|value| content_length(value).ok_or(Refusal::ContentLength)).transpose()?;
    // RFC 9110 section 8.6 lets equal ones be taken for one; nobody sends them in good faith.
    if said.next().is_some() { Err(Refusal::ContentLength) } else { Ok(length) }
}
