//! Pools of servers: which one, over which connection, and how it is doing.
//!
//! `balance`, `sticky`, `health_state`, `retry` and `discovery` decide and touch nothing; `conns`, `attempt`,
//! `probe` and `discovery::watch` act. `interim` carries what a server says before its response.

pub mod attempt;
pub mod balance;
pub mod conns;
pub mod discovery;
pub mod health_state;
pub mod interim;
pub mod pool;
pub mod probe;
pub mod retry;
pub mod server;
pub mod sticky;
