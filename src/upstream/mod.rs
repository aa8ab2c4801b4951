//! Pools of servers: which one, over which connection, and how it is doing.
//!
//! `balance`, `sticky`, `health_state` and `retry` decide and touch nothing; `conns`, `attempt`
//! and `probe` act.

pub mod attempt;
pub mod balance;
pub mod conns;
pub mod health_state;
pub mod pool;
pub mod probe;
pub mod retry;
pub mod server;
pub mod sticky;
