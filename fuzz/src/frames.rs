//! Whatever a client of HTTP/2 sends, its connection stays within bounds, it does not matter how the bytes are cut, and
//! a mistake ends in GOAWAY.
//!
//! The first byte says how long the pieces are and what becomes of requests; the rest follows the preface.

use std::io::IoSlice;
use std::time::Instant;

use bytes::Bytes;
use tidegate::answer::Written;
use tidegate::config::Limits;
use tidegate::front::http2::Code;
use tidegate::front::http2::outbox::SLICES_MAX;
use tidegate::front::http2::session::{Event, Rules, Session, Then};

/// As `front::http2` has them: what one connection may send at once of frames that do nothing, and the most that one
/// of these costs.
const TOKENS_MAX: usize = 1000;
const COST_MAX: usize = 4;
/// The last word: a frame of its header, a stream and a code.
const GOAWAY: usize = 17;

pub fn holds(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let whole = play(bytes, bytes.len(), choice);
    let pieces = play(bytes, usize::from(choice).max(1), choice);
    assert_eq!(whole, pieces);

    let counted = counted(bytes);
    match whole.outcome {
        Ok(()) => assert!(counted.useless <= whole.earned + TOKENS_MAX, "{} passed", counted.useless),
        Err(Code::EnhanceYourCalm) => assert!(counted.frames > 0),
        Err(_) => {}
    }
    // Without a head there is no bomb, and so few frames are no flood.
    let is_calm = counted.headers == 0 && counted.frames * COST_MAX <= TOKENS_MAX;
    assert!(!is_calm || whole.outcome != Err(Code::EnhanceYourCalm));
}

#[derive(Debug, PartialEq, Eq)]
struct Played {
    outcome: Result<(), Code>,
    requests: usize,
    data: Vec<u8>,
    said: Vec<u8>,
    /// Tokens that whole responses are worth.
    earned: usize,
}

/// Some requests are answered at once, some have a body read, some are left to wait.
fn play(bytes: &[u8], piece: usize, choice: u8) -> Played {
    let limits = Limits::default();
    let mut session: Session<()> = Session::new(Rules::new(&limits), Instant::now());
    let mut played = Played { outcome: Ok(()), requests: 0, data: Vec::new(), said: Vec::new(), earned: 0 };
    let mut unread = Vec::new();
    'all: for piece in bytes.chunks(piece.max(1)) {
        unread.extend_from_slice(piece);
        let mut used = 0;
        loop {
            match session.next(&unread[used..]) {
                Ok(None) => break,
                Ok(Some((length, event))) => {
                    used += length;
                    act(&mut session, event, choice, &mut played);
                }
                Err(code) => {
                    played.outcome = Err(code);
                    session.fail(code);
                    break 'all;
                }
            }
            assert!(session.streams.len() <= limits.http2_streams as usize);
        }
        unread.drain(..used);
        // No more than one frame.
        assert!(unread.len() < 9 + 16_384);
    }
    played.said = said(&mut session);
    if let Err(code) = played.outcome {
        let last = &played.said[played.said.len() - GOAWAY..];
        assert_eq!((last[3], last[16]), (7, code as u8));
        assert!(session.streams.is_empty() && session.is_over());
    }
    played
}

fn act(session: &mut Session<()>, event: Event<'_>, choice: u8, played: &mut Played) {
    match event {
        Event::Request { slot, head, .. } => {
            played.requests += 1;
            session.took_up(slot);
            let ok = Written::new(http::StatusCode::OK, None, 0);
            match (choice as usize + played.requests) % 4 {
                0 => {
                    session.respond(slot, &ok, None, Then::End);
                    played.earned += COST_MAX;
                }
                1 => {
                    session.interim(slot, http::StatusCode::EARLY_HINTS, &head.fields);
                    session.respond(slot, &ok, None, Then::More);
                    let room = session.room(slot).min(2000);
                    session.send(slot, Bytes::from(vec![7; room]), Then::More);
                }
                _ => {}
            }
        }
        Event::Refused(slot, _) => session.took_up(slot),
        Event::Data(slot, data, _) => {
            played.data.extend_from_slice(data);
            match choice % 3 {
                0 => session.taken(slot, data.len()),
                1 => session.left_unread(slot, data.len()),
                _ => {}
            }
        }
        Event::Settled | Event::Trailers(..) | Event::Grown(_) | Event::AllGrown => {}
    }
}

/// All that waits for the client.
fn said(session: &mut Session<()>) -> Vec<u8> {
    let mut said = Vec::new();
    while !session.out.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = session.out.slices(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        session.wrote(bytes.len());
        said.extend(bytes);
    }
    said
}

struct Counted {
    frames: usize,
    headers: usize,
    useless: usize,
}

/// RFC 9113 section 4.1: nine bytes, then as many as they say.
fn counted(bytes: &[u8]) -> Counted {
    let (mut counted, mut rest) = (Counted { frames: 0, headers: 0, useless: 0 }, bytes);
    while let Some((header, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some(after) = after.get(length..) else { break };
        let is_useful = match header[3] {
            0 => length > 0 || header[4] & 1 == 1,
            1 | 7 => true,
            _ => false,
        };
        counted.frames += 1;
        counted.headers += usize::from(header[3] == 1);
        counted.useless += usize::from(!is_useful);
        rest = after;
    }
    counted
}
