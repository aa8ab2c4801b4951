//! Whose request it is, behind proxies that are trusted.

use std::net::IpAddr;
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::fields::Fields;
use crate::fields::Known;

/// The rightmost address of `X-Forwarded-For` that is not trusted: each trusted hop vouches for the one it
/// names, and what stands further left anyone may have written. `peer` itself when it is not trusted. Reading ends at
/// the first element that is no address; the last believed one is the client then.
///
/// Byte by byte, not by `fields::elements`, which leaves out lines that are no text: what stands before such a line is
/// further left all the same.
pub fn client_ip(peer: IpAddr, fields: &Fields, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut client = peer.to_canonical();
    if trusted.is_empty() {
        return client;
    }
    let lines = fields.get_all(Known::XForwardedFor).rev();
    let elements = lines.flat_map(|line| line.rsplit(|&b| b == b',')).map(<[u8]>::trim_ascii);
    let mut hops = elements.filter(|element| !element.is_empty());
    while is_trusted(&client) {
        match hops.next().and_then(address) {
            Some(hop) => client = hop,
            None => break,
        }
    }
    client
}

/// An address as proxies write it: plain, in brackets, or with a port (Azure's gateways do).
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = || text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok();
    let ip: Option<IpAddr> = plain().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_text_hides_nothing() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (lines, expected) in [
            // What a trusted proxy added to a stranger's line, and what the stranger wrote before it.
            (&[&b"6.6.6.6"[..], b"\xff, 2.2.2.2"][..], "2.2.2.2"),
            (&[b"\xff, 2.2.2.2, 10.0.0.2"], "2.2.2.2"),
            (&[b"6.6.6.6", b"\xff"], "10.0.0.1"),
        ] {
            let fields: Fields = lines.iter().map(|line| ("x-forwarded-for", line)).collect();
            let found = client_ip("10.0.0.1".parse().unwrap(), &fields, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{lines:?}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_hop_vouches_for() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, lines, expected) in [
            ("1.1.1.1", &["2.2.2.2"][..], "1.1.1.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", &["6.6.6.6, 2.2.2.2, 10.0.0.2"], "2.2.2.2"),
            ("10.0.0.1", &["6.6.6.6", "2.2.2.2", "10.0.0.2,"], "2.2.2.2"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["2.2.2.2, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["2.2.2.2:4711"], "2.2.2.2"),
            ("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:2.2.2.2"], "2.2.2.2"),
        ] {
            let fields: Fields = lines.iter().map(|line| ("x-forwarded-for", line)).collect();
            let found = client_ip(peer.parse().unwrap(), &fields, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }
}
