//! Pools of servers: which one, over which connection, and how it is doing.
pub mod attempt;
pub mod conns;
