//! From an accepted socket to requests, and back.
//!
//! Nothing here knows where a request goes: each one is handed to
//! [`crate::proxy::serve`], whatever protocol it came by.
pub mod accept;
mod connection;
pub mod http1;
pub mod http2;

use std::time::Duration;

/// How long the client may take to hang up after our last word.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away after our last word, so that it is not lost to a reset.
const LINGER_BYTES: usize = 256 * 1024;
