//! Nobody but a trusted proxy says whose request it is.
//!
//! The lines are `X-Forwarded-For`, whatever is in them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tidegate::fields::Fields;
use tidegate::filter::forward::client_ip;

use super::head;

const NAME: &str = "x-forwarded-for";
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

pub fn holds(data: &[u8]) {
    let fields = head::lines(NAME, data);
    let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let proxy: IpAddr = [10, 0, 0, 1].into();

    assert_eq!(client_ip(STRANGER, &fields, &trusted), STRANGER, "a stranger's word");
    assert_eq!(client_ip(proxy, &fields, &[]), proxy, "nobody is trusted");
    assert_eq!(client_ip(proxy, &fields, &trusted), read(&fields, proxy, &trusted));
    // A trusted proxy adds its client to the last line, or as a line of its own: whatever that one wrote before,
    // it cannot be taken for somebody else.
    for fields in [added_to_the_last_line(&fields), added_as_a_line(&fields)] {
        assert_eq!(client_ip(proxy, &fields, &trusted), STRANGER);
    }
}

/// All lines as one list, from its end (RFC 9110 section 5.3).
fn read(fields: &Fields, proxy: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let whole = String::from_utf8_lossy(&head::all(fields, NAME).join(&b","[..])).into_owned();
    let mut client = proxy;
    for element in whole
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
        .rev()
    {
        if !trusted.iter().any(|net| net.contains(&client)) {
            break;
        }
        let bracketed = element.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let plain = bracketed.unwrap_or(element);
        let with_port = || element.parse::<SocketAddr>().map(|address| address.ip());
        let Ok(address) = plain.parse::<IpAddr>().or_else(|_| with_port()) else { break };
        client = address.to_canonical();
    }
    client
}

fn added_to_the_last_line(fields: &Fields) -> Fields {
    let mut lines: Vec<Vec<u8>> = head::all(fields, NAME).into_iter().map(<[u8]>::to_vec).collect();
    match lines.last_mut() {
        Some(last) => last.extend_from_slice(format!(", {STRANGER}").as_bytes()),
        None => lines.push(STRANGER.to_string().into_bytes()),
    }
    lines.into_iter().map(|line| (NAME, line)).collect()
}

fn added_as_a_line(fields: &Fields) -> Fields {
    let mut fields = fields.clone();
    fields.append(NAME, STRANGER.to_string().as_bytes());
    fields
}
