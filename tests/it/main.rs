//! The promises to users, over real sockets: an origin, the proxy with real TOML text, a client.
//!
//! A module for each part of the promise; `support` is what they stand on. A test that needs another
//! program says `SKIPPED` where it is absent; under `TIDEGATE_TESTS_REQUIRE_ALL` it fails instead.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "support offers more words than each day's tests use")]

mod support;

mod access_log;
mod admin;
mod answers;
mod balancing;
mod bodies;
mod cache;
mod cache_integrity;
mod cache_rules;
mod cli;
mod config_check;
mod dns;
mod embedding;
mod faults;
mod floods;
mod h2spec;
mod headers;
mod health;
mod hostile;
mod http2;
mod http2_rules;
mod idle;
mod interim;
mod listeners_and_tls;
mod load;
mod metrics;
mod nginx;
mod pairs;
mod probes;
mod purge;
mod purge_in_flight;
mod reload;
mod resilience;
mod resolver;
mod routing;
mod strict;
