//! Everything at once while the configuration changes again and again: nothing fails, and no byte is another.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::support::certs::Cert;
use crate::support::frames::{self, FrameClient};
use crate::support::wire::read_request_body;
use crate::support::{Client, Origin, Proxy, Then, ok, reply};

/// Reloads, at least; they go on until every client has done its part under them.
const RELOADS: usize = 20;
/// Requests of each client, at least.
const REQUESTS: usize = 40;
/// Between two reloads, at most.
const PER_RELOAD: usize = 10;

/// What the clients and the operator know of each other.
#[derive(Default)]
struct Play {
    reloads: AtomicUsize,
    /// Clients that are not done yet.
    busy: AtomicUsize,
    has_failed: AtomicBool,
}

/// A client's part: it goes on until it has sent enough, and enough reloads have been made.
struct Part<'a>(&'a Play);

impl Play {
    fn is_over(&self) -> bool {
        self.reloads.load(SeqCst) >= RELOADS || self.has_failed.load(SeqCst)
    }

    /// Whether a client that has sent so many requests is done. It keeps pace with the reloads: on a machine where these are
    /// slow, it would come to the last request that a connection may carry.
    fn enough(&self, sent: usize) -> bool {
        let may_go_on = || self.is_over() || sent < (self.reloads.load(SeqCst) + 1) * PER_RELOAD;
        crate::support::eventually("there is another reload", may_go_on);
        self.has_failed.load(SeqCst) || self.is_over() && sent >= REQUESTS
    }

    fn part(&self) -> Part<'_> {
        self.busy.fetch_add(1, SeqCst);
        Part(self)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_failed.store(true, SeqCst);
        }
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

/// The body of an object: the same whoever is asked, and whenever.
fn body_of(target: &str, size: usize) -> Vec<u8> {
    let seed = target.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

/// Of different sizes, from nothing to more than a socket holds.
fn size_of(target: &str) -> usize {
    target.bytes().map(usize::from).sum::<usize>() % 7 * 30_000
}

/// Echoes bodies and tunnels; objects may be stored.
fn origin() -> Origin {
    Origin::raw(|request, conn| {
        if request.field("upgrade").is_some() {
            let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            let _ = conn.get_mut().write_all(agreed.as_bytes());
            let mut byte = [0];
            while conn.read_exact(&mut byte).is_ok() && conn.get_mut().write_all(&byte).is_ok() {}
            return Then::Close;
        }
        if read_request_body(conn, request).is_err() {
            return Then::Close;
        }
        let target = request.target();
        let answer = match request.method() {
            "POST" => ok(&request.body),
            _ => reply("200 OK", "Cache-Control: max-age=1\r\n", body_of(target, size_of(target))),
        };
        match conn.get_mut().write_all(&answer) {
            Ok(()) => Then::Keep,
            Err(_) => Then::Close,
        }
    })
}

/// The configuration of one round: each has other upstreams, routes, limits and listeners than the one before.
fn text(round: usize, cert: &Cert, origins: &[Origin; 3]) -> String {
    let is_even = round.is_multiple_of(2);
    let servers = match round % 3 {
        0 => vec![&origins[0], &origins[1]],
        1 => vec![&origins[1], &origins[2]],
        _ => vec![&origins[0], &origins[1], &origins[2]],
    };
    let servers: Vec<_> = servers.into_iter().map(Origin::toml).collect();
    let servers = servers.join(", ");
    let balance = ["round-robin", "least-connections", "peak-ewma"][round % 3];
    let further = if is_even { "[[listener]]\nname = \"further\"\nbind = \"127.0.0.1:0\"\n" } else { "" };
    let routes: String = (0..round % 5)
        .map(|n| format!("[[route]]\npath = \"/unused/{n}/*\"\nupstream = \"stays\"\n"))
        .collect();
    format!(
        "[limits]\nheaders = {}\nkeep-alive = \"1h\"\n\
         [[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n{further}\
         {routes}[[route]]\npath = \"/stays/*\"\nupstream = \"stays\"\ncache = true\n\
         [[route]]\npath = \"/*\"\nupstream = \"{}\"\ncache = {{ max-object = \"{}MiB\" }}\n\
         [upstream.stays]\nservers = [{}]\n\
         [upstream.{}]\nservers = [{servers}]\nbalance = \"{balance}\"\nidle-connections = {}\n",
        50 + round % 4,
        cert.toml(),
        if is_even { "even" } else { "odd" },
        1 + round % 3,
        origins[0].toml(),
        if is_even { "even" } else { "odd" },
        100 + round % 4,
    )
}

fn http1(play: &Play, mut connect: impl FnMut() -> Client, prefix: &str, is_kept: bool) {
    let _part = play.part();
    let (mut client, mut sent) = (connect(), 0);
    while !play.enough(sent) {
        if !is_kept {
            client = connect();
        }
        let target = format!("{prefix}{}", sent % 9);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let answer =
            client.try_response().unwrap_or_else(|error| panic!("{target}, request {sent}: {error}"));
        assert_eq!(answer.status(), 200, "{target}: {}", answer.text());
        assert!(answer.body == body_of(&target, size_of(&target)), "{target} has other bytes");
        sent += 1;
    }
}

fn http2(play: &Play, mut client: FrameClient) {
    let _part = play.part();
    let mut sent = 0;
    while !play.enough(sent) {
        let stream = 2 * sent as u32 + 1;
        // Small ones: windows are another test's business.
        let target = ["/h2-g", "/stays/h2-0"][sent % 2];
        let target = (0..).map(|n| format!("{target}{n}")).find(|target| size_of(target) == 30_000).unwrap();
        client.send(frames::frame(frames::WINDOW_UPDATE, 0, 0, 30_000_u32.to_be_bytes()));
        client.send(frames::get(stream, &target));
        let (status, body) = client.body(stream);
        assert_eq!(status, 200, "{target} on stream {stream}");
        assert!(body == body_of(&target, size_of(&target)), "{target} has other bytes");
        sent += 1;
    }
}

fn tunnel(play: &Play, address: SocketAddr) {
    let _part = play.part();
    let mut client = Client::connect(address);
    let asks = "GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(client.send(asks).head().status(), 101);
    let mut sent = 0;
    while !play.enough(sent) {
        assert_eq!(client.send("ping").bytes(4), b"ping");
        sent += 1;
    }
}

/// One body, a piece for each reload that is seen.
fn upload(play: &Play, address: SocketAddr) {
    let _part = play.part();
    let mut client = Client::connect(address);
    client.send("POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (mut sent, mut seen) = (Vec::new(), 0);
    while !play.is_over() {
        crate::support::eventually("there is another reload, or the end", || {
            play.reloads.load(SeqCst) != seen || play.is_over()
        });
        seen = play.reloads.load(SeqCst);
        let piece = body_of("upload", seen * 100 + 1);
        client.send(format!("{:x}\r\n", piece.len())).send(&piece).send("\r\n");
        sent.extend(piece);
    }
    let answer = client.send("0\r\n\r\n").response();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.body == sent, "the upload has other bytes");
}

#[test]
fn no_request_fails_and_no_byte_is_another_while_the_configuration_changes_again_and_again() {
    let cert = Cert::of(&["site.test"]);
    let origins = [origin(), origin(), origin()];
    let proxy = Proxy::start(&text(0, &cert, &origins));
    let (public, secure) = (proxy.public(), proxy.address("secure"));
    let (trust, play) = (cert.trust(), Play::default());
    let tls = || Client::connect_tls(secure, "site.test", &trust);

    std::thread::scope(|scope| {
        let clients = [
            scope.spawn(|| http1(&play, || Client::connect(public), "/kept/", true)),
            scope.spawn(|| http1(&play, || Client::connect(public), "/stays/", true)),
            scope.spawn(|| http1(&play, || Client::connect(public), "/once/", false)),
            scope.spawn(|| http1(&play, tls, "/stays/tls/", true)),
            scope.spawn(|| http1(&play, tls, "/once/tls/", false)),
            scope.spawn(|| http2(&play, FrameClient::connect(public))),
            scope.spawn(|| http2(&play, FrameClient::connect_tls(secure, "site.test", &trust))),
            scope.spawn(|| tunnel(&play, public)),
            scope.spawn(|| upload(&play, public)),
        ];
        let mut round = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            round += 1;
            let report = proxy.reload(&text(round, &cert, &origins));
            assert_eq!(report["workers_late"], false, "{report}");
            play.reloads.fetch_add(1, SeqCst);
        }
        assert!(round >= RELOADS);
    });

    let failed = |class: &str| proxy.metric("tidegate_requests_total", &[class]);
    assert_eq!((failed("4xx"), failed("5xx")), (0.0, 0.0));
    assert_eq!(proxy.metric("tidegate_config_reloads_total", &["failed"]), 0.0);
}
