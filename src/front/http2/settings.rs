//! What the two sides tell each other of what they take (RFC 9113 section 6.5).

use crate::front::http2::flow;
use crate::front::http2::frame::{self, Code, MAX_31_BITS, PAYLOAD_BYTES_MAX};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441 section 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What of a client's settings matters to us. The size of its frames does not: ours are the smallest that all take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What the window of a new stream is.
    pub window: u32,
}

impl Default for Settings {
    /// Section 6.5.2.
    fn default() -> Self {
        Settings { window: flow::INITIAL }
    }
}

impl Settings {
    /// The same, changed by the payload of a SETTINGS frame: in order, so that of two the last counts.
    ///
    /// # Errors
    /// A value that is not allowed.
    pub fn changed_by(mut self, payload: &[u8]) -> Result<Self, Code> {
        for (id, value) in frame::settings(payload) {
            match id {
                ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Code::Protocol),
                INITIAL_WINDOW_SIZE if value > MAX_31_BITS => return Err(Code::FlowControl),
                INITIAL_WINDOW_SIZE => self.window = value,
                MAX_FRAME_SIZE if !is_frame_size(value) => return Err(Code::Protocol),
                // What is unknown is ignored.
                _ => {}
            }
        }
        Ok(self)
    }
}

/// The sizes that a SETTINGS frame's payload gives the table that our field blocks are decoded with. Each counts, in its
/// order: a table that was small for a moment has lost its entries (RFC 7541 section 4.2).
pub fn table_sizes(payload: &[u8]) -> impl Iterator<Item = usize> {
    let sizes = frame::settings(payload).filter(|(id, _)| *id == HEADER_TABLE_SIZE);
    sizes.map(|(_, value)| value as usize)
}

fn is_frame_size(value: u32) -> bool {
    (PAYLOAD_BYTES_MAX as u32..1 << 24).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_in_order_and_held_to_what_is_allowed() {
        let before = Settings::default();
        for (name, pairs, expected) in [
            ("none", &[][..], Ok(before)),
            ("a window, twice", &[(4, 1), (4, 7)], Ok(Settings { window: 7 })),
            ("the largest window", &[(4, MAX_31_BITS)], Ok(Settings { window: MAX_31_BITS })),
            ("a larger one", &[(4, MAX_31_BITS + 1)], Err(Code::FlowControl)),
            ("push", &[(2, 1), (2, 0)], Ok(before)),
            ("another push", &[(2, 2)], Err(Code::Protocol)),
            ("CONNECT", &[(8, 1)], Ok(before)),
            ("another CONNECT", &[(8, 2)], Err(Code::Protocol)),
            ("sizes of frames", &[(5, 1 << 14), (5, (1 << 24) - 1)], Ok(before)),
            ("too small a frame", &[(5, (1 << 14) - 1)], Err(Code::Protocol)),
            ("too large a frame", &[(5, 1 << 24)], Err(Code::Protocol)),
            ("what does not matter", &[(1, 0), (3, 0), (6, 0), (0, 9), (0xffff, u32::MAX)], Ok(before)),
        ] {
            let mut out = Vec::new();
            frame::put_settings(&mut out, pairs);
            assert_eq!(before.changed_by(&out[frame::HEADER_BYTES..]), expected, "{name}");
        }
    }

    #[test]
    fn every_size_of_the_table_counts() {
        let mut out = Vec::new();
        frame::put_settings(&mut out, &[(1, 0), (4, 7), (1, 4096)]);
        let sizes: Vec<_> = table_sizes(&out[frame::HEADER_BYTES..]).collect();
        assert_eq!(sizes, [0, 4096]);
    }
}
