//! What of a request is hashed, and how: xxh3, the same on every machine and in every version, so that several proxies
//! agree.

use std::hash::Hasher;
use std::net::IpAddr;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::config::HashKey;
use crate::fields;
use crate::upstream::side::Asks;

/// The key of a request; `None` when it does not have what is hashed.
pub fn of(what: &HashKey, asks: &Asks<'_>) -> Option<u64> {
    match what {
        HashKey::ClientIp => Some(match asks.client {
            IpAddr::V4(ip) => xxh3_64(&ip.octets()),
            IpAddr::V6(ip) => xxh3_64(&ip.octets()),
        }),
        HashKey::Path => Some(xxh3_64(asks.path.as_bytes())),
        HashKey::Host => Some(xxh3_64(host_of(asks.authority).to_ascii_lowercase().as_bytes())),
        HashKey::Header(name) => {
            let mut hash = Xxh3Default::new();
            let mut values = asks.fields.get_all(name.as_str()).peekable();
            values.peek()?;
            values.for_each(|value| hash.write(value));
            Some(hash.finish())
        }
        HashKey::Cookie(name) => fields::cookie(asks.fields, name).map(|value| xxh3_64(value.as_bytes())),
        HashKey::Query(name) => parameter(asks.query, name).map(|value| xxh3_64(value.as_bytes())),
    }
}

/// The key of a client's network: its IPv4 address, or its IPv6 /64, of which one client has 2^64 addresses.
pub fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => xxh3_64(&ip.octets()),
        IpAddr::V6(ip) => xxh3_64(&ip.octets()[..8]),
    }
}

/// Another number that is as evenly spread as `key`, and says nothing of it.
pub fn mix(key: u64) -> u64 {
    xxh3_64(&key.to_le_bytes())
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(
        what: HashKey,
        client: &str,
        target: (&str, &str),
        fields: &[(&'static str, &str)],
    ) -> Option<u64> {
        let fields = fields.iter().copied().collect();
        let client = client.parse().unwrap();
        let (path, query) = target;
        of(&what, &Asks { client, path, query, authority: "WWW.example.com:80", fields: &fields })
    }

    #[test]
    fn each_kind_of_key_hashes_its_own_and_is_none_without_it() {
        let of = |what| {
            key_of(what, "10.0.0.1", ("/a", "x=1&user=7&user=8"), &[("x-t", "v"), ("cookie", "s=abc")])
        };
        let hash = |text: &str| Some(xxh3_64(text.as_bytes()));
        assert_eq!(of(HashKey::Path), hash("/a"));
        assert_eq!(of(HashKey::Host), hash("www.example.com"));
        assert_eq!(of(HashKey::Header("x-t".into())), hash("v"));
        assert_eq!(of(HashKey::Header("x-u".into())), None);
        assert_eq!(of(HashKey::Cookie("s".into())), hash("abc"));
        assert_eq!(of(HashKey::Cookie("t".into())), None);
        assert_eq!(of(HashKey::Query("user".into())), hash("7"));
        assert_eq!(of(HashKey::Query("use".into())), None);
        assert_eq!(of(HashKey::ClientIp), Some(xxh3_64(&[10, 0, 0, 1])));
    }

    #[test]
    fn a_client_s_network_is_its_address_or_its_64() {
        let of = |ip: &str| network(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
