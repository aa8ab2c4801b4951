//! Tidegate: an HTTP reverse proxy and load balancer.
pub mod admin;
pub mod answer;
pub mod body;
pub mod cache;
pub mod clock;
pub mod config;
pub mod fields;
pub mod filter;
pub mod front;
pub mod http1;
pub mod net;
pub mod observe;
pub mod proxy;
pub mod router;
pub mod runtime;
pub mod state;
pub mod upstream;
