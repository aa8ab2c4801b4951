//! RFC 9113 and RFC 7541 to the letter: which code, of which stream or of the connection, and which stream was the last.
//!
//! The cases beside those of [`crate::http2_rules`], which ask mostly what comes of a rule that is broken. Here each frame
//! that answers is held to what the RFC has it say. Section numbers without another word are RFC 9113's.

mod compression;
mod flow;
mod frames;
mod settings;
mod streams;

use crate::http2_rules::{Stage, all, goes_on};
use crate::support::frames::*;

/// What the client is told.
#[derive(Debug, Clone, Copy)]
pub enum Told {
    /// GOAWAY with this code, after this stream; and the end of the connection. Nothing else is said of any stream.
    GoAway(u32, u32),
    /// RST_STREAM of this stream with this code, before anything else is said of it. The connection goes on.
    Reset(u32, u32),
    /// The answer of this stream has this status. The connection goes on.
    Answer(u32, u16),
    /// Nothing. The connection goes on.
    Nothing,
}

pub type Case<'a> = (&'a str, Vec<u8>, Told);

/// Plays each case on a connection of its own, and says at the end what went wrong in which.
#[track_caller]
pub fn play(stage: &Stage, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for (name, bytes, told) in cases {
        stage.server.forget();
        let mut client = stage.client();
        client.send(bytes);
        if let Err(why) = judge(&mut client, told) {
            wrong.push(format!("{name}: {why}"));
        }
        let broken = stage.server.record().broken;
        if !broken.is_empty() {
            wrong.push(format!("{name}: the server was sent {broken:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

pub fn judge(client: &mut FrameClient, told: Told) -> Result<(), String> {
    match told {
        Told::GoAway(code, last) => goes_away(client, code, last),
        Told::Reset(stream, code) => {
            let first = first_of(client, stream)?;
            if first.kind != RST_STREAM || first.code() != code {
                return Err(format!("{first:?} instead of RST_STREAM {code}"));
            }
            goes_on(client)
        }
        Told::Answer(stream, status) => {
            let first = first_of(client, stream)?;
            if first.kind != HEADERS || first.status() != status {
                return Err(format!("{first:?} instead of {status}"));
            }
            goes_on(client)
        }
        Told::Nothing => goes_on(client),
    }
}

/// The first frame that says what becomes of a stream.
fn first_of(client: &mut FrameClient, stream: u32) -> Result<Frame, String> {
    loop {
        match client.next() {
            None => return Err("the connection ended".to_owned()),
            Some(frame) if frame.kind == GOAWAY => return Err(format!("GOAWAY {}", frame.code())),
            Some(frame) if frame.stream == stream && [HEADERS, RST_STREAM].contains(&frame.kind) => {
                return Ok(frame);
            }
            Some(_) => {}
        }
    }
}

/// Sections 5.4.1 and 6.8.
pub fn goes_away(client: &mut FrameClient, code: u32, last: u32) -> Result<(), String> {
    // Who forgives answers this.
    client.send(frame(PING, 0, 0, b"whatever"));
    let mut told = None;
    while let Some(frame) = client.next() {
        match frame.kind {
            GOAWAY => told = Some((frame.code(), last_of(&frame))),
            RST_STREAM => return Err(format!("{frame:?} instead of GOAWAY {code}")),
            PING if frame.payload == b"whatever" => return Err("it goes on".to_owned()),
            _ => {}
        }
    }
    match told {
        Some(said) if said == (code, last) => Ok(()),
        Some((said, of)) => Err(format!("GOAWAY {said} after stream {of} instead of {code} after {last}")),
        None => Err("the connection ended without GOAWAY".to_owned()),
    }
}

/// The last stream that a GOAWAY speaks of.
fn last_of(frame: &Frame) -> u32 {
    u32::from_be_bytes(*frame.payload.first_chunk().unwrap())
}

/// GET of http://test, by HPACK's static table and literals.
pub const GET: &[u8] = b"\x82\x86\x84\x01\x04test";
/// The same, for `/wait`, which is not answered before the gate is open.
pub const GET_WAIT: &[u8] = b"\x82\x86\x04\x05/wait\x01\x04test";
pub const POST: &[u8] = b"\x83\x86\x84\x01\x04test";

/// A whole request: the head's block.
pub fn asks(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// A request whose body is to come.
pub fn begins(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block)
}

pub fn data(stream: u32, flags: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

pub fn rst(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes())
}

pub fn grant(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

pub fn priority(stream: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, [0, 0, 0, 0, 15])
}
