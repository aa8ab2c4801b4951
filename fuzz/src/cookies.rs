//! What we read of cookies is what a server reads that gets them from us, and nobody's cookie but a server's own names it.
//!
//! The lines up to an empty one are `Cookie`, the others `Set-Cookie`.

use tidegate::fields::{self, Fields, RequestHead};
use tidegate::filter::forward::{BodyLength, ForwardContext, Peer, PeerKind, RequestId};
use tidegate::upstream::sticky::{StickyKey, StickyTable};

use super::head;

const NAME: &str = "sid";

pub fn holds(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let request = head::get(&head::lines("cookie", &data[..end]));
    let joined = joined(&request);

    for name in [NAME, "a", ""] {
        assert_eq!(fields::cookie(&request.fields, name), fields::cookie(&joined, name), "{name}");
        assert_eq!(
            fields::cookie_bytes(&request.fields, name),
            fields::cookie_bytes(&joined, name),
            "{name}"
        );
        assert_eq!(fields::cookie_bytes(&request.fields, name), read(&joined, name), "{name}");
    }
    names_its_server(&request.fields);
    is_set(&head::lines("set-cookie", data.get(end + 2..).unwrap_or_default()));
}

/// As the server gets them.
fn joined(request: &RequestHead) -> Fields {
    let peer = Peer::new([192, 0, 2, 1].into(), "http", 80);
    let ctx = ForwardContext {
        peer: &peer,
        peer_kind: PeerKind::Client,
        client_ip: peer.ip(),
        host: "a",
        host_header: b"a",
        request_id: &RequestId::Theirs(b"a"[..].into()),
        websocket: false,
        body: BodyLength::None,
        conditions: None,
    };
    let sent = head::sent(request, &ctx);
    assert_eq!(head::all(&sent, "cookie").len(), usize::from(!request.fields.is_empty()));
    sent
}

/// RFC 6265 section 5.4 the other way round: byte by byte.
fn read(fields: &Fields, name: &str) -> Option<Vec<u8>> {
    let line = *head::all(fields, "cookie").first()?;
    let mut values: Vec<&[u8]> = Vec::new();
    let mut start = 0;
    for at in 0..=line.len() {
        if at < line.len() && line[at] != b';' {
            continue;
        }
        let pair = line[start..at].trim_ascii();
        start = at + 1;
        if pair.len() > name.len() && pair.starts_with(name.as_bytes()) && pair[name.len()] == b'=' {
            values.push(&pair[name.len() + 1..]);
        }
    }
    (!values.is_empty()).then(|| values.join(&b"; "[..]))
}

fn names_its_server(fields: &Fields) {
    let servers = ["10.0.0.1:80", "10.0.0.2:80"];
    let table = StickyTable::new(&[StickyKey::new(&[7; 32])], "app", servers);
    let Some(value) = fields::cookie(fields, NAME) else { return };
    let named = table.server_of(value);
    let expected = (0..servers.len()).find(|&server| table.value_of(server) == Some(value));
    assert_eq!(named, expected);
}

fn is_set(fields: &Fields) {
    for value in fields::set_cookies(fields, NAME) {
        assert!(!value.is_empty() && !value.contains(';'));
        let holds = |line: &&[u8]| {
            let line = String::from_utf8_lossy(line);
            line.trim_start().starts_with("sid=") && line.contains(value)
        };
        assert!(head::all(fields, "set-cookie").iter().any(holds));
    }
}
