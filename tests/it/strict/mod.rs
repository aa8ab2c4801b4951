//! What a client may send over HTTP/1.1 and what must come of it, in bytes.
//!
//! Each case goes out on a connection of its own, in one piece with a further request behind it, the canary. Then three
//! things are looked at: what the client got until its connection ended, what reached the server, read by the letter
//! ([`crate::support::strict`]), and whether a stranger who is served over the same connection to the server gets an
//! answer of his own. A request that nobody sent fails its case, however it came about.

pub mod table;

mod chunks;
mod connection;
mod early;
mod fields;
mod host;
mod identity;
mod length;
mod lines;
mod paths;
mod request_line;
mod sequence;
mod transfer_encoding;

/// All tables of cases.
pub const TABLES: &[&[fn()]] = &[
    chunks::TABLES,
    connection::TABLES,
    fields::TABLES,
    host::TABLES,
    identity::TABLES,
    length::TABLES,
    lines::TABLES,
    paths::TABLES,
    request_line::TABLES,
    sequence::TABLES,
    transfer_encoding::TABLES,
];

/// Cases that cannot pass while hyper reads the heads and chunks of clients: it mends them, or takes the trace of them
/// away, before we can look. They must be unambiguous all the same: what reaches the server is by the letter, and every
/// answer belongs to a request that reached it. One that passes must be taken off this list.
pub const UNTIL_OUR_OWN_PARSER: &[&str] = &[];
