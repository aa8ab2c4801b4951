//! Listeners come, stay and go.

use crate::support::certs::Cert;
use crate::support::frames::{self, FrameClient};
use crate::support::origin::reserve_port;
use crate::support::{Client, Origin, Proxy, eventually, get, one_route};

/// Listeners by name and address, and one route for all of them.
fn text(listeners: &[(&str, &str)], origin: &Origin) -> String {
    let one = |(name, bind): &(&str, &str)| format!("[[listener]]\nname = \"{name}\"\nbind = \"{bind}\"\n");
    listeners.iter().map(one).collect::<String>() + &one_route("", "", &[origin])
}

const PUBLIC: (&str, &str) = ("public", "127.0.0.1:0");
const SECOND: (&str, &str) = ("second", "127.0.0.1:0");

#[test]
fn a_listener_that_comes_serves_when_the_reload_returns_and_one_that_goes_refuses() {
    let origin = Origin::saying("a");
    let proxy = Proxy::start(&text(&[PUBLIC], &origin));

    let report = proxy.reload(&text(&[SECOND, PUBLIC], &origin));
    let second = proxy.address_now("second").unwrap();
    assert_eq!((&report["listeners"]["kept"], &report["listeners"]["added"]), (&1.into(), &1.into()));
    assert_eq!(proxy.address_now("public"), Some(proxy.public()), "who stays stays where it is");
    for _ in 0..10 {
        assert_eq!(get(second, "/").text(), "a");
        assert_eq!(proxy.get("/").text(), "a");
    }

    let report = proxy.reload(&text(&[PUBLIC], &origin));
    assert_eq!(report["listeners"]["removed"], 1);
    assert!(std::net::TcpStream::connect(second).is_err(), "nobody listens any more");
    assert_eq!(proxy.get("/").text(), "a");
    assert!(!proxy.metrics().contains("\"second\""));

    // Of the same name elsewhere: it is another one.
    let report = proxy.reload(&text(&[("public", "127.0.0.2:0")], &origin));
    assert_eq!(report["listeners"]["details"], serde_json::json!(["public: changed bind"]));
    assert!(std::net::TcpStream::connect(proxy.public()).is_err());
    assert_eq!(get(proxy.address_now("public").unwrap(), "/").text(), "a");
}

#[test]
fn a_listener_that_goes_finishes_what_is_under_way_and_closes_what_is_at_rest() {
    let (origin, held) = Origin::holding();
    // Nothing ends by itself.
    let patient = |listeners| {
        format!("[limits]\nhead-timeout = \"1h\"\nkeep-alive = \"1h\"\n{}", text(listeners, &origin))
    };
    let proxy = Proxy::start(&patient(&[PUBLIC, SECOND]));
    let second = proxy.address("second");
    let mut at_rest = Client::connect(second);
    assert_eq!(at_rest.get("/").status(), 200);
    let mut silent = Client::connect(second);
    let mut http2 = FrameClient::connect(second);
    assert_eq!(http2.get(1, "/"), 200);
    let mut waiting = Client::connect(second);
    waiting.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut stays = proxy.client();
    assert_eq!(stays.get("/").status(), 200);
    held.asked.wait();
    http2.send(frames::get(3, "/held"));
    eventually("both are under way", || origin.count() == 5);

    proxy.reload(&patient(&[PUBLIC]));

    assert!(at_rest.is_closed() && silent.is_closed());
    let mut goodbye = http2.next().expect("a goodbye");
    while goodbye.kind != frames::GOAWAY {
        goodbye = http2.next().expect("a goodbye");
    }
    held.go.open();
    let answer = waiting.response();
    assert_eq!((answer.status(), answer.text()), (200, "/held".to_owned()));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(waiting.is_closed());
    assert_eq!(stays.get("/").status(), 200, "others notice nothing");
    eventually("nothing of it is left", || proxy.status()["connections"] == 1);
}

#[test]
fn a_listener_that_gets_another_name_keeps_its_sockets() {
    let origin = Origin::saying("a");
    let (_reservation, address) = reserve_port();
    let bind = address.to_string();
    let proxy = Proxy::start(&text(&[("old", &bind)], &origin));
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status(), 200);

    proxy.reload(&text(&[("new", &bind)], &origin));

    assert!(client.is_closed(), "its connections were the other listener's");
    for _ in 0..10 {
        assert_eq!(get(address, "/").text(), "a");
    }
    eventually("they count as the new one's", || {
        proxy.metric("tidegate_connections_total", &["\"new\""]) == 10.0
    });
    eventually("and end as such", || proxy.metric("tidegate_connections", &["\"new\""]) == 0.0);
}

#[test]
fn certificates_that_have_changed_in_their_files_are_shown_from_then_on() {
    let origin = Origin::saying("a");
    let (old, new) = (Cert::of(&["site.test"]), Cert::of(&["site.test"]));
    let dir = tempfile::tempdir().unwrap();
    let (pem, key) = (dir.path().join("site.pem"), dir.path().join("site.key"));
    let install = |cert: &Cert| {
        std::fs::copy(&cert.pem_path, &pem).unwrap();
        std::fs::copy(&cert.key_path, &key).unwrap();
    };
    install(&old);
    let text = format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         tls = {{ certificates = [{{ cert = {pem:?}, key = {key:?} }}] }}\n{}",
        one_route("", "", &[&origin])
    );
    let proxy = Proxy::start(&text);
    let (trust_old, trust_new) = (old.trust(), new.trust());
    let mut open = Client::connect_tls(proxy.public(), "site.test", &trust_old);
    assert_eq!(open.get("/").status(), 200);
    trust_old.get(proxy.public(), "site.test").unwrap();

    // Nothing has changed: sessions of before are resumed.
    proxy.reload(&text);
    let (_, kind) = trust_old.get(proxy.public(), "site.test").unwrap();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));

    install(&new);
    let report = proxy.reload(&text);
    assert_eq!(report["listeners"]["details"], serde_json::json!(["public: changed certificates"]));
    let (answer, _) = trust_new.get(proxy.public(), "site.test").unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(open.get("/").status(), 200, "an open connection goes on");

    // A key that is not the certificate's: the last good pair stays.
    std::fs::copy(&old.key_path, &key).unwrap();
    assert_eq!(proxy.try_reload().status(), 400);
    assert!(trust_new.get(proxy.public(), "site.test").is_ok());
}

#[test]
fn a_listener_that_begins_to_speak_tls_does_so_for_new_connections() {
    let origin = Origin::saying("a");
    let cert = Cert::of(&["site.test"]);
    let plain = text(&[PUBLIC], &origin);
    let secure = plain.replace(
        "bind = \"127.0.0.1:0\"\n[[route",
        &format!("bind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n[[route", cert.toml()),
    );
    let proxy = Proxy::start(&plain);
    let mut open = proxy.client();
    assert_eq!(open.get("/").status(), 200);

    proxy.reload(&secure);

    assert_eq!(cert.trust().get(proxy.public(), "site.test").unwrap().0.status(), 200);
    assert_eq!(open.get("/").status(), 200, "an open connection stays what it is");
    proxy.reload(&plain);
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn a_connection_limit_that_has_changed_counts_connections_of_before() {
    let origin = Origin::saying("a");
    let limited = |max: u32| {
        format!(
            "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\nmax-connections = {max}\n{}",
            one_route("", "", &[&origin])
        )
    };
    let proxy = Proxy::start(&limited(10));
    let mut clients = super::connected(&proxy, "/");

    proxy.reload(&limited(8));

    assert!(proxy.client().send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").is_closed());
    assert!(clients.iter_mut().all(|client| client.get("/").status() == 200));
    proxy.reload(&limited(9));
    assert_eq!(proxy.get("/").status(), 200);
}
