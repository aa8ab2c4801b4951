//! HTTP/2 as servers speak it (RFC 9113), with a task for each connection and none for a stream.
//!
//! Ours, and not a library's: what is an error of a stream must not end the others, and a table that both sides keep must
//! stay in step whatever is refused; interim responses need a way out; and a stream that waits should cost little beside
//! what it waits for. All but [`serve`] is pure: `frame` takes frames apart and writes them, `settings`, `flow`, `budget`
//! and `streams` are what a connection keeps of them, `head` makes a request of a field block, and `session` puts
//! them together: bytes in, events and bytes out. `link` is what a request's worker shares with its connection, `ready`
//! which streams were woken, `outbox` what is to be written, `connection` the task.

mod budget;
mod connection;
mod flow;
mod frame;
mod head;
mod link;
pub mod outbox;
mod ready;
pub mod session;
mod settings;
mod streams;

pub use connection::serve;
pub use frame::{Code, PREFACE};
