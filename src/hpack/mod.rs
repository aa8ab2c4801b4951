//! HPACK (RFC 7541): the fields of HTTP/2 as bytes.
//!
//! Pure: bytes come in and fields go out, or the other way round. Both sides of a connection keep a table of what was sent,
//! and one that is out of step with the other's reads other fields than were meant: so what is not exactly as the RFC says
//! is an error, and the end of the connection.
//!
//! What fields mean, and how many a request may have, is the caller's to say.

mod decode;
mod encode;
mod field;
mod huffman;
mod integer;
mod statics;

pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;
pub use field::{BadField, Field, Pseudo};

/// The size of a table before anyone speaks of it (RFC 9113 section 6.5.2).
const TABLE_BYTES: usize = 4096;
/// What a field counts beside the bytes of its name and value (RFC 7541 section 4.1).
const FIELD_BYTES: usize = 32;

/// What a field counts in a table, and in a list of fields (RFC 9113 section 6.5.2).
fn size_of(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + FIELD_BYTES
}
