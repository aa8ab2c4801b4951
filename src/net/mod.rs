//! Sockets and TLS, both ways; no HTTP.
//!
//! rustls and socket options have their only home here.
pub mod dial;
pub mod listen;
mod stream;
pub mod tls;

pub use stream::Stream;
