//! Windows (RFC 9113 section 5.2): how much may be sent, and how much the client may send.

use crate::front::http2::frame::{Code, MAX_31_BITS};

/// RFC 9113 section 6.9.2: what every window is at first.
pub const INITIAL: u32 = 65_535;

/// How much the client takes, of a stream or of the connection. A setting may make it less than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendWindow(i64);

/// How much the client may still send, of a stream or of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveWindow {
    /// What it is when all of it has been given back.
    size: u32,
    left: u32,
    /// Taken by its reader, and not given back yet.
    owed: u32,
}

impl SendWindow {
    /// Of so many bytes.
    pub fn new(bytes: u32) -> Self {
        SendWindow(i64::from(bytes))
    }

    /// Bytes that may be sent now.
    pub fn open(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// So many have been sent.
    pub fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.open(), "more than the client takes");
        self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// The client takes more, or by a setting less.
    ///
    /// # Errors
    /// FLOW_CONTROL_ERROR: it is more than a window may be (section 6.9.1).
    pub fn grow(&mut self, bytes: i64) -> Result<(), Code> {
        let grown = self.0.saturating_add(bytes);
        if grown > i64::from(MAX_31_BITS) {
            return Err(Code::FlowControl);
        }
        self.0 = grown;
        Ok(())
    }
}

impl ReceiveWindow {
    /// Of so many bytes.
    pub fn new(size: u32) -> Self {
        ReceiveWindow { size, left: size, owed: 0 }
    }

    /// So many bytes have come, padding included.
    ///
    /// # Errors
    /// FLOW_CONTROL_ERROR: it is more than there is room for.
    pub fn received(&mut self, bytes: usize) -> Result<(), Code> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or(Code::FlowControl)?;
        Ok(())
    }

    /// So many of them wait no longer.
    pub fn taken(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        debug_assert!(self.owed <= self.size - self.left, "more than has come");
    }

    /// Bytes that have come, and wait.
    pub fn waiting(&self) -> usize {
        (self.size - self.left - self.owed) as usize
    }

    /// So many bytes that have come will not be given back.
    pub fn shrink(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.waiting(), "more than has come");
        self.size -= u32::try_from(bytes).unwrap_or(u32::MAX).min(self.size - self.left - self.owed);
    }

    /// What to give back now: nothing, or at least half of the window, so that a client is told rarely.
    pub fn give_back(&mut self) -> Option<u32> {
        if self.owed == 0 || self.owed < self.size / 2 {
            return None;
        }
        self.left += self.owed;
        Some(std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shuts_as_it_is_used_and_a_setting_may_owe_it() {
        let mut window = SendWindow::new(100);
        window.sent(100);
        assert_eq!(window.open(), 0);
        window.grow(-50).unwrap();
        assert_eq!(window.open(), 0);
        window.grow(51).unwrap();
        assert_eq!(window.open(), 1);
        assert_eq!(window.grow(i64::from(MAX_31_BITS)), Err(Code::FlowControl));
        assert_eq!(window.grow(i64::from(MAX_31_BITS) - 1), Ok(()));
        assert_eq!(window.open(), MAX_31_BITS as usize);
    }

    #[test]
    fn what_comes_is_held_to_the_window_and_given_back_by_halves() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.received(101), Err(Code::FlowControl));
        assert_eq!(window.received(100), Ok(()));
        assert_eq!(window.received(1), Err(Code::FlowControl));
        window.taken(49);
        assert_eq!(window.give_back(), None);
        window.taken(11);
        assert_eq!(window.give_back(), Some(60));
        assert_eq!(window.give_back(), None);
        assert_eq!(window.received(61), Err(Code::FlowControl));
        assert_eq!(window.received(60), Ok(()));
        assert_eq!(window.waiting(), 100);
        window.shrink(90);
        window.taken(10);
        assert_eq!((window.waiting(), window.give_back()), (0, Some(10)));
    }
}
