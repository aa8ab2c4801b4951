//! `[upstream.NAME.health]`: one kind of probe, and only keys that mean something to it.

use http::{HeaderName, HeaderValue, Method};

use super::keys;
use super::model::{BodyPattern, FirstState, GrpcProbe, Health, HttpProbe, Probe, Server};
use super::pattern;
use super::reader::{Table, Value};
use super::units::seconds;

/// What to write when a table asks for nothing, or for too much.
const HELP: &str = "write one of path = \"/healthz\", tcp = true, tls = true and grpc = \"\"";
/// Further fields of a probe: a credential, a marker for the server's log; not a browser's.
const HEADERS_MAX: usize = 32;
/// A service is `package.Name`; longer is a mistake in a template.
const SERVICE_BYTES_MAX: usize = 256;

/// Fields that frame a message or are about its connection: we write them, or they would be wrong.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The kinds, by the key that asks for each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Tls,
    Grpc,
}

impl Kind {
    /// Its key, and the keys that mean something to it alone.
    fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Kind::Http => ("path", &["method", "host", "headers", "expect", "body"]),
            Kind::Tcp => ("tcp", &[]),
            Kind::Tls => ("tls", &[]),
            Kind::Grpc => ("grpc", &["host", "headers"]),
        }
    }
}

/// The table; `servers` are those it is about.
pub(super) fn health(value: &Value<'_>, servers: &[Server]) -> Option<Health> {
    let table = value.table(keys::HEALTH, HELP)?;
    let probe = kind(value, &table).and_then(|kind| probe(kind, &table, servers));
    let port = table.get("port").and_then(|value| value.whole(1..=u64::from(u16::MAX)));
    let first_states = [("healthy", FirstState::Healthy), ("unhealthy", FirstState::Unhealthy)];
    Some(Health {
        // Of a table with a mistake in it nothing is used.
        probe: probe.unwrap_or(Probe::Tcp),
        port: port.and_then(|port| u16::try_from(port).ok()),
        interval: table.duration("interval", seconds(2)),
        timeout: table.duration("timeout", seconds(1)),
        rise: table.number("rise", 2, 1..=100),
        fall: table.number("fall", 3, 1..=100),
        start: table.word("start", FirstState::Healthy, &first_states),
    })
}

/// The one kind that is asked for.
fn kind(value: &Value<'_>, table: &Table<'_>) -> Option<Kind> {
    let asked: Vec<Kind> = [
        (Kind::Http, table.get("path").is_some()),
        (Kind::Tcp, table.boolean("tcp", false)),
        (Kind::Tls, table.boolean("tls", false)),
        (Kind::Grpc, table.get("grpc").is_some()),
    ]
    .into_iter()
    .filter_map(|(kind, is_asked)| is_asked.then_some(kind))
    .collect();
    match asked[..] {
        [] => value.refuse("does not say what to ask", HELP),
        [kind] => Some(kind),
        _ => {
            let names: Vec<&str> = asked.iter().map(|kind| kind.keys().0).collect();
            value.refuse(format!("asks for {} at once", names.join(" and ")), HELP)
        }
    }
}

fn probe(kind: Kind, table: &Table<'_>, servers: &[Server]) -> Option<Probe> {
    refuse_keys_of_others(kind, table);
    match kind {
        Kind::Http => http(table).map(|probe| Probe::Http(Box::new(probe))),
        Kind::Grpc => grpc(table).map(Probe::Grpc),
        Kind::Tcp => Some(Probe::Tcp),
        Kind::Tls => {
            refuse_tls_in_the_clear(table, servers);
            Some(Probe::Tls)
        }
    }
}

fn refuse_keys_of_others(kind: Kind, table: &Table<'_>) {
    let (name, own) = kind.keys();
    let others = Kind::Http.keys().1.iter().filter(|key| !own.contains(key));
    for value in others.filter_map(|key| table.get(key)) {
        value.wrong(
            format!("means nothing to a {name} probe"),
            format!("leave it out, or give a path instead of {name}"),
        );
    }
}

/// How a server in the clear would be verified, nobody has said; and it would fail every probe.
fn refuse_tls_in_the_clear(table: &Table<'_>, servers: &[Server]) {
    let Some(server) = servers.iter().find(|server| !server.tls) else { return };
    if let Some(value) = table.get("tls") {
        let (host, port) = (&server.host, server.port);
        value.wrong(
            format!("the server {host}:{port} is spoken to in the clear"),
            "begin its address with https://, or write tcp = true",
        );
    }
}

fn http(table: &Table<'_>) -> Option<HttpProbe> {
    let method = table.get("method").and_then(|value| method(&value)).unwrap_or(Method::GET);
    let body = table.get("body");
    if let Some(value) = body.as_ref().filter(|_| method == Method::HEAD) {
        value.wrong("is never in the answer to a HEAD", "write method = \"GET\"");
    }
    Some(HttpProbe {
        host: host(table),
        headers: headers(table, &[]),
        expect: table.get("expect").and_then(|value| expect(&value)).unwrap_or(vec![(200, 399)]),
        body: body.and_then(|value| body_pattern(&value)),
        method,
        path: table.get("path")?.parsed(pattern::probe_path)?,
    })
}

fn grpc(table: &Table<'_>) -> Option<GrpcProbe> {
    // gRPC's own.
    let headers = headers(table, &["content-type", "grpc-timeout"]);
    Some(GrpcProbe { host: host(table), headers, service: service(&table.get("grpc")?)? })
}

fn method(value: &Value<'_>) -> Option<Method> {
    let index = value.word(&[("GET", 0), ("HEAD", 1), ("OPTIONS", 2)])?;
    Some([Method::GET, Method::HEAD, Method::OPTIONS][index].clone())
}

fn host(table: &Table<'_>) -> Option<String> {
    table.get("host").and_then(|value| value.parsed(pattern::authority))
}

fn headers(table: &Table<'_>, reserved: &[&str]) -> Vec<(HeaderName, HeaderValue)> {
    let Some(value) = table.get("headers") else { return Vec::new() };
    let fields = value.entries("such as { x-probe = \"1\" }").unwrap_or_default();
    if fields.len() > HEADERS_MAX {
        value.wrong(format!("has {} fields", fields.len()), format!("at most {HEADERS_MAX} are allowed"));
    }
    fields.iter().filter_map(|(name, value)| header(name, value, reserved)).collect()
}

fn header(name: &str, value: &Value<'_>, reserved: &[&str]) -> Option<(HeaderName, HeaderValue)> {
    let Ok(field) = name.parse::<HeaderName>() else {
        return value.refuse(format!("{name:?} is no name of a field"), "use letters, digits and -");
    };
    if field == http::header::HOST {
        return value.refuse("is not a further field", "write host = \"…\" in the table above");
    }
    if RESERVED.contains(&field.as_str()) || reserved.contains(&field.as_str()) {
        return value.refuse("is not yours to set", "it belongs to the connection or to the protocol");
    }
    match HeaderValue::from_str(value.text()?) {
        Ok(content) => Some((field, content)),
        Err(_) => value.refuse("has characters that no field has", "leave control characters out"),
    }
}

fn expect(value: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    let items = value.array("write it as [\"200-299\", 304]")?;
    if items.is_empty() {
        return value.refuse("is empty", "no status would be well");
    }
    let range = |item: &Value<'_>| {
        if item.is_string() {
            return item.parsed(pattern::statuses);
        }
        let status = item.whole(100..=599).and_then(|status| u16::try_from(status).ok())?;
        Some((status, status))
    };
    Some(items.iter().filter_map(range).collect())
}

fn body_pattern(value: &Value<'_>) -> Option<BodyPattern> {
    let text = value.text()?;
    match BodyPattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(reason) => value.refuse(
            format!("{text:?} is not a pattern: {reason}"),
            "write a regular expression; between single quotes each \\ stands for itself",
        ),
    }
}

/// A service's name as it travels; empty is the server as a whole.
fn service(value: &Value<'_>) -> Option<String> {
    if value.peek() == Some("") {
        return Some(String::new());
    }
    let text = value.text()?;
    if text.len() > SERVICE_BYTES_MAX || !text.chars().all(|c| c.is_ascii_graphic()) {
        return value.refuse(
            format!("{text:?} is no name of a service"),
            "write it as \"package.Service\", or \"\" for the server as a whole",
        );
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Mistake, Mistakes, parse};
    use super::*;

    /// Six lines, so that the table begins in line 7.
    fn read(scheme: &str, health: &str) -> Result<Config, Mistakes> {
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:80\"\n[[route]]\nupstream = \"app\"\n[upstream.app]\n\
             servers = [\"https://10.0.0.1\", \"{scheme}10.0.0.2\"]\n{health}"
        );
        parse(&text, Path::new("t.toml"), &[])
    }

    fn probe_of(health: &str) -> Probe {
        let config = read("https://", health).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        config.upstreams[0].health.clone().unwrap().probe
    }

    #[test]
    fn each_key_asks_for_its_kind_of_probe() {
        let http = HttpProbe {
            method: Method::GET,
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            expect: vec![(200, 399)],
            body: None,
        };
        let grpc = GrpcProbe { service: "a.B".to_owned(), host: Some("x".to_owned()), headers: Vec::new() };
        for (health, expected) in [
            ("health = { path = \"/\", tcp = false, tls = false }", Probe::Http(Box::new(http))),
            ("health = { tcp = true }", Probe::Tcp),
            ("health = { tls = true, port = 9000 }", Probe::Tls),
            ("health = { grpc = \"a.B\", host = \"x\" }", Probe::Grpc(grpc)),
        ] {
            assert_eq!(probe_of(health), expected, "{health}");
        }
    }

    #[test]
    fn each_field_of_a_request_is_read() {
        let found = probe_of(
            "[upstream.app.health]\npath = \"/h?x=1\"\nmethod = \"OPTIONS\"\nhost = \"a.b:1\"\n\
             headers = { Authorization = \"Bearer x\", x-probe = \"1\" }\nexpect = [204, \"300-304\"]\nbody = '\\bok$'",
        );

        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let expected = HttpProbe {
            method: Method::OPTIONS,
            path: "/h?x=1".to_owned(),
            host: Some("a.b:1".to_owned()),
            headers: vec![field("authorization", "Bearer x"), field("x-probe", "1")],
            expect: vec![(204, 204), (300, 304)],
            body: Some(BodyPattern::new(r"\bok$").unwrap()),
        };
        assert_eq!(found, Probe::Http(Box::new(expected)));
    }

    #[test]
    fn each_mistake_says_where_what_and_what_instead() {
        let mut differences = Vec::new();
        for (scheme, health, expected) in MISTAKES {
            let found = read(scheme, health).map(|_| Vec::new()).unwrap_or_else(|mistakes| mistakes.0);
            let found: Vec<String> = found.iter().map(Mistake::headline).collect();
            if found != [format!("t.toml:7:{expected}")] {
                differences.push((health, expected, found));
            }
        }

        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// The second server's scheme, the table, and the one headline it earns.
    const MISTAKES: &[(&str, &str, &str)] = &[
        (
            "https://",
            "health = { tls = true, grpc = \"\" }",
            "10: upstream.app.health: asks for tls and grpc at once; write one of path = \"/healthz\", tcp = true, tls = true and grpc = \"\"",
        ),
        (
            "https://",
            "health = { tls = false }",
            "10: upstream.app.health: does not say what to ask; write one of path = \"/healthz\", tcp = true, tls = true and grpc = \"\"",
        ),
        (
            "http://",
            "health = { tls = true }",
            "18: upstream.app.health.tls: the server 10.0.0.2:80 is spoken to in the clear; begin its address with https://, or write tcp = true",
        ),
        (
            "https://",
            "health = { tls = true, body = \"ok\" }",
            "31: upstream.app.health.body: means nothing to a tls probe; leave it out, or give a path instead of tls",
        ),
        (
            "https://",
            "health = { grpc = \"\", expect = [200] }",
            "32: upstream.app.health.expect: means nothing to a grpc probe; leave it out, or give a path instead of grpc",
        ),
        (
            "https://",
            "health = { grpc = \"my service\" }",
            "19: upstream.app.health.grpc: \"my service\" is no name of a service; write it as \"package.Service\", or \"\" for the server as a whole",
        ),
        (
            "https://",
            "health = { grpc = true }",
            "19: upstream.app.health.grpc: expected a string, found true",
        ),
        (
            "https://",
            "health = { path = \"/\", method = \"get\" }",
            "33: upstream.app.health.method: unknown value \"get\"; did you mean \"GET\"?",
        ),
        (
            "https://",
            "health = { path = \"/\", method = \"DELETE\" }",
            "33: upstream.app.health.method: unknown value \"DELETE\"; known: GET, HEAD, OPTIONS",
        ),
        (
            "https://",
            "health = { path = \"/\", method = \"HEAD\", body = \"ok\" }",
            "48: upstream.app.health.body: is never in the answer to a HEAD; write method = \"GET\"",
        ),
        (
            "https://",
            "health = { path = \"/\", body = \"(ok\" }",
            "31: upstream.app.health.body: \"(ok\" is not a pattern: unclosed group; write a regular expression; between single quotes each \\ stands for itself",
        ),
        (
            "https://",
            "health = { path = \"/\", headers = { host = \"a\" } }",
            "43: upstream.app.health.headers.host: is not a further field; write host = \"…\" in the table above",
        ),
        (
            "https://",
            "health = { path = \"/\", headers = { Transfer-Encoding = \"chunked\" } }",
            "56: upstream.app.health.headers.Transfer-Encoding: is not yours to set; it belongs to the connection or to the protocol",
        ),
        (
            "https://",
            "health = { grpc = \"\", headers = { content-type = \"a/b\" } }",
            "50: upstream.app.health.headers.content-type: is not yours to set; it belongs to the connection or to the protocol",
        ),
        (
            "https://",
            "health = { path = \"/\", headers = { \"a b\" = \"c\" } }",
            "44: upstream.app.health.headers.a b: \"a b\" is no name of a field; use letters, digits and -",
        ),
        (
            "https://",
            "health = { path = \"/\", headers = { a = \"b\\r\\nc: d\" } }",
            "40: upstream.app.health.headers.a: has characters that no field has; leave control characters out",
        ),
        (
            "https://",
            "health = { tcp = true, port = 65536 }",
            "31: upstream.app.health.port: 65536 is out of range; allowed: 1 to 65535",
        ),
        (
            "https://",
            "health = { tcp = true, start = \"unhealthly\" }",
            "32: upstream.app.health.start: unknown value \"unhealthly\"; did you mean \"unhealthy\"?",
        ),
        (
            "https://",
            "health = { tcp = true, prot = 1 }",
            "24: upstream.app.health.prot: unknown key; did you mean \"port\"?",
        ),
    ];
}
