//! What goes out to a server, once and perhaps again.

use std::rc::Rc;
use std::sync::Arc;

use http::Method;

use crate::body::{Body, End, Meter, Metered, Replay, Room};
use crate::config;
use crate::filter::forward::BodyLength;
use crate::upstream::attempt::AttemptError;
use crate::upstream::retry;

/// What goes out to a server.
pub struct Outgoing {
    pub body: Body,
    pub meter: Rc<Meter>,
    pub length: BodyLength,
    pub wants_websocket: bool,
}

impl Outgoing {
    /// A request without a body.
    pub fn nothing() -> Self {
        let meter = Rc::<Meter>::default();
        meter.finish(End::Whole);
        Outgoing { body: Body::Empty, meter, length: BodyLength::None, wants_websocket: false }
    }
}

/// What is sent, once and perhaps again.
pub struct Bodies {
    /// Not one byte of it was sent.
    unsent: Option<Body>,
    replay: Option<Replay>,
    /// Of the client's body.
    meter: Rc<Meter>,
    is_first: bool,
    is_empty: bool,
    is_idempotent: bool,
}

impl Bodies {
    /// What is kept of it counts in `room`.
    pub fn new(
        body: Body,
        meter: Rc<Meter>,
        method: &Method,
        config: &config::Upstream,
        room: &Arc<Room>,
    ) -> Self {
        let (is_empty, is_idempotent) = (body.is_empty(), retry::is_idempotent(method));
        // One that may not be repeated is not kept to be.
        let may_replay = is_idempotent && !is_empty && config.retries > 0 && config.retry.body > 0;
        let (unsent, replay) = match may_replay {
            true => (None, Some(Replay::new(body, config.retry.body, room.clone()))),
            false => (Some(body), None),
        };
        Bodies { unsent, replay, meter, is_first: true, is_empty, is_idempotent }
    }

    /// Whether it could be sent once more.
    fn has_next(&self) -> bool {
        self.is_empty || self.unsent.is_some() || self.replay.as_ref().is_some_and(Replay::is_whole)
    }

    /// What it allows.
    pub fn as_request(&self) -> retry::Request {
        retry::Request { is_idempotent: self.is_idempotent, has_body: self.has_next() }
    }

    /// The body of the next attempt, and what will be known of it.
    pub fn next(&mut self) -> (Body, Rc<Meter>) {
        let is_first = std::mem::take(&mut self.is_first);
        let body =
            self.unsent.take().or_else(|| self.replay.as_ref().and_then(Replay::reader)).unwrap_or_default();
        if is_first || self.replay.is_none() {
            return (body, self.meter.clone());
        }
        // The client's body may have ended long ago; this one begins.
        let meter = Rc::<Meter>::default();
        (Body::wrap(Metered::by(meter.clone(), body, usize::MAX)), meter)
    }

    /// Whose fault it was that a body broke off: the client's own meter knows it better than an attempt's.
    pub fn fault(&self, error: AttemptError) -> AttemptError {
        match (error, self.meter.end()) {
            (AttemptError::RequestBody(End::Cut), Some(end)) if end != End::Whole => {
                AttemptError::RequestBody(end)
            }
            (error, _) => error,
        }
    }

    /// Not one byte of the attempt's body was sent.
    pub fn give_back(&mut self, unsent: Option<Body>) {
        if self.replay.is_none() {
            self.unsent = unsent;
        }
    }
}
