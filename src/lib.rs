//! Tidegate: an HTTP reverse proxy and load balancer.
pub mod runtime;
pub mod front;
pub mod admin;
pub mod proxy;
pub mod state;
pub mod router;
pub mod filter;
pub mod cache;
pub mod upstream;
pub mod net;
pub mod observe;
pub mod config;
pub mod body;
pub mod clock;
