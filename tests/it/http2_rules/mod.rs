//! RFC 9113 and RFC 7541, rule by rule: what a client is told that breaks one, and what its server sees of it.
//!
//! A client writes frames as bytes; a server of HTTP/1.1 that forgives nothing stands behind the proxy. Each case has
//! a connection of its own, and after each the server must have seen nothing but whole, unambiguous requests.

mod bodies;
mod fields;
mod flow;
mod framing;
mod hpack;
mod server;
mod streams;

use std::cell::RefCell;

use crate::support::Proxy;
use crate::support::frames::*;

use server::Recorder;

/// What comes of the bytes that a client sends after its hello. What they ask for is on stream 1.
pub enum Then {
    /// GOAWAY with one of these codes, and the end of the connection; the server sees no whole request.
    Connection(&'static [u32]),
    /// RST_STREAM with one of these codes; other streams go on, and the server sees no whole request.
    Stream(&'static [u32]),
    /// RST_STREAM with this code, on a stream whose request the server has got; other streams go on.
    Reset(u32),
    /// An answer of the proxy's own, with one of these statuses; the server sees nothing.
    Refused(&'static [u16]),
    /// One of the two.
    Either(&'static [u16], &'static [u32]),
    /// The server's answer.
    Served,
    /// Nothing: the connection goes on.
    Nothing,
}

pub type Case = (&'static str, Vec<u8>, Then);

/// Tables of what could be injected into a request of HTTP/1.1.
pub const TABLES: &[&[fn()]] = &[bodies::TABLES, fields::TABLES];

thread_local! {
    /// Cases that are gathered and not played.
    static GATHERED: RefCell<Option<Vec<Case>>> = const { RefCell::new(None) };
}

/// The cases of a table, for another stage than its own.
pub fn cases_of(table: fn()) -> Vec<Case> {
    GATHERED.set(Some(Vec::new()));
    table();
    GATHERED.take().unwrap_or_default()
}

/// Plays all cases before a plain proxy, unless this thread gathers them.
#[track_caller]
pub fn check(cases: Vec<Case>) {
    let cases = GATHERED.with_borrow_mut(|gathered| match gathered {
        None => Some(cases),
        Some(gathered) => {
            gathered.extend(cases);
            None
        }
    });
    if let Some(cases) = cases {
        Stage::new().play(cases);
    }
}

/// A server and a proxy before it.
pub struct Stage {
    pub server: Recorder,
    pub proxy: Proxy,
}

impl Stage {
    #[track_caller]
    pub fn new() -> Stage {
        Stage::with("", "")
    }

    /// With more tables, and more keys of the upstream.
    #[track_caller]
    pub fn with(tables: &str, keys: &str) -> Stage {
        let server = Recorder::start();
        let route = "[[route]]\nupstream = \"app\"\n[upstream.app]\neject = false\nretries = 0\n";
        let proxy = Proxy::start(&format!("{tables}\n{route}{keys}\nservers = [{}]\n", server.toml()));
        Stage { server, proxy }
    }

    #[track_caller]
    pub fn client(&self) -> FrameClient {
        FrameClient::connect(self.proxy.public())
    }

    /// Plays all cases, and says at the end what went wrong in which.
    #[track_caller]
    pub fn play(&self, cases: Vec<Case>) {
        let mut wrong = Vec::new();
        for (name, bytes, then) in cases {
            self.server.forget();
            let mut client = self.client();
            client.send(bytes);
            if let Err(why) = self.judge(client, then) {
                wrong.push(format!("{name}: {why}"));
            }
            let broken = self.server.record().broken;
            if !broken.is_empty() {
                wrong.push(format!("{name}: the server was sent {broken:?}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    fn judge(&self, mut client: FrameClient, then: Then) -> Result<(), String> {
        match then {
            Then::Connection(codes) => {
                goes_away(&mut client, codes)?;
                return self.was_not_asked();
            }
            Then::Stream(codes) => match first_word(&mut client)? {
                frame if frame.kind == RST_STREAM && codes.contains(&frame.code()) => {}
                frame => return Err(format!("{frame:?} instead of RST_STREAM {codes:?}")),
            },
            Then::Reset(code) => match first_word(&mut client)? {
                frame if frame.kind == RST_STREAM && frame.code() == code => return goes_on(&mut client),
                frame => return Err(format!("{frame:?} instead of RST_STREAM {code}")),
            },
            Then::Refused(statuses) => match first_word(&mut client)? {
                frame if frame.kind == HEADERS && statuses.contains(&frame.status()) => {}
                frame => return Err(format!("{frame:?} instead of {statuses:?}")),
            },
            Then::Either(statuses, codes) => match first_word(&mut client)? {
                frame if frame.kind == HEADERS && statuses.contains(&frame.status()) => {}
                frame if frame.kind == RST_STREAM && codes.contains(&frame.code()) => {}
                frame => return Err(format!("{frame:?} instead of {statuses:?} or RST_STREAM {codes:?}")),
            },
            Then::Served => match first_word(&mut client)? {
                frame if frame.kind == HEADERS && frame.status() == 200 => return Ok(()),
                frame => return Err(format!("{frame:?} instead of 200")),
            },
            Then::Nothing => return goes_on(&mut client),
        }
        goes_on(&mut client)?;
        self.was_not_asked()
    }

    /// But for what is good, and is called so.
    fn was_not_asked(&self) -> Result<(), String> {
        let mut asked = self.server.record().whole;
        asked.retain(|request| !["/next", "/wait"].contains(&request.target()));
        if asked.is_empty() { Ok(()) } else { Err(format!("the server was asked: {asked:?}")) }
    }
}

/// The first frame that says what becomes of stream 1.
pub fn first_word(client: &mut FrameClient) -> Result<Frame, String> {
    loop {
        let Some(frame) = client.next() else { return Err("the connection ended".to_owned()) };
        match frame.kind {
            GOAWAY => return Err(format!("GOAWAY {}", frame.code())),
            HEADERS | RST_STREAM if frame.stream == 1 => return Ok(frame),
            _ => {}
        }
    }
}

pub fn goes_away(client: &mut FrameClient, codes: &[u32]) -> Result<(), String> {
    let mut told = None;
    while let Some(frame) = client.next() {
        match frame.kind {
            GOAWAY => told = Some(frame.code()),
            RST_STREAM => return Err(format!("{frame:?} instead of GOAWAY {codes:?}")),
            PING if frame.flags & ACK != 0 => return Err("it goes on".to_owned()),
            _ => {}
        }
        if told.is_none() {
            // Who forgives answers this.
            client.send(frame_of_ping());
        }
    }
    match told {
        Some(code) if codes.contains(&code) => Ok(()),
        Some(code) => Err(format!("GOAWAY {code} instead of {codes:?}")),
        None => Err("the connection ended without GOAWAY".to_owned()),
    }
}

fn frame_of_ping() -> Vec<u8> {
    frame(PING, 0, 0, b"whatever")
}

/// A request on a stream that nobody has used yet is served.
pub fn goes_on(client: &mut FrameClient) -> Result<(), String> {
    client.send(get(1001, "/next"));
    loop {
        match client.next() {
            None => return Err("the connection ended".to_owned()),
            Some(frame) if frame.kind == GOAWAY => return Err(format!("GOAWAY {}", frame.code())),
            Some(frame) if frame.kind == HEADERS && frame.stream == 1001 => {
                return if frame.status() == 200 { Ok(()) } else { Err(format!("then: {frame:?}")) };
            }
            Some(_) => {}
        }
    }
}

/// Several frames, one after the other.
pub fn all(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

/// The head of a request on stream 1, and its end.
pub fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields))
}
