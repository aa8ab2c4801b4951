//! A listener as one worker has it.
//!
//! Its sockets and connections outlive configurations: what they are called, and what holds for them, is looked up here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::state::{Listener, View};

/// The number of a listener's sockets, the same in all workers as long as they are open.
pub type SocketId = u64;

/// A listener as one worker has it, with all connections that came by it.
pub struct Door {
    /// The configuration that holds here, and which of its listeners this is.
    place: RefCell<(Rc<View>, usize)>,
    is_closed: Cell<bool>,
    closing: Notify,
}

impl Door {
    /// Of a listener of `view`.
    pub fn new(view: Rc<View>, listener: usize) -> Rc<Self> {
        Rc::new(Door {
            place: RefCell::new((view, listener)),
            is_closed: Cell::new(false),
            closing: Notify::new(),
        })
    }

    /// The configuration that holds for whatever begins here now, and which of its listeners this is.
    #[inline]
    pub fn place(&self) -> (Rc<View>, usize) {
        self.place.borrow().clone()
    }

    /// The configuration that holds here.
    #[inline]
    pub fn view(&self) -> Rc<View> {
        self.place.borrow().0.clone()
    }

    /// Looks at the listener as it is configured now.
    pub fn listener<T>(&self, look: impl FnOnce(&Listener) -> T) -> T {
        let place = self.place.borrow();
        look(&place.0.listeners[place.1])
    }

    /// Another configuration holds from now on.
    pub fn lead_to(&self, view: Rc<View>, listener: usize) {
        self.place.replace((view, listener));
    }

    /// There is no such listener any more. What holds here stays as it was until the last connection has ended.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.closing.notify_one();
    }

    /// Whether there is no such listener any more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Waits until there is none; for whoever accepts here, and nobody else.
    pub async fn closed(&self) {
        self.closing.notified().await;
    }
}
