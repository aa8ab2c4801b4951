//! State by its lifetime, each with one home: a configuration ([`Snapshot`]), a worker ([`Local`]),
//! the process ([`Keep`]). A request's own is `proxy::Exchange`.

mod enlist;
mod keep;
mod local;
mod snapshot;

pub use enlist::renew;
pub use keep::{Full, Guests, Handshake, Keep, Room, Seat, Seats};
pub use local::{Local, View};
pub use snapshot::{
    BuildError, CacheHandles, HIT_AGES, Listener, ListenerHandles, Route, RouteHandles, Snapshot,
};

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Accepting.
    Serving,
    /// Finishing what is in flight.
    Draining,
}
