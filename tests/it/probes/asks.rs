//! What each kind of probe asks, and which answers are well.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::{assert_well, cause, probing, server};
use crate::support::certs::Cert;
use crate::support::grpc::{Grpc, Reply};
use crate::support::{Origin, eventually, ok, reply, wire};

#[test]
fn a_request_is_sent_as_the_operator_wrote_it() {
    let origin = Origin::start(|_| reply("204 No Content", "", ""));
    let health = "path = \"/ready?deep=1\", method = \"OPTIONS\", host = \"app.internal:81\", \
        headers = { Authorization = \"Bearer x\", User-Agent = \"mine\" }, expect = [204]";
    let proxy = probing("", origin.address(), health, "");

    assert_well(&proxy);
    let asked = origin.last();

    assert_eq!(asked.first, "OPTIONS /ready?deep=1 HTTP/1.1");
    assert_eq!(asked.all("host"), ["app.internal:81"]);
    assert_eq!(asked.all("authorization"), ["Bearer x"]);
    assert_eq!(asked.all("user-agent"), ["mine"]);
    assert_eq!(asked.all("connection"), ["close"]);
}

#[test]
fn a_request_of_which_only_the_path_is_written_is_a_plain_get() {
    let origin = Origin::saying("well");
    let proxy = probing("", origin.address(), "path = \"/healthz\"", "");

    assert_well(&proxy);
    let asked = origin.last();

    assert_eq!(asked.first, "GET /healthz HTTP/1.1");
    assert_eq!(asked.all("host"), [origin.address().to_string()]);
    assert_eq!(asked.all("user-agent"), ["tidegate-probe"]);
}

#[test]
fn the_answer_to_a_head_has_no_body_to_wait_for() {
    let origin = Origin::start(|request| {
        assert_eq!(request.method(), "HEAD");
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec()
    });
    let proxy = probing("", origin.address(), "path = \"/\", method = \"HEAD\"", "");

    assert_well(&proxy);
}

#[test]
fn a_status_that_is_not_expected_is_the_cause() {
    let origin = Origin::start(|_| reply("404 Not Found", "", ""));
    let proxy = probing("", origin.address(), "path = \"/\"", "");

    assert_eq!(cause(&proxy), "status 404");
}

#[test]
fn a_pattern_is_looked_for_in_a_body_however_it_is_sent() {
    let bodies: [(&[u8], bool); 5] = [
        (b"Content-Length: 16\r\n\r\n{\"status\": \"ok\"}", true),
        (b"Transfer-Encoding: chunked\r\n\r\n9\r\n{\"status\"\r\n7\r\n: \"ok\"}\r\n0\r\n\r\n", true),
        (b"Connection: close\r\n\r\n{\"status\": \"ok\"}", true),
        (b"Content-Length: 18\r\n\r\n{\"status\": \"down\"}", false),
        (b"Content-Length: 0\r\n\r\n", false),
    ];
    for (rest, is_well) in bodies {
        let origin = Origin::start(move |_| [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", rest].concat());
        let proxy = probing("", origin.address(), r#"path = "/", body = '"status":\s*"ok"'"#, "");

        match is_well {
            true => assert_well(&proxy),
            false => assert_eq!(cause(&proxy), "the pattern is not in the body"),
        }
    }
}

#[test]
fn probes_may_have_a_port_of_their_own() {
    let (origin, probed) = (Origin::saying("served"), Origin::start(|_| reply("503 Unwell", "", "")));
    let port = probed.address().port();
    let proxy = probing("", origin.address(), &format!("path = \"/\", port = {port}"), "");

    assert_eq!(cause(&proxy), "status 503");
    assert_eq!(probed.last().field("host"), Some(format!("127.0.0.1:{port}").as_str()));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_tcp_probe_asks_for_no_tls_whatever_the_server_speaks() {
    let (cert, other) = (Cert::of(&["origin.test"]), Cert::of(&["other.test"]));
    let origin = Origin::start_tls(cert, |_| ok("under tls"));
    let tls = format!("tls = {{ ca = {:?} }}", other.pem_path);
    let proxy = probing("https://", origin.address(), "tcp = true", &tls);

    assert_well(&proxy);
}

#[test]
fn a_tls_probe_wants_the_certificate_that_requests_want() {
    let (cert, other) = (Cert::of(&["origin.test"]), Cert::of(&["origin.test"]));
    let tls = |cert: &Cert, name| format!("tls = {{ ca = {:?}, server-name = {name:?} }}", cert.pem_path);
    let cases = [
        (tls(&cert, "origin.test"), None),
        (tls(&cert, "other.test"), Some("certificate not valid for name \"other.test\"")),
        (tls(&other, "origin.test"), Some("BadSignature")),
    ];
    // The file must outlive the certificate's own directory, which moves into the origin.
    let origin = Origin::start_tls(cert, |_| ok("under tls"));
    for (tls, expected) in cases {
        let proxy = probing("https://", origin.address(), "tls = true", &tls);

        match expected {
            None => assert_well(&proxy),
            Some(words) => {
                let cause = cause(&proxy);
                assert!(cause.starts_with("tls handshake: invalid peer certificate: "), "{cause}");
                assert!(cause.contains(words), "{cause}");
            }
        }
    }
    assert_eq!(origin.count(), 0, "a handshake is no request");
}

#[test]
fn every_probe_sees_the_certificate_anew() {
    let cert = Cert::of(&["origin.test"]);
    let tls = format!("tls = {{ ca = {:?}, server-name = \"origin.test\" }}", cert.pem_path);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = kinds.clone();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut conn = BufReader::new(cert.accept(tcp.unwrap()));
            if let Ok(Some(_)) = wire::read_head(&mut conn) {
                let _ = conn.get_mut().write_all(&ok("well"));
                seen.lock().unwrap().push(conn.get_ref().conn.handshake_kind());
            }
        }
    });
    let _proxy = probing("https://", address, "path = \"/\"", &tls);

    // A session that is resumed shows no certificate: one that has expired would go unnoticed.
    eventually("it is probed five times", || kinds.lock().unwrap().len() >= 5);

    let kinds = kinds.lock().unwrap();
    assert!(kinds.iter().all(|kind| *kind == Some(rustls::HandshakeKind::Full)), "{kinds:?}");
}

#[test]
fn a_grpc_probe_asks_for_its_service_as_grpc_asks() {
    let grpc = Grpc::start(None, Reply::status(1));
    let health = "grpc = \"shop.Orders\", host = \"orders.internal\", headers = { x-probe = \"1\" }";
    let proxy = probing("", grpc.address, health, "");

    assert_well(&proxy);
    let (head, message) = grpc.asked().remove(0);

    assert_eq!(head.method, "POST");
    assert_eq!(head.uri, "http://orders.internal/grpc.health.v1.Health/Check");
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["grpc-timeout"], "2000m");
    assert_eq!(head.headers["x-probe"], "1");
    assert_eq!(message, b"\x00\x00\x00\x00\x0d\x0a\x0bshop.Orders");
}

#[test]
fn only_a_grpc_server_that_says_serving_is_well() {
    let grpc = Grpc::start(None, Reply::status(1));
    let proxy = probing("", grpc.address, "grpc = \"\"", "");
    assert_well(&proxy);
    assert_eq!(grpc.asked()[0].1, [0; 5], "the server as a whole has no name");

    let well = Reply::status(1);
    let fields = |trailers| Reply { message: None, trailers, ..well.clone() };
    for (reply, expected) in [
        (Reply::status(2), "the service says NOT_SERVING"),
        (Reply::status(3), "the service says SERVICE_UNKNOWN"),
        (
            fields(&[("grpc-status", "12"), ("grpc-message", "unknown service")]),
            "grpc-status 12: unknown service",
        ),
        (Reply { trailers: &[("grpc-status", "14")], ..well.clone() }, "grpc-status 14"),
        (Reply { trailers: &[("x", "y")], ..well.clone() }, "the answer is not gRPC: it has no grpc-status"),
        (Reply { status: 503, ..well.clone() }, "status 503"),
        (
            Reply { kind: "text/html", ..well.clone() },
            "the answer is not gRPC: its content-type is \"text/html\"",
        ),
        (Reply { message: Some(vec![0; 5000]), ..well.clone() }, "the answer is not gRPC: it is too long"),
    ] {
        grpc.reply_from_now_on(reply);
        eventually(expected, || server(&proxy)["probe"]["cause"] == expected);
        assert_eq!(server(&proxy)["state"], "unhealthy");
    }

    grpc.reply_from_now_on(well);
    eventually("it is healthy again", || server(&proxy)["state"] == "healthy");
}

#[test]
fn a_grpc_probe_under_tls_agrees_on_http2_or_fails() {
    let cert = Cert::of(&["origin.test"]);
    let tls = |cert: &Cert| format!("tls = {{ ca = {:?}, server-name = \"origin.test\" }}", cert.pem_path);
    let trusted = tls(&cert);
    let grpc = Grpc::start(Some(cert), Reply::status(1));
    let proxy = probing("https://", grpc.address, "grpc = \"\"", &trusted);

    assert_well(&proxy);
    assert_eq!(grpc.asked()[0].0.uri.scheme_str(), Some("https"));

    let cert = Cert::of(&["origin.test"]);
    let trusted = tls(&cert);
    let old = Origin::start_tls(cert, |_| ok("HTTP/1.1 alone"));
    let proxy = probing("https://", old.address(), "grpc = \"\"", &trusted);

    assert_eq!(cause(&proxy), "tls handshake: the server does not offer h2 by ALPN");
}
