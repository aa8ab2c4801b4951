//! The frames of an HTTP/2 client as they pass: held to rules that h2 does not keep, and those that do nothing to a budget.
//!
//! h2 bounds what a flood may leave in memory, but answers PING, SETTINGS and WINDOW_UPDATE for as long as
//! they come, which is a core for each connection that only sends those (CVE-2019-9512, -9515 and their
//! kin). So each frame costs tokens by the work that it makes, except DATA that has data; tokens come back with time, and
//! with the bytes and the responses that the client is sent, for which it rightly sends HEADERS and WINDOW_UPDATE.

mod rules;

use std::time::Instant;

use rules::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Header, PADDED, RST_STREAM, Rules,
};

pub use rules::Code;

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
/// RFC 9113 section 4.1: length, type, flags, stream.
const HEADER_BYTES: usize = 9;
/// RFC 9113 section 3.4: what comes before the first frame.
const PREFACE_BYTES: usize = 24;

/// The frames of one connection.
#[derive(Debug, Clone)]
pub struct Frames {
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    tokens: u32,
    /// When tokens last came back; `None` before the first frames.
    refilled: Option<Instant>,
    /// Bytes sent that are not worth a token yet.
    sent: u32,
    rules: Rules,
    /// A header block has begun and not ended: RFC 9113 section 4.3 lets nothing come between.
    block: Block,
    /// The next byte is a DATA frame's pad length, of a payload of so many bytes (RFC 9113 section 6.1).
    padded: Option<usize>,
}

impl Default for Frames {
    fn default() -> Self {
        Frames::new()
    }
}

/// How much of a header block has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// None is under way.
    None,
    /// The frame that ends it has begun.
    Last,
    /// There is more to come after this frame.
    Open,
}

impl Frames {
    /// Of a connection whose first byte is to come.
    pub fn new() -> Self {
        Frames {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            have: 0,
            tokens: TOKENS_MAX,
            refilled: None,
            sent: 0,
            rules: Rules::default(),
            block: Block::None,
            padded: None,
        }
    }

    /// True while some of a request's head has come, and not all.
    pub fn is_amid_head(&self) -> bool {
        self.block == Block::Open || (self.block == Block::Last && self.skip > 0)
    }

    /// So many responses have gone to the client, whole.
    pub fn answered(&mut self, responses: u32) {
        let earned = responses.saturating_mul(TOKENS_PER_RESPONSE);
        self.tokens = self.tokens.saturating_add(earned).min(TOKENS_MAX);
    }

    /// RFC 9113 section 6.8: the last word to a client that is not listened to any more. It names the last stream that
    /// was seen: what is under way may have been acted upon, so none of it is to be sent again.
    pub fn goaway(&self, code: Code) -> [u8; 17] {
        let [a, b, c, d] = self.rules.last_stream().to_be_bytes();
        [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code as u8]
    }

    /// So many bytes have gone to the client.
    pub fn sent(&mut self, bytes: usize) {
        let sent = self.sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.tokens = self.tokens.saturating_add(sent / BYTES_PER_TOKEN).min(TOKENS_MAX);
        self.sent = sent % BYTES_PER_TOKEN;
    }

    /// These bytes have come from it.
    ///
    /// # Errors
    /// It has broken a rule, or (ENHANCE_YOUR_CALM) its budget is spent.
    pub fn received(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Code> {
        self.refill(now);
        while !bytes.is_empty() {
            if let Some(payload) = self.padded.take()
                && usize::from(bytes[0]) + 1 >= payload
            {
                self.pay(1)?;
            }
            if self.skip > 0 {
                let (passed, after) = bytes.split_at(self.skip.min(bytes.len()));
                self.skip -= passed.len();
                // Nothing is read of the preface: that is h2's.
                self.rules.payload(passed)?;
                bytes = after;
                continue;
            }
            let taken = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER_BYTES {
                self.begins(Header::parse(&self.header))?;
            }
        }
        Ok(())
    }

    fn begins(&mut self, header: Header) -> Result<(), Code> {
        (self.have, self.skip) = (0, header.length);
        self.rules.begins(&header)?;
        self.block = match header.kind {
            HEADERS | CONTINUATION if !header.has(END_HEADERS) => Block::Open,
            HEADERS | CONTINUATION => Block::Last,
            _ => Block::None,
        };
        // One that has no data but ends the body is free.
        let is_padded = header.kind == DATA && header.has(PADDED) && !header.has(END_STREAM);
        self.padded = (is_padded && header.length > 0).then_some(header.length);
        self.pay(price(&header))
    }

    fn pay(&mut self, tokens: u32) -> Result<(), Code> {
        self.tokens = self.tokens.checked_sub(tokens).ok_or(Code::EnhanceYourCalm)?;
        Ok(())
    }

    fn refill(&mut self, now: Instant) {
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
}

/// What a frame costs.
fn price(header: &Header) -> u32 {
    match header.kind {
        DATA if header.length > 0 || header.has(END_STREAM) => 0,
        RST_STREAM => TOKENS_OF_RESET,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame_on(stream: u32, kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![(payload >> 16) as u8, (payload >> 8) as u8, payload as u8, kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.resize(HEADER_BYTES + payload, 0x90);
        frame
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        frame_on(1, kind, flags, payload)
    }

    /// With its whole budget, and no stream.
    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new();
        frames.received(&[b'P'; PREFACE_BYTES], now).unwrap();
        frames.received(&frame_on(0, 4, 0, 0), now).unwrap();
        frames.answered(1);
        frames
    }

    #[test]
    fn frames_cost_by_the_work_they_make_and_data_costs_nothing() {
        let now = Instant::now();
        // The payload of DATA is sevens: seven bytes of padding.
        for (name, frame, price) in [
            ("data", frame(0, 0, 1), 0),
            ("the end of a body", frame(0, 1, 0), 0),
            ("data and padding", frame(0, 8, 9), 0),
            ("the end of a body in padding", frame(0, 9, 8), 0),
            ("nothing but padding", frame(0, 8, 8), 1),
            ("empty data", frame(0, 0, 0), 1),
            ("headers", frame(1, 5, 20), 1),
            ("priority", frame(2, 0, 5), 1),
            ("a reset", frame(3, 0, 4), TOKENS_OF_RESET),
            ("settings", frame(4, 0, 0), 1),
            ("a push promise", frame(5, 4, 9), 1),
            ("a ping", frame(6, 0, 8), 1),
            ("a goaway", frame(7, 0, 8), 1),
            ("a window", frame(8, 0, 4), 1),
            ("a continuation", frame(9, 0, 100), 1),
            ("an unknown one", frame(0xbb, 0, 70_000), 1),
        ] {
            let mut frames = begun(now);
            let fill = if frame[3] == DATA { 7 } else { 0x90 };
            let payload = vec![fill; frame.len() - HEADER_BYTES];
            let on = |stream: u32| [&frame[..5], &stream.to_be_bytes(), &payload].concat();
            let streams = (0..2 * TOKENS_MAX).map(|n| 2 * n + 1);
            let passed = streams.take_while(|&stream| frames.received(&on(stream), now).is_ok()).count();
            let expected = TOKENS_MAX.checked_div(price).unwrap_or(2 * TOKENS_MAX);
            assert_eq!(passed, expected as usize, "{name}");
        }
    }

    #[test]
    fn a_head_is_under_way_until_its_last_byte() {
        let now = Instant::now();
        for (name, bytes, is_amid) in [
            ("nothing", Vec::new(), false),
            ("a whole head", frame(1, 4, 3), false),
            ("half a head", frame(1, 4, 3)[..11].to_vec(), true),
            ("half a frame header", frame(1, 4, 3)[..8].to_vec(), false),
            ("a head without its end", frame(1, 0, 3), true),
            ("more of it", [frame(1, 0, 3), frame(9, 0, 3)].concat(), true),
            ("its end", [frame(1, 0, 3), frame(9, 0, 3), frame(9, 4, 3)].concat(), false),
            ("an end without anything", [frame(1, 0, 3), frame(9, 4, 0)].concat(), false),
            ("half a ping", frame(6, 0, 8)[..12].to_vec(), false),
        ] {
            let mut frames = begun(now);
            frames.received(&bytes, now).unwrap();
            assert_eq!(frames.is_amid_head(), is_amid, "{name}");
        }
    }

    #[test]
    fn the_budget_comes_back_with_time_and_with_what_is_sent() {
        let now = Instant::now();
        let ping = frame(6, 0, 8);
        let mut frames = begun(now);
        frames.received(&ping.repeat(TOKENS_MAX as usize), now).unwrap();

        let later = now + Duration::from_millis(100);
        assert_eq!(frames.clone().received(&ping.repeat(11), later), Err(Code::EnhanceYourCalm));
        assert_eq!(frames.received(&ping.repeat(10), later), Ok(()));

        frames.sent(3 * BYTES_PER_TOKEN as usize - 1);
        frames.sent(1);
        assert_eq!(frames.clone().received(&ping.repeat(4), later), Err(Code::EnhanceYourCalm));
        assert_eq!(frames.received(&ping.repeat(3), later), Ok(()));

        frames.answered(2);
        let earned = 2 * TOKENS_PER_RESPONSE as usize;
        assert_eq!(frames.clone().received(&ping.repeat(earned + 1), later), Err(Code::EnhanceYourCalm));
        assert_eq!(frames.received(&ping.repeat(earned), later), Ok(()));
    }

    #[test]
    fn the_last_word_names_the_last_stream_and_says_why() {
        let now = Instant::now();
        let mut frames = begun(now);
        assert_eq!(frames.goaway(Code::EnhanceYourCalm)[9..], [0, 0, 0, 0, 0, 0, 0, 0xb]);
        frames.received(&frame_on(0x8000_0107, 1, 5, 3), now).unwrap();
        frames.received(&frame_on(5, 1, 5, 3), now).unwrap();
        assert_eq!(frames.goaway(Code::FrameSize)[9..], [0, 0, 1, 7, 0, 0, 0, 6]);
    }

    proptest::proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            // Mostly whole requests and what follows them: one mistake, and nothing more is read.
            kinds in proptest::collection::vec((0u32..6, 0u8..10, 0u8..64, 0usize..13), 0..60),
            cuts in proptest::collection::vec(1usize..30, 1..40),
        ) {
            let now = Instant::now();
            let bytes: Vec<u8> =
                kinds.iter().flat_map(|&(stream, kind, flags, length)| frame_on(stream, kind, flags, length)).collect();
            let mut whole = begun(now);
            let expected = whole.received(&bytes, now);

            let mut pieces = begun(now);
            let (mut rest, mut cuts, mut outcome) = (&bytes[..], cuts.iter().cycle(), Ok(()));
            while !rest.is_empty() && outcome.is_ok() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                outcome = pieces.received(piece, now);
                rest = after;
            }
            proptest::prop_assert_eq!(outcome, expected);
            proptest::prop_assert_eq!(pieces.tokens, whole.tokens);
            proptest::prop_assert_eq!(pieces.goaway(Code::Protocol), whole.goaway(Code::Protocol));
            proptest::prop_assert_eq!((pieces.skip, pieces.have), (whole.skip, whole.have));
            proptest::prop_assert_eq!(pieces.is_amid_head(), whole.is_amid_head());
        }
    }
}
