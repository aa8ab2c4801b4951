//! From an accepted socket to requests, and back.
//!
//! Nothing here knows where a request goes: each one is handed to
//! [`crate::proxy::serve`], whatever protocol it came by.
pub mod accept;
mod connection;
pub mod frames;
mod interim;
mod streams;
mod watch;
