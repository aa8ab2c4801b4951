//! State by its lifetime, each with one home: a configuration ([`Snapshot`]), a worker ([`Local`]),
//! the process ([`Keep`]). A request's own is `proxy::Exchange`.

pub mod changes;
mod door;
mod enlist;
mod in_force;
mod keep;
mod local;
mod snapshot;
mod succession;

pub use door::{Door, SocketId};
pub use enlist::renew;
pub use in_force::InForce;
pub use keep::{Full, Guests, Handshake, Keep, Room, Seat, Seats};
pub use local::{Local, View};
pub use snapshot::{
    BuildError, BuildErrors, CacheHandles, HIT_AGES, Listener, ListenerHandles, Route, RouteHandles, Snapshot,
};
pub use succession::{forget, settle};

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Accepting.
    Serving,
    /// Finishing what is in flight.
    Draining,
}
