//! Sockets, TLS both ways, and names; no HTTP.
//!
//! rustls, hickory-resolver and socket options have their only home here.
pub mod descriptors;
pub mod dial;
pub mod listen;
pub mod resolve;
mod stream;
pub mod tls;

pub use stream::{Counted, Stream};
