//! Flow control (RFC 9113 sections 5.2, 6.5.2 and 6.9).

use std::io::Write;

use crate::support::{self, Gate, Origin, eventually};

use super::*;
use Then::*;

fn grant(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

#[test]
fn a_window_grows_by_something_and_not_beyond_its_end() {
    const MOST: u32 = (1 << 31) - 1;
    let stage = Stage::new();
    stage.play(vec![
        ("the connection's by nothing", grant(0, 0), Connection(&[PROTOCOL_ERROR])),
        ("a stream's by nothing", all(&[get(1, "/wait"), grant(1, 0)]), Reset(PROTOCOL_ERROR)),
        (
            "the connection's beyond",
            all(&[grant(0, MOST), grant(0, MOST)]),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "a stream's beyond",
            all(&[get(1, "/wait"), grant(1, MOST), grant(1, MOST)]),
            Reset(FLOW_CONTROL_ERROR),
        ),
        ("the connection's to its end", grant(0, MOST - 65_535), Nothing),
        (
            "a stream's by a setting",
            all(&[get(1, "/wait"), grant(1, MOST - 65_535), frame(SETTINGS, 0, 0, setting(4, 65_536))]),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
    ]);
    assert!(!stage.server.gate().is_open());
}

#[test]
fn more_than_a_window_takes_is_an_error() {
    const PIECES: usize = 16;
    let stage = Stage::with("[limits]\nbody-idle = \"60s\"\nhttp2-streams = 100", "max-requests = 1");
    let piece = |stream| frame(DATA, 0, stream, [b'x'; 16_384]);
    // Nobody reads the bodies of those who wait in the queue: each stream has 256 KiB, the connection 1 MiB.
    let fill = |client: &mut FrameClient, stream| {
        client.send(post(stream, "/", &[]));
        (0..PIECES).for_each(|_| client.send(piece(stream)));
    };
    let mut first = stage.client();
    first.send(get(1, "/wait"));
    eventually("the server is busy", || stage.server.record().whole.len() == 1);

    let mut client = stage.client();
    // The connection's window is as large as it says only from here on.
    client.until("a window", |f| f.kind == WINDOW_UPDATE && f.stream == 0);
    fill(&mut client, 1);
    client.ping();
    client.send(frame(DATA, 0, 1, b"x"));
    let reset = client.until("a reset", |f| f.kind == RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, FLOW_CONTROL_ERROR));

    let mut client = stage.client();
    client.until("a window", |f| f.kind == WINDOW_UPDATE && f.stream == 0);
    [1, 3, 5, 7].into_iter().for_each(|stream| fill(&mut client, stream));
    client.ping();
    client.send(all(&[post(9, "/", &[]), frame(DATA, 0, 9, b"x")]));
    assert_eq!(goes_away(&mut client, &[FLOW_CONTROL_ERROR]), Ok(()));
    assert!(!stage.server.gate().is_open(), "somebody was served");
    stage.server.open();
}

#[test]
fn no_more_is_sent_than_there_is_a_window_for() {
    let stage = Stage::new();
    let mut client = FrameClient::dial(stage.proxy.public()).greet(&setting(4, 1));
    client.send(get(1, "/"));
    let data = |client: &mut FrameClient| client.until("data", |f| f.kind == DATA);

    let first = data(&mut client);
    assert_eq!((first.payload.len(), first.flags & END_STREAM), (1, 0));

    // The window is 1 below nothing, then nothing, then 1.
    client.send(frame(SETTINGS, 0, 0, setting(4, 0)));
    client.ping_without(DATA);
    client.send(grant(1, 1));
    client.ping_without(DATA);
    client.send(grant(1, 1));
    let last = data(&mut client);
    assert_eq!(last.payload, b"k");
}

#[test]
fn the_end_of_a_body_needs_no_window() {
    for (window, data, end) in [
        (2, "ok", "0\r\n\r\n"),
        (2, "ok", "0\r\nX-Sum: 1\r\n\r\n"),
        (0, "", "0\r\n\r\n"),
        (0, "", "0\r\nX-Sum: 1\r\n\r\n"),
    ] {
        let gate = Gate::default();
        let server = Origin::raw({
            let gate = gate.clone();
            move |_, conn| {
                let first =
                    if data.is_empty() { String::new() } else { format!("{:x}\r\n{data}\r\n", data.len()) };
                let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{first}");
                conn.get_mut().write_all(head.as_bytes()).unwrap();
                gate.wait();
                conn.get_mut().write_all(end.as_bytes()).unwrap();
                support::Then::Keep
            }
        });
        let proxy = Proxy::before(&server);
        let mut client = FrameClient::dial(proxy.public()).greet(&setting(4, window));
        client.send(get(1, "/"));
        let last = if data.is_empty() { HEADERS } else { DATA };
        let frame = client.until("all that the window takes", |f| f.stream == 1 && f.kind == last);
        assert!(frame.kind == HEADERS || frame.payload == data.as_bytes(), "{frame:?}");

        gate.open();

        let end = client.until("the end", |f| f.stream == 1);
        assert!(end.flags & END_STREAM != 0 && (end.kind == HEADERS || end.payload.is_empty()), "{end:?}");
    }
}

#[test]
fn a_setting_opens_the_windows_of_streams_that_are_open() {
    let stage = Stage::new();
    let mut client = FrameClient::dial(stage.proxy.public()).greet(&setting(4, 0));
    client.send(get(1, "/"));
    client.until("a head", |f| f.kind == HEADERS);
    client.ping_without(DATA);

    client.send(frame(SETTINGS, 0, 0, setting(4, 100)));

    let all = client.until("data", |f| f.kind == DATA);
    assert_eq!(all.payload, b"ok");
}

#[test]
fn frames_are_no_larger_than_the_client_takes_them() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(get(1, "/big"));
    let mut received = 0;
    loop {
        let frame = client.until("data", |f| f.kind == DATA);
        assert!(frame.payload.len() <= 16_384);
        received += frame.payload.len();
        client.send(all(&[grant(0, frame.payload.len().max(1) as u32)]));
        if frame.flags & END_STREAM != 0 {
            break;
        }
        client.send(grant(1, frame.payload.len().max(1) as u32));
    }
    assert_eq!(received, server::BIG);
}
