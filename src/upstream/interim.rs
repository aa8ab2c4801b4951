//! Interim responses (RFC 9110 section 15.2), on their way from the task that reads a server's connection to the
//! attempt that waits for the final response.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::{HeaderMap, StatusCode};

/// Interim responses before one final response; more is the server's fault. 16: a page has one or two 103, and
/// a 102 every 20 s comes three times before the first byte is late.
const INTERIMS_MAX: usize = 16;

/// The head of one; there is no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interim {
    /// 1xx, never 101.
    pub status: StatusCode,
    /// As the server sent them.
    pub headers: HeaderMap,
}

/// What has come and was not taken yet. One for each connection, so that a request allocates none; a mutex, because
/// hyper wants its callback to be `Send`. Both sides run on one worker, so nobody ever waits for it.
#[derive(Default)]
pub struct Mailbox(Mutex<State>);

/// A server has sent more than [`INTERIMS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood;

#[derive(Default)]
struct State {
    interims: Vec<Interim>,
    count: usize,
    reader: Option<Waker>,
}

impl Mailbox {
    /// A request begins; of the one before nothing is left.
    pub fn begin(&self) {
        *self.state() = State::default();
    }

    /// An interim response has come; whoever waits is woken.
    pub fn put(&self, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.state();
        state.count = state.count.saturating_add(1);
        if state.count <= INTERIMS_MAX {
            state.interims.push(Interim { status, headers: headers.clone() });
        }
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Moves what has come into `out`. `reader` is woken when more comes; `None`: nobody waits any longer.
    ///
    /// # Errors
    /// More came than may.
    pub fn take(&self, out: &RefCell<Vec<Interim>>, reader: Option<&Waker>) -> Result<(), Flood> {
        let mut state = self.state();
        if !state.interims.is_empty() {
            out.borrow_mut().append(&mut state.interims);
        }
        match (&mut state.reader, reader) {
            (Some(before), Some(now)) => before.clone_from(now),
            (before, now) => *before = now.cloned(),
        }
        if state.count > INTERIMS_MAX { Err(Flood) } else { Ok(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_are_kept_in_order_and_one_more_is_a_flood() {
        let (mailbox, out) = (Mailbox::default(), RefCell::default());
        let put = |nth: usize| {
            let headers = HeaderMap::from_iter([("nth".parse().unwrap(), nth.into())]);
            mailbox.put(StatusCode::EARLY_HINTS, &headers);
        };

        (0..10).for_each(put);
        assert_eq!(mailbox.take(&out, Some(Waker::noop())), Ok(()));
        (10..16).for_each(put);
        assert_eq!(mailbox.take(&out, Some(Waker::noop())), Ok(()));
        (16..1000).for_each(put);
        assert_eq!(mailbox.take(&out, None), Err(Flood));
        mailbox.begin();

        let order: Vec<_> =
            out.borrow().iter().map(|i| i.headers["nth"].to_str().unwrap().to_owned()).collect();
        assert_eq!(order, (0..16).map(|nth| nth.to_string()).collect::<Vec<_>>());
        assert_eq!(mailbox.take(&out, None), Ok(()), "a new request begins at nothing");
    }
}
