//! What frames cost that do nothing.
//!
//! A PING, a SETTINGS or a WINDOW_UPDATE is answered or acted upon for as long as they come, which is a core for each
//! connection that only sends those (CVE-2019-9512, -9515 and their kin). So each frame costs tokens by the work that
//! it makes, except DATA that has data; tokens come back with time, and with the bytes and the responses that the
//! client is sent, for which it rightly sends HEADERS and WINDOW_UPDATE.

use std::time::Instant;

use crate::front::http2::frame::{Code, DATA, END_STREAM, Header, RST_STREAM};

/// Tokens at most, and at first: a browser that opens a hundred streams and leaves them all is no flood.
const TOKENS_MAX: u32 = 1000;
/// Tokens that come back each second.
const TOKENS_PER_SECOND: u32 = 100;
/// Bytes sent to the client that are worth a token: a client that grants its window in small pieces sends a
/// WINDOW_UPDATE for a stream and one for the connection every 16 KiB or so.
const BYTES_PER_TOKEN: u32 = 2048;
/// Tokens for a response that was sent whole: those of its request's HEADERS and trailers, and some clients acknowledge
/// even the smallest, for the stream and for the connection. One that was reset or refused earns nothing.
const TOKENS_PER_RESPONSE: u32 = 4;
/// What a reset costs: a server may have begun to work for it in vain (CVE-2023-44487).
const TOKENS_OF_RESET: u32 = 4;

/// The tokens of one connection.
#[derive(Debug, Clone)]
pub struct Budget {
    tokens: u32,
    /// When they last came back; `None` before the first frames.
    refilled: Option<Instant>,
    /// Bytes sent that are not worth a token yet.
    sent: u32,
}

impl Budget {
    /// All of it.
    pub fn new() -> Self {
        Budget { tokens: TOKENS_MAX, refilled: None, sent: 0 }
    }

    /// A frame has come.
    ///
    /// # Errors
    /// ENHANCE_YOUR_CALM: it costs more than is left.
    pub fn pay_for(&mut self, header: &Header) -> Result<(), Code> {
        match header.kind {
            // One that has no data but ends the body is free.
            DATA if header.length > 0 || header.has(END_STREAM) => Ok(()),
            RST_STREAM => self.pay(TOKENS_OF_RESET),
            _ => self.pay(1),
        }
    }

    /// DATA had nothing but padding, and went on.
    ///
    /// # Errors
    /// ENHANCE_YOUR_CALM: it costs more than is left.
    pub fn pay_for_padding(&mut self) -> Result<(), Code> {
        self.pay(1)
    }

    /// A response has gone to the client, whole.
    pub fn answered(&mut self) {
        self.tokens = (self.tokens + TOKENS_PER_RESPONSE).min(TOKENS_MAX);
    }

    /// So many bytes have gone to the client.
    pub fn sent(&mut self, bytes: usize) {
        let sent = self.sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.tokens = self.tokens.saturating_add(sent / BYTES_PER_TOKEN).min(TOKENS_MAX);
        self.sent = sent % BYTES_PER_TOKEN;
    }

    /// Time has passed.
    pub fn refill(&mut self, now: Instant) {
        let Some(before) = self.refilled else {
            self.refilled = Some(now);
            return;
        };
        let millis = u32::try_from(now.saturating_duration_since(before).as_millis()).unwrap_or(u32::MAX);
        let back = millis.saturating_mul(TOKENS_PER_SECOND) / 1000;
        if back > 0 {
            self.refilled = Some(now);
            self.tokens = self.tokens.saturating_add(back).min(TOKENS_MAX);
        }
    }

    fn pay(&mut self, tokens: u32) -> Result<(), Code> {
        self.tokens = self.tokens.checked_sub(tokens).ok_or(Code::EnhanceYourCalm)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn header(kind: u8, flags: u8, length: usize) -> Header {
        Header { length, kind, flags, stream: 1 }
    }

    #[test]
    fn frames_cost_by_the_work_they_make_and_data_costs_nothing() {
        for (name, header, price) in [
            ("data", header(0, 0, 1), 0),
            ("the end of a body", header(0, 1, 0), 0),
            ("empty data", header(0, 0, 0), 1),
            ("headers", header(1, 5, 20), 1),
            ("priority", header(2, 0, 5), 1),
            ("a reset", header(3, 0, 4), TOKENS_OF_RESET),
            ("settings", header(4, 0, 0), 1),
            ("a ping", header(6, 0, 8), 1),
            ("a goaway", header(7, 0, 8), 1),
            ("a window", header(8, 0, 4), 1),
            ("a continuation", header(9, 0, 100), 1),
            ("an unknown one", header(0xbb, 0, 7000), 1),
        ] {
            let mut budget = Budget::new();
            let passed = (0..2 * TOKENS_MAX).take_while(|_| budget.pay_for(&header).is_ok()).count();
            let expected = TOKENS_MAX.checked_div(price).unwrap_or(2 * TOKENS_MAX);
            assert_eq!(passed, expected as usize, "{name}");
        }
    }

    #[test]
    fn the_budget_comes_back_with_time_and_with_what_is_sent() {
        let now = Instant::now();
        let left = |budget: &Budget| {
            let mut budget = budget.clone();
            (0..2 * TOKENS_MAX).take_while(|_| budget.pay_for_padding().is_ok()).count()
        };
        let mut budget = Budget::new();
        budget.refill(now);
        (0..TOKENS_MAX).for_each(|_| budget.pay_for_padding().unwrap());
        assert_eq!(left(&budget), 0);

        budget.refill(now + Duration::from_millis(9));
        assert_eq!(left(&budget), 0);
        budget.refill(now + Duration::from_millis(100));
        assert_eq!(left(&budget), 10);

        budget.sent(3 * BYTES_PER_TOKEN as usize - 1);
        assert_eq!(left(&budget), 12);
        budget.sent(1);
        assert_eq!(left(&budget), 13);

        budget.answered();
        assert_eq!(left(&budget), 17);
        budget.refill(now + Duration::from_secs(1000));
        assert_eq!(left(&budget), TOKENS_MAX as usize);
    }
}
