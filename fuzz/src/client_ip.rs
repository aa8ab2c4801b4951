//! Nobody but a trusted proxy says whose request it is.
//!
//! The lines are `X-Forwarded-For`, whatever is in them.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use tidegate::filter::forward::{X_FORWARDED_FOR, client_ip};

use super::head;

const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

pub fn holds(data: &[u8]) {
    let headers = head::lines(X_FORWARDED_FOR, data);
    let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let proxy: IpAddr = [10, 0, 0, 1].into();

    assert_eq!(client_ip(STRANGER, &headers, &trusted), STRANGER, "a stranger's word");
    assert_eq!(client_ip(proxy, &headers, &[]), proxy, "nobody is trusted");
    assert_eq!(client_ip(proxy, &headers, &trusted), read(&headers, proxy, &trusted));
    // A trusted proxy adds its client to the last line, or as a line of its own: whatever that one wrote before,
    // it cannot be taken for somebody else.
    for headers in [added_to_the_last_line(&headers), added_as_a_line(&headers)] {
        assert_eq!(client_ip(proxy, &headers, &trusted), STRANGER);
    }
}

/// All lines as one list, from its end (RFC 9110 section 5.3).
fn read(headers: &HeaderMap, proxy: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let whole = String::from_utf8_lossy(&lines.join(&b","[..])).into_owned();
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

fn added_to_the_last_line(headers: &HeaderMap) -> HeaderMap {
    let mut lines: Vec<Vec<u8>> =
        headers.get_all(X_FORWARDED_FOR).iter().map(|l| l.as_bytes().to_vec()).collect();
    match lines.last_mut() {
        Some(last) => last.extend_from_slice(format!(", {STRANGER}").as_bytes()),
        None => lines.push(STRANGER.to_string().into_bytes()),
    }
    let values = lines.iter().map(|line| HeaderValue::from_bytes(line).unwrap());
    values.map(|value| (X_FORWARDED_FOR, value)).collect()
}

fn added_as_a_line(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.append(X_FORWARDED_FOR, HeaderValue::try_from(STRANGER.to_string()).unwrap());
    headers
}
