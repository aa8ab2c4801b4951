//! Cookies that name a server without telling which.
//!
//! Stickiness is a layer over any strategy: the cookie names a server, and when that one may not serve the
//! strategy picks and the cookie is written anew. A value is an authenticated digest of the server's name, so
//! that nobody learns an address from it or makes one up; it is the same on every proxy with the same secret, and after
//! a reload or a change in the order of servers.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::InvalidHeaderValue;

/// Bytes of the digest that go into the cookie. 16: guessing one in 2^128 is hopeless, and the cookie stays short.
const DIGEST_BYTES: usize = 16;

/// The secret of one upstream's cookies.
pub struct StickyKey {
    key: hmac::Key,
}

impl std::fmt::Debug for StickyKey {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StickyKey")
    }
}

impl StickyKey {
    /// From at least 32 bytes, which the configuration has seen to.
    pub fn new(secret: &[u8]) -> Self {
        StickyKey { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The value that names `server` of `upstream`. The upstream is part of it, so that one secret file may serve several.
    pub fn cookie_value(&self, upstream: &str, server: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(upstream.as_bytes());
        // No name holds a NUL: "a" + "bc" is not "ab" + "c".
        context.update(b"\0");
        context.update(server.as_bytes());
        let digest = context.sign();
        URL_SAFE_NO_PAD.encode(&digest.as_ref()[..DIGEST_BYTES])
    }
}

/// The values of an upstream's servers, made once for each set of them.
#[derive(Debug, Default)]
pub struct StickyTable {
    values: Vec<String>,
    /// A look-up compares whole values only when their seeded hashes agree, so its time tells nothing about them.
    servers: HashMap<String, usize, foldhash::fast::RandomState>,
}

impl StickyTable {
    /// For `servers` (their names) in the order of the pool; of two with one name the first counts. The first key signs,
    /// all are believed.
    pub fn new<'a>(keys: &[StickyKey], upstream: &str, servers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = StickyTable::default();
        for (index, server) in servers.into_iter().enumerate() {
            for (number, key) in keys.iter().enumerate() {
                let value = key.cookie_value(upstream, server);
                table.servers.entry(value.clone()).or_insert(index);
                if number == 0 {
                    table.values.push(value);
                }
            }
        }
        table
    }

    /// What a cookie for `server` says.
    pub fn value_of(&self, server: usize) -> Option<&str> {
        self.values.get(server).map(String::as_str)
    }

    /// Which server a cookie names; `None` for values that are forged, or of servers that are gone.
    pub fn server_of(&self, value: &str) -> Option<usize> {
        self.servers.get(value).copied()
    }
}

/// Whether a cookie is for HTTPS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// The client came over TLS.
    Yes,
    /// In the clear, where a browser would drop a `Secure` cookie.
    No,
}

/// A `Set-Cookie` (RFC 6265 §4.1): for the whole site, out of reach of scripts, not sent along by other sites' forms.
/// Without `max_age` it lasts until the browser closes. Fails when `name` is no visible ASCII.
pub fn set_cookie(
    name: &str,
    value: &str,
    secure: Secure,
    max_age: Option<Duration>,
) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
    if secure == Secure::Yes {
        cookie.push_str("; Secure");
    }
    if let Some(age) = max_age {
        cookie.push_str(&format!("; Max-Age={}", age.as_secs()));
    }
    HeaderValue::try_from(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = &[7; 32];

    #[test]
    fn a_cookie_names_its_server_and_only_with_the_right_secret_and_upstream() {
        let key = StickyKey::new(SECRET);
        let servers = ["10.0.0.1:80", "10.0.0.2:80"];
        let keys = [key];
        let table = StickyTable::new(&keys, "app", servers);
        let turned = StickyTable::new(&keys, "app", servers.into_iter().rev());

        let value = table.value_of(1).unwrap();

        assert_eq!(value, keys[0].cookie_value("app", servers[1]));
        assert_eq!(table.server_of(value), Some(1));
        assert_eq!(turned.server_of(value), Some(0));
        assert_eq!(StickyTable::new(&keys, "api", servers).server_of(value), None);
        assert_eq!(StickyTable::new(&[StickyKey::new(&[8; 32])], "app", servers).server_of(value), None);
        for forged in ["", "10.0.0.2:80", &value[1..], &value.to_uppercase()] {
            assert_eq!(table.server_of(forged), None, "{forged}");
        }
    }

    #[test]
    fn all_keys_are_believed_and_the_first_one_signs() {
        let (old, new) = (|| StickyKey::new(SECRET), || StickyKey::new(&[9; 32]));
        let before = StickyTable::new(&[old()], "app", ["a", "b"]);
        let during = StickyTable::new(&[new(), old()], "app", ["a", "b"]);
        let after = StickyTable::new(&[new()], "app", ["a", "b"]);

        let (old, new) = (before.value_of(1).unwrap(), during.value_of(1).unwrap());
        assert_eq!((during.server_of(old), during.server_of(new)), (Some(1), Some(1)));
        assert_eq!((after.server_of(old), after.server_of(new)), (None, Some(1)));
    }

    #[test]
    fn a_cookie_shows_nothing_of_the_address_and_needs_no_quotes() {
        let value = StickyKey::new(SECRET).cookie_value("app", "10.0.0.1:80");
        assert_eq!(value.len(), 22);
        assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn names_cannot_be_shifted_between_upstream_and_server() {
        let key = StickyKey::new(SECRET);
        assert_ne!(key.cookie_value("a", "bc"), key.cookie_value("ab", "c"));
    }

    #[test]
    fn set_cookie_says_how_it_may_be_used() {
        assert_eq!(set_cookie("t", "v", Secure::No, None).unwrap(), "t=v; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(
            set_cookie("t", "v", Secure::Yes, Some(Duration::from_secs(60))).unwrap(),
            "t=v; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60"
        );
        assert!(set_cookie("t\n", "v", Secure::No, None).is_err());
    }
}
