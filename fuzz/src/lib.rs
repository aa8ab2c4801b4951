//! What must hold of everything that reads bytes of strangers, whatever the bytes.
//!
//! Each module has one function, `holds`, which panics where its property does not hold. The targets in `fuzz_targets`
//! feed it what libFuzzer makes up; `tests/corpus.rs` includes this very file and feeds it what `corpus` keeps. Inputs are
//! text where they can be, so that whoever finds one in `corpus` can read it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a property fails by panicking")]

pub mod head;

pub mod access_log;
pub mod authority;
pub mod cache_control;
pub mod cache_key;
pub mod chunked;
pub mod client_ip;
pub mod config;
pub mod cookies;
pub mod discovery;
pub mod frames;
pub mod grpc_answer;
pub mod hpack;
pub mod http1_head;
pub mod path;
pub mod range;
pub mod request_head;
pub mod response_head;
pub mod server_head;
pub mod vary;
