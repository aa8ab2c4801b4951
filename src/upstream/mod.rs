//! The servers of a pool: which one is next, and whether it may serve.

pub mod balance;
pub mod health_state;
pub mod sticky;
