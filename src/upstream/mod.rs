//! Pools of servers: which one, over which connection, and how it is doing.
//!
//! `balance`, `roster`, `sticky`, `health_state`, `outlier`, `retry`, `budget` and `discovery` decide and touch nothing;
//! `side` and `course` put their decisions together for a request; `conns`, `attempt`, `probe` and `discovery::watch` act.
//! `pool_state`, with `limits`, `queue` and `learned`, is what workers share. `interim` carries what a server says before
//! its response, `tap` decides when it is read. `simulation`, in tests, lives through whole days of a pool.

pub mod attempt;
pub mod balance;
pub mod budget;
pub mod conns;
pub mod course;
pub mod discovery;
pub mod health_state;
pub mod interim;
pub mod key;
pub mod learned;
pub mod limits;
pub mod members;
pub mod outlier;
pub mod pool;
pub mod pool_state;
pub mod probe;
pub mod queue;
pub mod retry;
pub mod roster;
pub mod server;
pub mod side;
#[cfg(test)]
mod simulation;
pub mod sticky;
