//! TLS from strangers: begun and left, dripped, garbage, in tiny records.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{drip, memory, open};
use crate::support::certs::{Cert, Trust};
use crate::support::client::dial;
use crate::support::{Client, Origin, Proxy, eventually, get, one_route, program};

/// A listener under TLS, and one in the clear for the healthy.
fn tls_proxy(limits: &str, cert: &Cert, origin: &Origin) -> Proxy {
    Proxy::start(&format!(
        "[limits]\n{limits}\n\
         [[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n\
         [[listener]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\n{}",
        cert.toml(),
        one_route("", "", &[origin])
    ))
}

fn handshakes(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric("tidegate_tls_handshakes_total", &["\"public\"", &format!("result=\"{result}\"")])
}

/// The first bytes of a client.
fn hello(proxy: &Proxy, trust: &Trust) -> Vec<u8> {
    let mut client = trust.dial(dial(proxy.public()), "site.test");
    let mut bytes = Vec::new();
    client.conn.write_tls(&mut bytes).unwrap();
    bytes
}

/// Waits for the end of a connection on which nothing more is said.
fn end(mut tcp: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = tcp.read_to_end(&mut heard);
    heard
}

#[test]
fn a_handshake_that_is_begun_and_left_is_ended_in_its_time_and_others_are_served_meanwhile() {
    const SILENT: usize = 100;
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("tls-timeout = \"700ms\"", &cert, &origin);
    let trust = cert.trust();
    assert!(trust.get(proxy.public(), "site.test").is_ok());
    let (before, began) = (memory(&proxy), Instant::now());

    let hello = hello(&proxy, &trust);
    let mut crowd: Vec<_> = (0..SILENT).map(|_| dial(proxy.public())).collect();
    // A half says nothing, a half says hello and never goes on.
    for tcp in crowd.iter_mut().step_by(2) {
        tcp.write_all(&hello).unwrap();
    }
    assert!(trust.get(proxy.public(), "site.test").is_ok(), "a healthy client is served meanwhile");
    let grown = memory(&proxy) - before;
    crowd.into_iter().for_each(|tcp| drop(end(tcp)));

    assert!(began.elapsed() >= Duration::from_millis(700));
    // The one whose hello was borrowed has left before.
    eventually("they are counted", || handshakes(&proxy, "timed-out") == SILENT as f64);
    assert!(grown < 64.0 * 1024.0 * SILENT as f64, "{grown} bytes for {SILENT} handshakes");
    eventually("nothing is left", || open(&proxy, "public") == 0.0);
}

#[test]
fn a_hello_that_is_dripped_has_the_same_time() {
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("tls-timeout = \"700ms\"", &cert, &origin);
    let hello = hello(&proxy, &cert.trust());

    let began = Instant::now();
    let (took, _) = drip(&proxy, "plain", (&mut dial(proxy.public()), began), &hello);

    assert!(took >= Duration::from_millis(700), "{took:?}");
    eventually("it is counted", || handshakes(&proxy, "timed-out") == 1.0);
}

#[test]
fn what_is_no_handshake_ends_at_once_and_is_counted() {
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("tls-timeout = \"1h\"", &cert, &origin);
    let cases: [(&str, Vec<u8>); 7] = [
        ("HTTP in the clear", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("garbage", (0..2000_u32).map(|n| ((n * 7919) >> 3) as u8 | 0x80).collect()),
        ("a record that is too long", [&[22, 3, 1, 0xff, 0xff][..], &[0; 1000]].concat()),
        ("a record without content", [22, 3, 1, 0, 0].repeat(100)),
        ("a message without end", [&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff][..], &[0; 5]].concat()),
        ("data before a handshake", vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
    ];

    for (nth, (name, bytes)) in cases.iter().enumerate() {
        let mut tcp = dial(proxy.public());
        tcp.write_all(bytes).unwrap();
        let heard = end(tcp);
        assert!(heard.len() < 100, "{name}: {heard:?}");
        eventually(name, || handshakes(&proxy, "failed") == (nth + 1) as f64);
        assert_eq!(get(proxy.address("plain"), "/").status(), 200, "after {name}");
    }

    assert_eq!(
        origin.requests().iter().filter(|request| request.field("host") == Some("test")).count(),
        cases.len()
    );
}

#[test]
fn tls_on_a_listener_in_the_clear_is_refused_as_malformed() {
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("", &cert, &origin);

    let mut tcp = dial(proxy.address("plain"));
    tcp.write_all(&hello(&proxy, &cert.trust())).unwrap();
    let heard = end(tcp);

    assert!(heard.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&heard));
    eventually("it is counted", || super::refusals(&proxy, "malformed") == 1.0);
}

#[test]
fn a_request_in_records_of_one_byte_is_served() {
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("", &cert, &origin);

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::connect_tls(proxy.public(), "site.test", &cert.trust_with(&[version]));
        let request =
            format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000\r\n\r\n{}", "x".repeat(3000));
        for byte in request.as_bytes() {
            client.send([*byte]);
        }

        assert_eq!(client.response().text(), "served", "{version:?}");
        assert_eq!(origin.last().body.len(), 3000);
    }
}

#[test]
fn renegotiation_is_refused_and_nobody_else_notices() {
    let Some(openssl) = program("openssl") else { return };
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("", &cert, &origin);

    let mut child = Command::new(openssl)
        .args(["s_client", "-connect", &proxy.public().to_string(), "-tls1_2", "-servername", "site.test"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A line that begins so makes it ask for one. Its input stays open, so that it ends for no other reason.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"R\n").unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();

    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    eventually("its connection is gone", || open(&proxy, "public") == 0.0);
    assert!(cert.trust().get(proxy.public(), "site.test").is_ok());
}

#[test]
fn a_crowd_of_handshakes_at_once_is_served_and_a_healthy_client_among_them() {
    const CROWD: usize = 64;
    let origin = Origin::saying("served");
    let cert = Cert::of(&["site.test"]);
    let proxy = tls_proxy("", &cert, &origin);
    let trust = cert.trust();

    let served = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| scope.spawn(|| cert.trust().get(proxy.public(), "site.test").is_ok()))
            .collect();
        for _ in 0..5 {
            assert_eq!(get(proxy.address("plain"), "/").status(), 200);
            assert!(trust.get(proxy.public(), "site.test").is_ok());
        }
        crowd.into_iter().filter_map(|one| one.join().ok()).filter(|is_served| *is_served).count()
    });

    assert_eq!(served, CROWD);
}
