//! Limits on connections, handshakes and requests.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{gated, open, refused};
use crate::support::certs::Cert;
use crate::support::client::dial;
use crate::support::{Client, Origin, Proxy, eventually, get, http2, one_route};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Another address of this machine, which counts as another client.
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Whether a new connection is served.
fn is_served(address: SocketAddr) -> bool {
    Client::connect(address).send(GET).try_response().is_ok_and(|answer| answer.status() == 200)
}

/// A request that its server has, and has not answered.
fn in_progress(origin: &Origin, address: SocketAddr) -> Client {
    let before = origin.count();
    let mut client = Client::connect(address);
    client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the server has it", || origin.count() > before);
    client
}

#[test]
fn a_listener_takes_no_more_connections_than_it_may_and_another_one_does() {
    let (origin, gate) = gated();
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\nmax-connections = 2\n\
         [[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n{}",
        one_route("", "", &[&origin])
    ));
    let mut working = in_progress(&origin, proxy.public());
    let mut resting = proxy.client();
    assert_eq!(resting.get("/").status(), 200);

    assert!(!is_served(proxy.public()));
    assert!(is_served(proxy.address("other")));
    assert!(!gate.is_open());
    gate.open();

    assert_eq!((working.response().text(), resting.get("/").status()), ("served".to_owned(), 200));
    assert_eq!(refused(&proxy, "limit-listener"), 1.0);
    drop(resting);
    eventually("there is room again", || is_served(proxy.public()));
}

#[test]
fn a_client_at_its_limit_keeps_what_it_has_and_keeps_nobody_else_out() {
    let (origin, gate) = gated();
    let limits = "[limits]\nconnections-per-client = 2\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));
    let mut working = in_progress(&origin, proxy.public());
    let mut resting = proxy.client();
    assert_eq!(resting.get("/").status(), 200);

    assert!(!is_served(proxy.public()));
    let neighbour = Client::connect_from(NEIGHBOUR, proxy.public()).get("/");
    assert!(!gate.is_open());
    gate.open();

    assert_eq!(neighbour.status(), 200);
    assert_eq!((working.response().text(), resting.get("/").status()), ("served".to_owned(), 200));
    assert_eq!(refused(&proxy, "limit-connections-per-client"), 1.0);
}

#[test]
fn at_the_limit_of_the_process_what_is_in_progress_goes_on() {
    let (origin, gate) = gated();
    let proxy = Proxy::start(&format!("[limits]\nconnections = 2\n{}", one_route("", "", &[&origin])));
    let mut working = in_progress(&origin, proxy.public());
    let mut resting = proxy.client();
    assert_eq!(resting.get("/").status(), 200);

    assert!(!is_served(proxy.public()));
    assert!(!gate.is_open());
    gate.open();

    assert_eq!((working.response().text(), resting.get("/").status()), ("served".to_owned(), 200));
    assert_eq!(refused(&proxy, "limit-connections"), 1.0);
}

#[test]
fn beyond_the_limit_of_handshakes_those_in_progress_are_finished_and_new_ones_refused() {
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = Proxy::start(&format!(
        "[limits]\nhandshakes = 2\n\
         [[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n\
         [[listener]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\n{}",
        cert.toml(),
        one_route("", "", &[&origin])
    ));
    let trust = cert.trust();
    let mut established = Client::connect_tls(proxy.public(), "site.test", &trust);
    assert_eq!(established.get("/").status(), 200);
    // rustls says its first word with the first write: until then this one is as silent as the other.
    let mut begun = Client::connect_tls(proxy.public(), "site.test", &trust);
    let silent = dial(proxy.public());
    eventually("both are there", || open(&proxy, "public") == 3.0);

    eventually("a third is refused", || {
        drop(trust.get(proxy.public(), "site.test"));
        refused(&proxy, "limit-handshakes") >= 1.0
    });
    assert_eq!(get(proxy.address("plain"), "/").status(), 200);
    assert_eq!(established.get("/").status(), 200);
    assert_eq!(begun.get("/").status(), 200);

    assert!(trust.get(proxy.public(), "site.test").is_ok(), "there is room for one again");
    drop(silent);
}

#[test]
fn an_http_1_connection_is_ended_in_good_order_after_so_many_requests() {
    let origin = Origin::saying("served");
    let limits = "[limits]\nrequests-per-connection = 3\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));

    let mut client = Client::connect(proxy.public());
    for nth in 1..=3 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "served");
        assert_eq!(answer.field("connection") == Some("close"), nth == 3, "request {nth}");
    }
    assert!(client.is_closed());

    // What comes behind the last one is left alone: no answer, and no server is asked.
    let mut pipelining = Client::connect(proxy.public());
    pipelining.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(5));
    let said = pipelining.rest();
    assert_eq!(String::from_utf8_lossy(&said).matches("HTTP/1.1 200 ").count(), 3);
    assert_eq!(origin.count(), 6);
}

#[test]
fn an_http_2_connection_is_ended_in_good_order_after_so_many_requests() {
    let origin = Origin::saying("served");
    let limits = "[limits]\nrequests-per-connection = 5\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));

    let (served, end) = http2::talk(proxy.public(), 1 << 16, async |requests, _| {
        let mut served = 0;
        loop {
            match http2::get(&requests, "/").await {
                Ok(mut answer) => {
                    let (body, _) = http2::rest(answer.body_mut()).await.unwrap();
                    assert_eq!(body, b"served", "what was begun is finished");
                    served += 1;
                }
                Err(end) => break (served, end),
            }
        }
    });

    // One or two may be on their way when GOAWAY comes.
    assert!((5..=7).contains(&served), "{served}");
    assert!(!end.is_reset(), "{end}");
    assert_eq!(end.reason(), Some(h2::Reason::NO_ERROR), "{end}");
}

#[test]
fn a_client_of_http_2_that_does_not_listen_to_goaway_is_cut_off() {
    let origin = Origin::saying("served");
    let limits = "[limits]\nrequests-per-connection = 5\nhttp2-streams = 8\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));

    let mut tcp = dial(proxy.public());
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let served = (0..100).take_while(|nth| asks_over_http_2(&mut tcp, 2 * nth + 1).is_ok()).count();

    // The limit, as many as might have been on their way, and the one that shows that nobody listens.
    assert!((5..=14).contains(&served), "{served}");
}

/// One GET by hand, by someone who answers no PING; reads until its response has ended.
fn asks_over_http_2(tcp: &mut std::net::TcpStream, stream: u32) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    // Of HPACK's static table: GET, http, the path /. Then `:authority: test`.
    let block = b"\x82\x86\x84\x41\x04test";
    let mut frame = vec![0, 0, block.len() as u8, HEADERS, END_STREAM | 4];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    tcp.write_all(&frame)?;
    loop {
        let mut head = [0; 9];
        tcp.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        tcp.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        let its_stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if its_stream == stream && kind <= HEADERS && flags & END_STREAM != 0 {
            return Ok(());
        }
    }
}
