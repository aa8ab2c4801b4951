//! What is taken for a host and a port is one for everybody who reads it after us.

use tidegate::filter::authority::Authority;
use tidegate::router::normal_host;

pub fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(authority) = Authority::parse(text) else { return };

    assert!(text.starts_with(authority.name) && text.is_ascii());
    assert!(!text.bytes().any(|b| b.is_ascii_whitespace() || b"/?#@\\,\"<>^`{|}".contains(&b)));
    let has_brackets = text.contains(['[', ']']);
    assert_eq!(has_brackets, authority.name.starts_with('[') && authority.name.ends_with(']'));
    assert!(has_brackets || !authority.name.contains(':'));
    is_read_alike(text, authority);
    is_written_alike(authority);
    let normal = authority.normal_name();
    assert!(!normal.bytes().any(|b| b.is_ascii_uppercase()));
    assert_eq!(normal, normal_host(text), "the router reads the same host");
    let other = text.to_ascii_uppercase();
    let other = Authority::parse(&other).expect("case does not matter");
    assert!(authority.is_same(other) && other.is_same(authority));
    assert_eq!(other.normal_name(), normal);
}

/// By another library. It refuses escapes, which are legal.
fn is_read_alike(text: &str, authority: Authority<'_>) {
    if text.contains('%') {
        return;
    }
    let read: http::uri::Authority = text.parse().expect("an authority");
    assert_eq!(read.host(), authority.name);
    assert_eq!(read.port_u16(), authority.port);
}

fn is_written_alike(authority: Authority<'_>) {
    let text = match authority.port {
        Some(port) => format!("{}:{port}", authority.name),
        None => authority.name.to_owned(),
    };
    assert_eq!(Authority::parse(&text), Some(authority));
}
