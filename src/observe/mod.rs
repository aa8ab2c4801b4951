//! What Tidegate tells the world: numbers, access-log lines and events.
//!
//! Rooms above hand in facts; nothing here asks any of them for anything.
//! A request spends no lock, no look-up and no allocation in this room:
//! names are resolved when a snapshot is built, lines go into a block that
//! the worker already holds.

mod access;
mod cells;
mod events;
mod metrics;
mod record;

pub use access::AccessLog;
pub use access::AccessWriter;
pub use access::Losses;
pub use cells::Cells;
pub use cells::Counter;
pub use cells::Gauge;
pub use cells::Histogram;
pub use events::Events;
pub use events::init;
pub use metrics::ClassCounters;
pub use metrics::Discarded;
pub use metrics::Family;
pub use metrics::Labels;
pub use metrics::Metrics;
pub use record::Record;
