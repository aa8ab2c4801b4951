//! `Connection` and what it names, hop-by-hop fields, `Upgrade` (RFC 9110 sections 7.6.1 and 7.8).

use super::table::{SMUGGLED, check, get, post, refused, served, served_last, served_then_refused};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    what_connection_names_is_removed,
    connection_may_not_name_what_must_reach_the_server,
    hop_by_hop_fields_go_no_further,
    no_protocol_but_websocket_is_asked_for,
    what_is_sent_behind_a_handshake_that_the_server_does_not_take_is_http,
    http_1_0_connections_end_unless_they_are_to_be_kept,
];

#[test]
fn what_connection_names_is_removed() {
    check([
        served("a name", get("Connection: X-A\r\nX-A: 1\r\n"), &["GET /x"])
            .without("x-a")
            .without("connection"),
        served("in another case", get("Connection: x-a\r\nX-A: 1\r\n"), &["GET /x"]).without("x-a"),
        served("several", get("Connection: X-A, X-B\r\nX-A: 1\r\nX-B: 1\r\nX-C: 1\r\n"), &["GET /x"])
            .without("x-a")
            .without("x-b")
            .with("x-c: 1"),
        served(
            "on several lines",
            get("Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 1\r\n"),
            &["GET /x"],
        )
        .without("x-a")
        .without("x-b"),
        served("repeated", get("Connection: X-A\r\nX-A: 1\r\nX-A: 2\r\n"), &["GET /x"]).without("x-a"),
        served("behind keep-alive", get("Connection: keep-alive, X-A\r\nX-A: 1\r\n"), &["GET /x"])
            .without("x-a"),
        served("between empty ones", get("Connection: ,, X-A ,,\r\nX-A: 1\r\n"), &["GET /x"]).without("x-a"),
        served("with tabs", get("Connection:\tX-A\t,\tX-B\r\nX-A: 1\r\nX-B: 1\r\n"), &["GET /x"])
            .without("x-a")
            .without("x-b"),
        served("absent", get("Connection: X-A\r\n"), &["GET /x"]),
        served("before it", get("X-A: 1\r\nConnection: X-A\r\n"), &["GET /x"]).without("x-a"),
        served("empty", get("Connection:\r\n"), &["GET /x"]).without("connection"),
        served("itself", get("Connection: connection\r\n"), &["GET /x"]).without("connection"),
        served("with `_`", get("Connection: X_A\r\nX-A: 1\r\nX_A: 2\r\n"), &["GET /x"])
            .with("x-a: 1")
            .without("x_a"),
        served_last("close", get("Connection: close\r\n"), &["GET /x"]).without("connection"),
        served_last("Close", get("Connection: Close\r\n"), &["GET /x"]),
        served_last("close and keep-alive", get("Connection: close, keep-alive\r\n"), &["GET /x"]),
        served_last("keep-alive and close", get("Connection: keep-alive, close\r\n"), &["GET /x"]),
        served_last(
            "close, on a second line",
            get("Connection: keep-alive\r\nConnection: close\r\n"),
            &["GET /x"],
        ),
        served_last("close, and a name", get("Connection: close, X-A\r\nX-A: 1\r\n"), &["GET /x"])
            .without("x-a"),
        served_last(
            "close, of a POST",
            post("Connection: close\r\nContent-Length: 3\r\n", "abc"),
            &["POST /x abc"],
        ),
        served("keep-alive", get("Connection: keep-alive\r\n"), &["GET /x"]),
        served("closed is another word", get("Connection: closed\r\n"), &["GET /x"]),
    ]);
}

#[test]
fn connection_may_not_name_what_must_reach_the_server() {
    let names = [
        "Host",
        "host",
        "HOST",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Range",
        "Authorization",
        "Cookie",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Request-Id",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-User",
        "x-forwarded-anything",
        "X-Forwarded",
        "Cache-Control",
        "Expect",
        "Max-Forwards",
        "Origin",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "If-Range",
    ];
    let alone =
        names.map(|name| refused(format!("names {name:?}"), get(&format!("Connection: {name}\r\n")), &[400]));
    let more = [
        refused("behind close", get("Connection: close, Host\r\n"), &[400]),
        refused(
            "on a second line",
            get("Connection: close\r\nConnection: cookie\r\nCookie: a=1\r\n"),
            &[400],
        ),
        refused("among empty ones", get("Connection: ,,\t host ,\r\n"), &[400]),
        refused("with a length", post("Connection: Content-Length\r\nContent-Length: 3\r\n", "abc"), &[400]),
        refused(
            "with chunks",
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            &[400],
        ),
        refused("not ASCII", get("Connection: X-A, caf\u{e9}\r\n"), &[400]),
        refused("no token", get("Connection: X-A Host\r\n"), &[400]),
        refused("a quoted name", get("Connection: \"Host\"\r\n"), &[400]),
        refused("a parameter", get("Connection: close;q=1\r\n"), &[400]),
    ];
    check(alone.into_iter().chain(more));
}

#[test]
fn hop_by_hop_fields_go_no_further() {
    let fields = [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Connection: close",
        "Proxy-Authorization: Basic eA==",
        "Proxy-Authenticate: x",
        "Proxy-Authentication-Info: x",
        "Proxy: http://evil/",
        "Proxy-Features: x",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Upgrade: h2c",
        "TE: gzip",
        "Keep-Alive:",
        "Proxy_Connection: close",
        "Keep_Alive: 5",
    ];
    check(fields.map(|field| {
        let name = field.split(':').next().unwrap();
        served(field, get(&format!("{field}\r\n")), &["GET /x"]).without(name).without("connection")
    }));
}

#[test]
fn no_protocol_but_websocket_is_asked_for() {
    let asked = |value: &str| get(&format!("Connection: Upgrade\r\nUpgrade: {value}\r\n"));
    let values = [
        "h2c",
        "h2",
        "HTTP/2.0",
        "TLS/1.0",
        "tls",
        "websocket2",
        "web socket",
        "websocket/13",
        "h2c, websocket",
        "websocket, h2c",
        "websocket,",
        ",websocket",
        "\"websocket\"",
        "",
        "*",
        "connect-udp",
        "PTTH/1.0",
        "http/1.1",
        "raw",
    ];
    let values = values.map(|value| {
        served(format!("upgrade {value:?}"), asked(value), &["GET /x"])
            .without("upgrade")
            .without("connection")
            .or_refused(&[400])
    });
    let more = [
        served("h2c as it is sent", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), &["GET /x"])
            .without("upgrade")
            .without("http2-settings")
            .without("connection"),
        served("h2c with a body", post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 3\r\n", "abc"), &["POST /x abc"])
            .without("upgrade")
            .without("http2-settings"),
        served("h2c and HTTP/2 at once", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"), &["GET /x"]).without("upgrade"),
        served("Upgrade without Connection", get("Upgrade: websocket\r\n"), &["GET /x"]).without("upgrade"),
        served("Connection without Upgrade", get("Connection: upgrade\r\n"), &["GET /x"]).without("connection"),
        served("an empty Upgrade", get("Connection: upgrade\r\nUpgrade:\r\n"), &["GET /x"]).without("upgrade"),
        served("in a POST", post("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", ""), &["POST /x"]).without("upgrade"),
        served_last("in HTTP/1.0", "GET /x HTTP/1.0\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", &["GET /x"]).without("upgrade"),
    ];
    check(values.into_iter().chain(more));
}

#[test]
fn what_is_sent_behind_a_handshake_that_the_server_does_not_take_is_http() {
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    check([
        served("a request", get(handshake), &["GET /x"])
            .with("upgrade: websocket")
            .with("connection: upgrade")
            .or(served_last("", "", &["GET /x"])),
        served_then_refused(
            "a frame",
            get(handshake) + "\u{81}\u{85}\u{1}\u{2}\u{3}\u{4}abcde",
            &["GET /x"],
            &[400],
        )
        .or(served_last("", "", &["GET /x"])),
        refused(
            "with a length",
            get(&format!("{handshake}Content-Length: {}\r\n", SMUGGLED.len())) + SMUGGLED,
            &[400],
        ),
        refused(
            "with chunks",
            get(&format!("{handshake}Transfer-Encoding: chunked\r\n")) + "0\r\n\r\n",
            &[400],
        ),
        served("with an empty body", get(&format!("{handshake}Content-Length: 0\r\n")), &["GET /x"])
            .or(served_last("", "", &["GET /x"])),
        refused(
            "a POST with chunks",
            post(&format!("{handshake}Transfer-Encoding: chunked\r\n"), "0\r\n\r\n"),
            &[400],
        ),
        served("asked for twice", get(&format!("{handshake}Upgrade: websocket\r\n")), &["GET /x"])
            .or(served_last("", "", &["GET /x"]))
            .or_refused(&[400]),
        served("beside h2c", get(&format!("{handshake}Upgrade: h2c\r\n")), &["GET /x"])
            .without_value("h2c")
            .or(served_last("", "", &["GET /x"]))
            .or_refused(&[400]),
    ]);
}

#[test]
fn http_1_0_connections_end_unless_they_are_to_be_kept() {
    let old =
        |line: &str, fields: &str, body: &str| format!("{line} HTTP/1.0\r\nHost: test\r\n{fields}\r\n{body}");
    check([
        served_last("nothing said", old("GET /x", "", ""), &["GET /x"]),
        served("keep-alive", old("GET /x", "Connection: keep-alive\r\n", ""), &["GET /x"]),
        served(
            "Keep-Alive",
            old("GET /x", "Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n", ""),
            &["GET /x"],
        )
        .without("keep-alive"),
        served_last("close", old("GET /x", "Connection: close\r\n", ""), &["GET /x"]),
        served_last(
            "close and keep-alive",
            old("GET /x", "Connection: close, keep-alive\r\n", ""),
            &["GET /x"],
        ),
        served_last("Proxy-Connection", old("GET /x", "Proxy-Connection: keep-alive\r\n", ""), &["GET /x"])
            .without("proxy-connection"),
        served_last("a body", old("POST /x", "Content-Length: 3\r\n", "abc"), &["POST /x abc"]),
        served(
            "a body, kept",
            old("POST /x", "Connection: keep-alive\r\nContent-Length: 3\r\n", "abc"),
            &["POST /x abc"],
        ),
        served_last("HEAD", old("HEAD /x", "", ""), &["HEAD /x"]),
        served_last("a POST without a length", old("POST /x", "", ""), &["POST /x"])
            .with("content-length: 0"),
    ]);
}
