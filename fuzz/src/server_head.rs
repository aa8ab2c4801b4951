//! What a server says is read as a simple reader reads it: interim responses, one head, its body and trailers, where that
//! ends, and whether the connection may be used again. However it arrives, it is the same, and what was cut never looks
//! whole.
//!
//! The first line says what was asked for (`GET`, `HEAD`, `WEBSOCKET`), how many bytes come at once and of how many the
//! pieces are that follow (0: of all), how often each `~` stands there, which is how an input reaches a limit, and who
//! reads (`free`, `demand`, `full`). What the server says is behind it.

mod exchange;
mod simple;

use super::head;
use exchange::{Asks, Pace, Seen, World};
use simple::{Found, Outcome};

/// The most that the server says: more than any limit.
const SAID_BYTES_MAX: usize = 150_000;
/// Responses in a row.
const ROW_MAX: usize = 4;

pub fn holds(data: &[u8]) {
    let (first, text) = head::first_line(data);
    let Some((asks, arrival, times)) = said_first(first) else { return };
    let Some(bytes) = stretched(text, times) else { return };
    let (world, found) = (World::of_this_thread(), simple::read(&bytes, &asks));
    let otherwise = Some(arrival).filter(|arrival| *arrival != Arrival::WHOLE);
    for arrival in std::iter::once(Arrival::WHOLE).chain(otherwise) {
        let seen = world.exchange(&mut world.connect(), &bytes, arrival, &asks);
        agree(&found, &seen);
    }
    if found.outcome == Outcome::Whole && found.end < bytes.len() {
        agree_in_a_row(&bytes, &asks);
    }
}

/// How the server's bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// So many at once.
    first: usize,
    /// And then so many.
    then: usize,
}

impl Arrival {
    const WHOLE: Arrival = Arrival { first: 0, then: 0 };

    /// Where the next piece ends, which is not empty.
    fn end(self, said: usize, length: usize) -> usize {
        let bytes = match said {
            0 => self.first,
            // Pieces without number would take for ever and reach nothing more.
            _ => self.then.max(length / 64 * usize::from(self.then > 0)),
        };
        if bytes == 0 { length } else { length.min(said.saturating_add(bytes)) }
    }
}

/// Words that are not there, or are none, are the least.
fn said_first(line: &[u8]) -> Option<(Asks, Arrival, usize)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, wants_websocket) = match words.next()? {
        "GET" => (http::Method::GET, false),
        "HEAD" => (http::Method::HEAD, false),
        "WEBSOCKET" => (http::Method::GET, true),
        _ => return None,
    };
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let (arrival, times) = (Arrival { first: number(), then: number() }, number());
    let pace = match words.next() {
        Some("demand") => Pace::Demand,
        Some("full") => Pace::Full,
        _ => Pace::Free,
    };
    Some((Asks { method, wants_websocket, pace }, arrival, times))
}

fn stretched(text: &[u8], times: usize) -> Option<Vec<u8>> {
    let times = times.max(1);
    let count = text.iter().filter(|&&b| b == b'~').count();
    if count.checked_mul(times)?.checked_add(text.len())? > SAID_BYTES_MAX {
        return None;
    }
    Some(text.iter().flat_map(|&b| std::iter::repeat_n(b, if b == b'~' { times } else { 1 })).collect())
}

fn agree(found: &Found, seen: &Seen) {
    assert_eq!(found.interims, seen.interims);
    assert_eq!(found.head, seen.head);
    let is_early = found.is_hopeless && seen.outcome == Outcome::Refused;
    assert!(found.outcome == seen.outcome || is_early, "{:?}: {:?}", found.outcome, seen.outcome);
    match seen.outcome {
        // What came before the mistake may have passed already, or not.
        Outcome::Refused => assert!(found.data.starts_with(&seen.data)),
        Outcome::Tunnel => assert_eq!(found.data[..seen.said - found.end], seen.data),
        Outcome::Whole | Outcome::Cut | Outcome::NoHead { .. } => assert_eq!(found.data, seen.data),
    }
    assert_eq!(found.trailers, seen.trailers);
    if found.outcome == Outcome::Whole {
        let is_told = |&(before, length): &(usize, u64)| before as u64 + length == found.data.len() as u64;
        assert!(seen.lengths.iter().all(is_told), "{:?} of {}", seen.lengths, found.data.len());
    }
    let is_awaited = matches!(found.outcome, Outcome::Cut | Outcome::NoHead { .. }) || found.is_until_close;
    assert!(is_awaited || !seen.has_closed, "nothing more is waited for");
    assert_eq!(found.keeps && seen.said == found.end, seen.is_kept, "of {} bytes {}", seen.said, found.end);
}

/// Each response comes when it is asked for, over one connection, which stays open: to the byte it ends there.
fn agree_in_a_row(mut bytes: &[u8], asks: &Asks) {
    let world = World::of_this_thread();
    let mut connection = world.connect();
    for _ in 0..ROW_MAX {
        let found = simple::read(bytes, asks);
        if found.outcome != Outcome::Whole || found.is_until_close {
            return;
        }
        let (response, behind) = bytes.split_at(found.end);
        let seen = world.exchange(&mut connection, response, Arrival::WHOLE, asks);
        agree(&found, &seen);
        if !seen.is_kept {
            return;
        }
        bytes = behind;
    }
}
