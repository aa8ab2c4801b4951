//! The small languages inside strings: hosts, paths, addresses, statuses.
//!
//! Pure: text in, its meaning or why it has none out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::uri::PathAndQuery;
use ipnet::IpNet;

use super::model::{HostPattern, PathPattern, Source};

/// Why a text was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Where a server is, as written in `servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) source: Source,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// `"*"`, `"*.example.com"`, `"www.example.com"`.
pub(super) fn host(text: &str) -> Result<HostPattern, Refused> {
    const HELP: &str = "write a name, \"*.\" and a name, or \"*\"";
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if text.contains("://") || text.contains('/') {
        return refuse(format!("{text:?} is not a host"), "write the host alone, without scheme or path");
    }
    if let Some(name) = text.strip_prefix("*.") {
        return host_name(name, HELP).map(HostPattern::Wildcard);
    }
    if text.contains('*') {
        return refuse(
            format!("{text:?} has a * inside"),
            "a * may only stand for the leftmost labels, as in \"*.example.com\"",
        );
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(HostPattern::Exact(format!("[{ip}]"))),
            Err(_) => refuse(format!("{text:?} is not an IPv6 address"), HELP),
        };
    }
    if text.contains(':') {
        return refuse(format!("{text:?} has a port"), "write the host alone; the port is the listener's");
    }
    host_name(text, HELP).map(HostPattern::Exact)
}

/// `"/about"`, `"/api/*"`, `"/users/*/photos"`.
pub(super) fn path(text: &str) -> Result<PathPattern, Refused> {
    plain_path(text)?;
    let segments: Vec<&str> = text[1..].split('/').collect();
    if segments.iter().any(|segment| segment.contains('*') && *segment != "*") {
        return refuse(
            format!("{text:?} has a * beside other text"),
            "a * is a whole segment, as in \"/api/*\"",
        );
    }

    let tail = segments.last() == Some(&"*");
    let fixed = &segments[..segments.len() - usize::from(tail)];
    if fixed.contains(&"*") {
        let segments = fixed.iter().map(|segment| (*segment != "*").then(|| (*segment).to_owned())).collect();
        return Ok(PathPattern::Wildcard { segments, tail });
    }
    Ok(if tail {
        PathPattern::Prefix(text[..text.len() - 1].to_owned())
    } else {
        PathPattern::Exact(text.to_owned())
    })
}

/// A path that a request can have after it was cleaned; `*` has no meaning here.
fn plain_path(text: &str) -> Result<(), Refused> {
    if !text.starts_with('/') {
        return refuse(format!("{text:?} does not begin with /"), "");
    }
    if text.contains(['?', '#']) {
        return refuse(format!("{text:?} has a query or a fragment"), "routes look at the path alone");
    }
    if text.chars().any(|c| c.is_control() || c == ' ' || c == '\\' || !c.is_ascii()) {
        return refuse(
            format!("{text:?} has characters that no path has"),
            "write them percent-encoded, as in \"/caf%C3%A9\"",
        );
    }
    let dots =
        |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if text.split('/').any(dots) {
        return refuse(
            format!("{text:?} has a dot segment"),
            "requests are matched after theirs are resolved",
        );
    }
    Ok(())
}

/// The target of a probe: a path and perhaps a query.
pub(super) fn probe_path(text: &str) -> Result<String, Refused> {
    if !text.starts_with('/') {
        return refuse(format!("{text:?} does not begin with /"), "");
    }
    let is_target = text.chars().all(|c| c.is_ascii_graphic()) && text.parse::<PathAndQuery>().is_ok();
    if text.contains('#') || !is_target {
        return refuse(
            format!("{text:?} has characters that no request target has"),
            "write them percent-encoded",
        );
    }
    Ok(text.to_owned())
}

/// `"10.0.0.1:80"`, `"app:8080"`, `"https://app"`, `"[::1]:80"`, `"http+srv://_http._tcp.app"`.
pub(super) fn server(text: &str) -> Result<Address, Refused> {
    const HELP: &str = "write \"host:port\" or \"https://host:port\"";
    const SCHEMES: &str = "known: http, https, http+srv, https+srv";
    let (rest, tls, default_port) = match text.split_once("://") {
        Some(("http", rest)) => (rest, false, Some(80)),
        Some(("https", rest)) => (rest, true, Some(443)),
        Some(("http+srv", name)) => return service(name, false),
        Some(("https+srv", name)) => return service(name, true),
        Some((scheme, _)) => return refuse(format!("unknown scheme {scheme:?}"), SCHEMES),
        None => (text, false, None),
    };
    if rest.contains(['/', '?', '#', '@']) {
        return refuse(format!("{text:?} is more than a host and a port"), HELP);
    }

    let (host, port) = split_port(rest);
    let port = match (port, default_port) {
        (None, Some(port)) => port,
        (None, None) => return refuse(format!("{text:?} has no port"), HELP),
        (Some(port), _) => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => return refuse(format!("{port:?} is not a port"), "allowed: 1 to 65535"),
        },
    };
    let is_absolute = host.ends_with('.');
    let host = server_host(host, HELP)?;
    let source = match host.parse() {
        Ok(ip) => Source::Address(ip),
        Err(_) => Source::Name(query_name(&host, is_absolute)),
    };
    Ok(Address { source, host, port, tls })
}

/// A name with SRV records. Not all begin with `_service._proto`: Consul's need not.
fn service(text: &str, tls: bool) -> Result<Address, Refused> {
    const HELP: &str = "write a name with SRV records, as in \"http+srv://_http._tcp.app.internal\"";
    if text.contains(':') {
        return refuse(
            format!("{text:?} has a port"),
            "write the name alone; the ports are in its SRV records",
        );
    }
    let name = host_name(text, HELP)?;
    if name.parse::<Ipv4Addr>().is_ok() {
        return refuse(format!("{text:?} is an address"), HELP);
    }
    let labels: Vec<&str> = name.split('.').skip_while(|label| label.starts_with('_')).collect();
    if labels.is_empty() {
        return refuse(format!("{text:?} has no domain"), HELP);
    }
    let source = Source::Service(query_name(&name, text.ends_with('.')));
    Ok(Address { source, host: labels.join("."), port: 0, tls })
}

/// The name as it is asked for: the dot at its end, which the host lost, means that it is whole.
fn query_name(host: &str, is_absolute: bool) -> String {
    if is_absolute { format!("{host}.") } else { host.to_owned() }
}

/// `"127.0.0.1:53"`, `"::1"`: a name server is asked at port 53 unless the text says otherwise.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Refused> {
    let with_port = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    match with_port {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => refuse(
            format!("{text:?} is not the address of a name server"),
            "write an IP address, perhaps with a port, as in \"127.0.0.1:53\"",
        ),
    }
}

/// A host with or without brackets; without an IPv6 in the bare.
fn server_host(host: &str, help: &'static str) -> Result<String, Refused> {
    if let Some(inner) = host.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return match ip {
            Some(ip) => Ok(ip.to_string()),
            None => {
                refuse(format!("{host:?} is not an IPv6 address"), "write it in brackets, as in \"[::1]:80\"")
            }
        };
    }
    if host.contains(':') {
        return refuse(
            format!("{host:?} is not a host"),
            "write an IPv6 address in brackets, as in \"[::1]:80\"",
        );
    }
    host_name(host, help)
}

/// Splits at the last colon that is not part of an IPv6 address.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((_, port)) if port.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

/// A DNS name (underscores too: container networks have them) or an IPv4 address, in lower case.
fn host_name(text: &str, help: &'static str) -> Result<String, Refused> {
    // RFC 1035 §2.3.4: labels of 63 bytes, names of 253.
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if !name.is_ascii() {
        return refuse(format!("{text:?} is not ASCII"), "write its punycode, as in \"xn--mnchen-3ya.de\"");
    }
    let is_label = |label: &str| {
        let fits = (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        fits && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return refuse(format!("{text:?} is not a host"), help);
    }
    // No top-level domain is a number, so this was meant to be an address (WHATWG URL says the same).
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return refuse(format!("{text:?} is not an IPv4 address"), "");
    }
    Ok(name)
}

/// A `Host` header as it will be sent: a host, perhaps with a port.
pub(super) fn authority(text: &str) -> Result<String, Refused> {
    const HELP: &str = "write a host, perhaps with a port";
    let (host, port) = split_port(text);
    server_host(host, HELP)?;
    // `parse` alone would take a sign.
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match port.map(is_port) {
        Some(false) => refuse(format!("{text:?} is not a host"), HELP),
        _ => Ok(text.to_owned()),
    }
}

/// A name that a certificate can carry.
pub(super) fn server_name(text: &str) -> Result<String, Refused> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => host_name(text, "write the name in the server's certificate, without port"),
    }
}

/// Where to listen.
pub(super) fn bind(text: &str) -> Result<SocketAddr, Refused> {
    match text.parse() {
        Ok(bind) => Ok(bind),
        Err(_) => refuse(
            format!("{text:?} is not an IP address and a port"),
            "write it as \"0.0.0.0:8080\" or \"[::]:8080\"",
        ),
    }
}

/// `"10.0.0.0/8"`, `"127.0.0.1"`.
pub(super) fn network(text: &str) -> Result<IpNet, Refused> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) if network.trunc() != network => {
            refuse(format!("{text:?} has bits beyond its prefix"), "write the first address of the network")
        }
        Ok(network) => Ok(network),
        Err(_) => refuse(
            format!("{text:?} is not a network"),
            "write an IP address, perhaps with a prefix length, as in \"10.0.0.0/8\"",
        ),
    }
}

/// `"200-299"`, `"204"`.
pub(super) fn statuses(text: &str) -> Result<(u16, u16), Refused> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if 100 <= from && from <= to && to <= 599 => Ok((from, to)),
        _ => refuse(
            format!("{text:?} is not a range of statuses"),
            "write it as \"200-299\", within 100 to 599",
        ),
    }
}

/// A name of a header or a cookie (RFC 9110 §5.6.2).
pub(super) fn token(text: &str) -> Result<String, Refused> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.bytes().all(is_token) {
        return Ok(text.to_owned());
    }
    refuse(format!("{text:?} cannot be a name here"), "use letters, digits, - and _")
}

fn refuse<T>(message: String, help: &'static str) -> Result<T, Refused> {
    Err(Refused { message, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_a_wildcard_or_anything() {
        let exact = |name: &str| Some(HostPattern::Exact(name.to_owned()));
        let cases = [
            ("*", Some(HostPattern::Any)),
            ("Www.Example.COM.", exact("www.example.com")),
            ("*.Example.com", Some(HostPattern::Wildcard("example.com".to_owned()))),
            ("localhost", exact("localhost")),
            ("127.0.0.1", exact("127.0.0.1")),
            ("[::0001]", exact("[::1]")),
            ("my_app", exact("my_app")),
            ("example.com:80", None),
            ("https://example.com", None),
            ("a.*.com", None),
            ("*example.com", None),
            ("*.", None),
            ("*.*.com", None),
            ("a..b", None),
            ("-a.com", None),
            ("münchen.de", None),
            ("10.0.0", None),
            ("a b", None),
        ];

        for (text, pattern) in cases {
            assert_eq!(host(text).ok(), pattern, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_exact_a_prefix_or_has_wildcards() {
        let exact = |path: &str| Some(PathPattern::Exact(path.to_owned()));
        let prefix = |path: &str| Some(PathPattern::Prefix(path.to_owned()));
        let wildcard = |segments: &[&str], tail| {
            let segment = |s: &&str| (*s != "*").then(|| (*s).to_owned());
            Some(PathPattern::Wildcard { segments: segments.iter().map(segment).collect(), tail })
        };
        let cases = [
            ("/", exact("/")),
            ("/about", exact("/about")),
            ("/about/", exact("/about/")),
            ("/*", prefix("/")),
            ("/api/*", prefix("/api/")),
            ("/users/*/photos", wildcard(&["users", "*", "photos"], false)),
            ("/users/*/*", wildcard(&["users", "*"], true)),
            ("/*/x", wildcard(&["*", "x"], false)),
            ("/caf%C3%A9", exact("/caf%C3%A9")),
            ("/a..b", exact("/a..b")),
            ("", None),
            ("api", None),
            ("/api*", None),
            ("/api/**", None),
            ("/a?b", None),
            ("/a#b", None),
            ("/a/../b", None),
            ("/a/%2E%2e/b", None),
            ("/./b", None),
            ("/café", None),
            ("/a b", None),
            ("/a\u{7}b", None),
        ];

        for (text, pattern) in cases {
            assert_eq!(path(text).ok(), pattern, "{text:?}");
        }
    }

    #[test]
    fn a_probe_asks_for_what_a_request_can_carry() {
        for (text, is_target) in [
            ("/", true),
            ("/healthz?deep=1&x={a}", true),
            ("//x", true),
            ("healthz", false),
            ("/a b", false),
            ("/a#b", false),
            ("/<a>", false),
            ("/café", false),
        ] {
            assert_eq!(probe_path(text).is_ok(), is_target, "{text:?}");
        }
    }

    #[test]
    fn a_server_has_a_port_or_a_scheme_that_implies_one() {
        let cases = [
            ("127.0.0.1:3000", Some(("127.0.0.1", 3000, false))),
            ("App:8080", Some(("app", 8080, false))),
            ("http://app", Some(("app", 80, false))),
            ("https://app", Some(("app", 443, true))),
            ("https://app:8443", Some(("app", 8443, true))),
            ("[::1]:80", Some(("::1", 80, false))),
            ("https://[2001:db8::1]", Some(("2001:db8::1", 443, true))),
            ("app", None),
            ("app:", None),
            ("app:0", None),
            ("app:+80", None),
            ("app:65536", None),
            ("::1:80", None),
            ("[::1]", None),
            ("[::1]x:80", None),
            ("ftp://app", None),
            ("http://app/", None),
            ("http://user@app", None),
            ("300.1.1.1:80", None),
            (":80", None),
        ];

        for (text, parts) in cases {
            let found = server(text).ok();
            let found = found.as_ref().map(|address| (address.host.as_str(), address.port, address.tls));
            assert_eq!(found, parts, "{text:?}");
        }
    }

    #[test]
    fn a_server_is_an_address_a_name_or_a_service() {
        let name = |text: &str| Some(Source::Name(text.to_owned()));
        let service = |text: &str| Some(Source::Service(text.to_owned()));
        let cases = [
            ("127.0.0.1:3000", Some(Source::Address([127, 0, 0, 1].into())), "127.0.0.1"),
            ("https://[::1]", Some(Source::Address(IpAddr::V6(Ipv6Addr::LOCALHOST))), "::1"),
            ("App:80", name("app"), "app"),
            ("app.internal.:80", name("app.internal."), "app.internal"),
            ("http+srv://_http._tcp.App.internal", service("_http._tcp.app.internal"), "app.internal"),
            ("https+srv://_https._tcp.app.internal.", service("_https._tcp.app.internal."), "app.internal"),
            ("http+srv://app.service.consul", service("app.service.consul"), "app.service.consul"),
            ("http+srv://_http._tcp.app.internal:80", None, ""),
            ("http+srv://_http._tcp", None, ""),
            ("http+srv://127.0.0.1", None, ""),
            ("http+srv://[::1]", None, ""),
            ("http+srv://", None, ""),
            ("http+srv://app/", None, ""),
            ("srv://_http._tcp.app", None, ""),
            ("srv:_http._tcp.app", None, ""),
        ];

        for (text, source, host) in cases {
            let found = server(text).ok();
            assert_eq!(found.as_ref().map(|address| &address.source), source.as_ref(), "{text:?}");
            assert_eq!(found.map_or(String::new(), |address| address.host), host, "{text:?}");
        }
    }

    #[test]
    fn a_host_field_is_one_that_we_would_take_ourselves() {
        for text in ["a", "A.example:8080", "10.0.0.1:80", "[::1]", "[::1]:80"] {
            assert_eq!(authority(text).as_deref(), Ok(text));
        }
        for text in ["", "a:", "a:+80", "a:65536", "a b", "u@a", "::1", "[::1]:+1"] {
            assert!(authority(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_server_has_port_53_unless_it_has_another() {
        let cases = [
            ("10.0.0.1", Some("10.0.0.1:53")),
            ("10.0.0.1:5353", Some("10.0.0.1:5353")),
            ("::1", Some("[::1]:53")),
            ("[::1]:5353", Some("[::1]:5353")),
            ("10.0.0.1:0", None),
            ("dns.internal", None),
            ("", None),
        ];

        for (text, address) in cases {
            assert_eq!(name_server(text).ok().map(|found| found.to_string()).as_deref(), address, "{text:?}");
        }
    }

    #[test]
    fn a_network_is_an_address_with_or_without_a_prefix() {
        let cases = [
            ("10.0.0.0/8", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("fd00::/8", true),
            ("10.0.0.1/8", false),
            ("10/8", false),
            ("lan", false),
        ];

        for (text, is_network) in cases {
            assert_eq!(network(text).is_ok(), is_network, "{text:?}");
        }
    }
}
