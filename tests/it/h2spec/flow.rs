//! Flow control (sections 5.2, 6.9.1 and 6.9.2): to the byte, and nothing of a window is lost.

use super::*;
use Told::*;

const MOST: u32 = (1 << 31) - 1;

/// A client that sends the body of one stream after another within its windows.
struct Sender {
    client: FrameClient,
    stream: u32,
    /// What the connection takes, and what the stream does.
    windows: [usize; 2],
}

impl Sender {
    fn new(stage: &Stage) -> Sender {
        Sender { client: stage.client(), stream: 0, windows: [65_535, 0] }
    }

    fn begin(&mut self, stream: u32, head: &[u8]) {
        self.client.send(begins(stream, head));
        // As our SETTINGS say.
        (self.stream, self.windows[1]) = (stream, 256 * 1024);
    }

    /// Sends a DATA frame once there is room for it.
    #[track_caller]
    fn data(&mut self, flags: u8, payload: &[u8]) {
        while self.windows.iter().any(|window| *window < payload.len()) {
            let grant = self.client.until("a window", |f| f.kind == WINDOW_UPDATE);
            let bytes = u32::from_be_bytes(*grant.payload.first_chunk().unwrap()) as usize;
            if grant.stream == 0 {
                self.windows[0] += bytes;
            } else if grant.stream == self.stream {
                self.windows[1] += bytes;
            }
        }
        self.windows = self.windows.map(|window| window - payload.len());
        self.client.send(data(self.stream, flags, payload));
    }
}

#[test]
fn padding_is_counted_and_given_back() {
    const PIECES: usize = 8192;
    let stage = Stage::new();
    let mut sender = Sender::new(&stage);
    // A byte of data, and 255 of padding and its length: twice the connection's window in all.
    let piece = [&[254][..], b"x", &[0; 254]].concat();
    sender.begin(1, POST);
    for _ in 1..PIECES {
        sender.data(PADDED, &piece);
    }
    sender.data(PADDED | END_STREAM, &piece);

    assert_eq!(sender.client.answer(1), 200);
    assert_eq!(stage.server.only().body.len(), PIECES);
}

/// Twice the connection's window, in fewer streams than would be a flood of resets.
const STREAMS: u32 = 16;
const PIECES: usize = 8;

#[test]
fn what_nobody_reads_is_given_back_to_the_connection() {
    let stage = Stage::new();
    for (name, head, end) in [
        ("answered early", &b"\x83\x86\x04\x03/..\x01\x04test"[..], END_STREAM),
        ("malformed", b"\x83\x86\x01\x04test", END_STREAM),
        ("malformed, and never ended", b"\x83\x86\x01\x04test", 0),
    ] {
        let mut sender = Sender::new(&stage);
        for n in 0..STREAMS {
            sender.begin(2 * n + 1, head);
            for _ in 1..PIECES {
                sender.data(0, &[b'x'; 16_384]);
            }
            sender.data(end, &[b'x'; 16_384]);
        }

        assert_eq!(goes_on(&mut sender.client), Ok(()), "{name}");
    }
}

#[test]
fn what_a_stream_took_before_it_was_reset_is_given_back_to_the_connection() {
    // Nobody reads the bodies of those who wait in the queue.
    let stage = Stage::with("[limits]\nbody-idle = \"60s\"", "max-requests = 1");
    let mut first = stage.client();
    first.send(asks(1, GET_WAIT));
    crate::support::eventually("the server is busy", || stage.server.record().whole.len() == 1);

    let mut sender = Sender::new(&stage);
    for n in 0..STREAMS {
        sender.begin(2 * n + 1, POST);
        for _ in 0..PIECES {
            sender.data(0, &[b'x'; 16_384]);
        }
        sender.client.send(rst(2 * n + 1));
    }
    assert!(!stage.server.gate().is_open());
    stage.server.open();
    assert_eq!(goes_on(&mut sender.client), Ok(()));
}

#[test]
fn windows_end_where_they_end() {
    let stage = Stage::new();
    let waits = |then: Vec<u8>| all(&[asks(1, GET_WAIT), then]);
    let window = |bytes| frame(SETTINGS, 0, 0, setting(4, bytes));
    play(
        &stage,
        vec![
            ("a stream's by nothing", waits(grant(1, 0)), Reset(1, PROTOCOL_ERROR)),
            ("the connection's by nothing", waits(grant(0, 0)), GoAway(PROTOCOL_ERROR, 1)),
            ("a stream's to its end", waits(grant(1, MOST - 65_535)), Nothing),
            ("a stream's beyond", waits(grant(1, MOST - 65_534)), Reset(1, FLOW_CONTROL_ERROR)),
            ("a stream's by many", waits(grant(1, MOST / 8).repeat(9)), Reset(1, FLOW_CONTROL_ERROR)),
            ("the connection's beyond", waits(grant(0, MOST - 65_534)), GoAway(FLOW_CONTROL_ERROR, 1)),
            ("the connection's by many", waits(grant(0, MOST / 8).repeat(9)), GoAway(FLOW_CONTROL_ERROR, 1)),
            (
                "a stream's to its end by a setting",
                waits(all(&[grant(1, MOST - 65_535), window(65_535)])),
                Nothing,
            ),
            (
                "a stream's beyond by a setting",
                waits(all(&[grant(1, MOST - 65_535), window(65_536)])),
                GoAway(FLOW_CONTROL_ERROR, 1),
            ),
            (
                "a stream's that a setting has made small again",
                waits(all(&[window(0), grant(1, MOST), window(0)])),
                Nothing,
            ),
            // Section 6.9.2: a setting is not for the connection's window.
            (
                "the connection's, and the largest setting",
                all(&[window(MOST), grant(0, MOST - 65_535)]),
                Nothing,
            ),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

/// Frames of one stream's body until nothing more comes: what they have in all, and whether that is the end.
fn sent(client: &mut FrameClient, stream: u32) -> (usize, bool) {
    client.send(frame(PING, 0, 0, b"whatever"));
    let mut bytes = 0;
    loop {
        let frame = client.until("data", |f| f.kind == PING || f.stream == stream && f.kind == DATA);
        bytes += frame.payload.len();
        match frame.kind {
            PING => return (bytes - 8, false),
            _ if frame.flags & END_STREAM != 0 => return (bytes, true),
            _ => {}
        }
    }
}

#[test]
fn what_is_sent_is_as_much_as_the_windows_take_to_the_byte() {
    let stage = Stage::new();
    let big = b"\x82\x86\x04\x04/big\x01\x04test";
    let total = |client: &mut FrameClient, stream, expected: usize| {
        let mut all = 0;
        // It may come in several pieces, as it is read.
        while all < expected {
            all += sent(client, stream).0;
        }
        assert_eq!(all, expected);
        assert_eq!(sent(client, stream), (0, false));
    };

    // The connection's window shuts first, and then a stream's.
    let mut client = FrameClient::dial(stage.proxy.public()).greet(&setting(4, 100_000));
    client.send(asks(1, big));
    total(&mut client, 1, 65_535);
    client.send(grant(0, 1));
    total(&mut client, 1, 1);
    client.send(grant(0, 1 << 20));
    total(&mut client, 1, 100_000 - 65_536);
    client.send(grant(1, 3));
    total(&mut client, 1, 3);

    // A window below nothing must come up again first.
    client.send(frame(SETTINGS, 0, 0, setting(4, 40_000)));
    client.send(grant(1, 60_000));
    assert_eq!(sent(&mut client, 1), (0, false));
    client.send(grant(1, 7));
    total(&mut client, 1, 7);
    client.send(frame(SETTINGS, 0, 0, setting(4, 40_010)));
    total(&mut client, 1, 10);
}

#[test]
fn a_shut_window_holds_up_data_and_nothing_else() {
    let stage = Stage::new();
    let mut client = FrameClient::dial(stage.proxy.public()).greet(&setting(4, 0));
    client.send(asks(1, GET));
    client.until("a head", |f| f.kind == HEADERS && f.stream == 1);

    // What has no body is whole, and what is malformed is reset.
    client.send(asks(3, b"\x02\x04HEAD\x86\x84\x01\x04test"));
    assert_eq!(client.body(3), (200, Vec::new()));
    client.send(asks(5, b"\x82\x86\x01\x04test"));
    client.until("a reset", |f| f.kind == RST_STREAM && f.stream == 5);
    client.ping_without(DATA);
    client.send(grant(1, 2));
    let body = client.until("a body", |f| f.kind == DATA);
    assert_eq!((body.stream, &body.payload[..]), (1, &b"ok"[..]));
}
