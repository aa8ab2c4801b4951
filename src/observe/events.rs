//! Events on standard error: what an operator should know of the process.

use std::io;
use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::EventFormat;
use crate::config::Level;

/// Where the process's events go. The default one belongs to someone else, and changes nothing.
#[derive(Default)]
pub struct Events(Option<reload::Handle<Targets, Registry>>);

impl Events {
    /// From now on events are written from this severity on.
    pub fn set_level(&self, level: Level) {
        if let Some(Err(error)) = self.0.as_ref().map(|handle| handle.reload(filter(level))) {
            tracing::warn!(%error, "log.level stays as it was");
        }
    }
}

/// Sends the process's events to standard error from now on.
///
/// The first call wins; a later one changes nothing, so that tests and
/// embedders who have their own subscriber keep it.
pub fn init(level: Level, format: EventFormat) -> Events {
    // A closed standard error must not panic us: that is what reporting our
    // own failures to write would do.
    let layer = fmt::layer().with_writer(io::stderr).with_ansi(may_colour()).log_internal_errors(false);
    let (filter, handle) = reload::Layer::new(filter(level));
    let events = tracing_subscriber::registry().with(filter);
    let set = match format {
        EventFormat::Text => events.with(layer.with_target(false)).try_init(),
        EventFormat::Json => events.with(layer.json().flatten_event(true)).try_init(),
    };
    if set.is_err() {
        tracing::debug!("events already have a destination; it stays");
        return Events::default();
    }
    Events(Some(handle))
}

/// Escape sequences are for eyes: not for files, and not for who asked for none (no-color.org).
fn may_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Details are of our own rooms: those of libraries would bury them.
fn filter(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    Targets::new().with_target("tidegate", level).with_default(level.min(LevelFilter::INFO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_it_twice_does_not_panic() {
        init(Level::Error, EventFormat::Json);
        init(Level::Error, EventFormat::Text);
    }
}
