//! What both ends of an HTTP/1.1 connection share (RFC 9112): how a message is read from bytes and written to them.
//!
//! Ours, and not hyper's: what a proxy must know of a message (both its lengths, where its lines end, what its chunks
//! carry beside their size) is gone once a library has made sense of it. Nothing here waits for anything but what it is
//! handed: `front` has the connections to clients, `upstream` those to servers.

pub mod block;
pub mod chunked;
pub mod coding;
pub mod lines;
pub mod outbox;
pub mod sending;
pub mod text;
