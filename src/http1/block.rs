//! Fields, as heads and trailers have them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// As many fields are read without asking for memory.
const USUAL_FIELDS: usize = 64;

/// Why a block is not one of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBlock {
    /// A line of it is no field, or folded.
    Malformed,
    /// It has more fields than it may.
    TooMany,
}

/// The fields of a block that ends in an empty line.
///
/// # Errors
/// They are none, or more than `fields_max`.
pub fn fields(block: &Bytes, fields_max: usize) -> Result<HeaderMap, BadBlock> {
    let mut usual = [httparse::EMPTY_HEADER; USUAL_FIELDS];
    match httparse::parse_headers(block, &mut usual[..fields_max.min(USUAL_FIELDS)]) {
        Err(httparse::Error::TooManyHeaders) if fields_max > USUAL_FIELDS => {
            let mut many = vec![httparse::EMPTY_HEADER; fields_max];
            collect(block, httparse::parse_headers(block, &mut many))
        }
        parsed => collect(block, parsed),
    }
}

fn collect(
    block: &Bytes,
    parsed: httparse::Result<(usize, &[httparse::Header])>,
) -> Result<HeaderMap, BadBlock> {
    let fields = match parsed {
        Ok(httparse::Status::Complete((length, fields))) if length == block.len() => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(BadBlock::TooMany),
        _ => return Err(BadBlock::Malformed),
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadBlock::Malformed)?;
        let value =
            HeaderValue::from_maybe_shared(block.slice_ref(field.value)).map_err(|_| BadBlock::Malformed)?;
        map.try_append(name, value).map_err(|_| BadBlock::TooMany)?;
    }
    Ok(map)
}
