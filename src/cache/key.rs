//! What a stored response is found by.
//!
//! Scheme, authority and the target's bytes as the client sent them, before
//! any rewrite: two spellings that a server might tell apart never share an
//! entry. GET and HEAD share a key; nothing else is looked up (RFC 9111 §2).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::config::QueryKey;

thread_local! {
    /// Where a key's text is put together: it is allocated once, when its length is known.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What of a target (path and query) is in the key: see [`QueryKey`]. Parameters keep their order and
/// their bytes.
pub fn keyed_target<'a>(target: &'a str, query: &QueryKey) -> Cow<'a, str> {
    let is_kept = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        match query {
            QueryKey::All => true,
            QueryKey::Only(names) => names.iter().any(|pattern| pattern.matches(name)),
            QueryKey::Without(names) => !names.iter().any(|pattern| pattern.matches(name)),
        }
    };
    if *query == QueryKey::All {
        return Cow::Borrowed(target);
    }
    match target.split_once('?') {
        Some((path, query)) if !query.split('&').all(is_kept) => {
            let kept: Vec<&str> = query.split('&').filter(|pair| is_kept(pair)).collect();
            Cow::Owned(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
        }
        _ => Cow::Borrowed(target),
    }
}

/// What of an authority is in the key: lower case, without the scheme's own port (RFC 9110 §4.2.3).
pub fn keyed_authority<'a>(scheme: &str, authority: &'a str) -> Cow<'a, str> {
    let authority = without_default_port(scheme, authority);
    if authority.bytes().any(|b| b.is_ascii_uppercase()) {
        return Cow::Owned(authority.to_ascii_lowercase());
    }
    Cow::Borrowed(authority)
}

/// An address, or the beginning of one, as it stands in the keys of all upstreams. Scheme and authority are in lower
/// case.
pub(super) fn address_text(scheme: &str, authority: &str, target: &str) -> Vec<u8> {
    [scheme, "\0", without_default_port(scheme, authority), "\0", target].concat().into_bytes()
}

/// The primary cache key (RFC 9111 §2). Cheap to clone.
#[derive(Clone)]
pub struct Key {
    hash: u128,
    /// `owner NUL scheme NUL authority NUL target`. A NUL, because no field value holds one: an upstream's name may hold
    /// spaces, and so may what a trusted proxy takes for a scheme.
    text: Arc<[u8]>,
    /// Where the target begins in `text`.
    target_at: usize,
}

impl Key {
    /// The key of `scheme://authority/target`, answered by the upstream `owner`: the same address at two
    /// listeners may be two sites. Case of scheme and authority and a default port do not matter (RFC 9110
    /// §4.2.3); every byte of `target` (path and query) does.
    pub fn new(owner: &str, scheme: &str, authority: &str, target: &str) -> Self {
        let authority = without_default_port(scheme, authority);
        SCRATCH.with_borrow_mut(|text| {
            text.clear();
            for part in [owner, "\0", scheme, "\0", authority, "\0"] {
                text.extend_from_slice(part.as_bytes());
            }
            text[owner.len()..].make_ascii_lowercase();
            let target_at = text.len();
            // RFC 9110 §4.2.3: an empty path is "/".
            if !target.starts_with(['/', '*']) {
                text.push(b'/');
            }
            text.extend_from_slice(target.as_bytes());
            Self { hash: xxh3_128(text), text: text.as_slice().into(), target_at }
        })
    }

    /// The key of a reference found in `Location` or `Content-Location`, when it is absolute or
    /// begins with a slash and has this key's origin (RFC 9111 §4.4); others are `None`.
    pub fn same_origin(&self, reference: &str) -> Option<Key> {
        let reference = reference.split('#').next().unwrap_or_default();
        let (owner, scheme, authority) = self.origin()?;
        if reference.starts_with('/') && !reference.starts_with("//") {
            return Some(Key::new(owner, scheme, authority, reference));
        }
        let uri: http::Uri = reference.parse().ok()?;
        let target = uri.path_and_query().map_or("/", |t| t.as_str());
        let key = Key::new(owner, uri.scheme_str()?, uri.authority()?.as_str(), target);
        (key.origin() == Some((owner, scheme, authority))).then_some(key)
    }

    /// The key of another target of the same origin.
    pub fn with_target(&self, target: &str) -> Option<Key> {
        let (owner, scheme, authority) = self.origin()?;
        Some(Key::new(owner, scheme, authority, target))
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        std::str::from_utf8(&self.text[self.target_at..]).unwrap_or_default()
    }

    /// The upstream that answers it.
    pub fn owner(&self) -> &[u8] {
        &self.text[..self.owner_end()]
    }

    /// Upstream, scheme, host and port: the same for all keys of one origin that one upstream answers.
    pub fn origin_text(&self) -> &[u8] {
        &self.text[..self.target_at]
    }

    /// Scheme, host and port, and target, whichever upstream answers it.
    pub fn address(&self) -> &[u8] {
        self.text.get(self.owner_end() + 1..).unwrap_or_default()
    }

    /// Bytes of memory behind the key.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Sixty-four well mixed bits, for choosing a shard.
    pub(super) fn spread(&self) -> usize {
        // The upper half: the maps inside a shard use the lower one.
        (self.hash >> 64) as usize
    }

    fn owner_end(&self) -> usize {
        memchr::memchr(0, &self.text).unwrap_or(self.text.len())
    }

    fn origin(&self) -> Option<(&str, &str, &str)> {
        let origin = self.text.get(..self.target_at.checked_sub(1)?)?;
        let mut parts = std::str::from_utf8(origin).ok()?.rsplitn(3, '\0');
        let (authority, scheme, owner) = (parts.next()?, parts.next()?, parts.next()?);
        Some((owner, scheme, authority))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // The text too: xxh3 is fast, not collision resistant, and clients choose the input.
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash as u64);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", String::from_utf8_lossy(&self.text).replace('\0', " "))
    }
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let host = authority.strip_suffix(port).unwrap_or(authority);
    host.strip_suffix(':').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_origin_and_the_exact_bytes_of_the_target() {
        let key = Key::new("app", "http", "example.com", "/a?b=1");

        assert_eq!(key, Key::new("app", "HTTP", "EXAMPLE.com:80", "/a?b=1"));
        for other in [
            Key::new("app", "https", "example.com", "/a?b=1"),
            Key::new("app", "http", "example.com:8080", "/a?b=1"),
            Key::new("app", "http", "example.org", "/a?b=1"),
            Key::new("app", "http", "example.com", "/A?b=1"),
            Key::new("app", "http", "example.com", "/%61?b=1"),
            Key::new("app", "http", "example.com", "/a"),
        ] {
            assert_ne!(key, other);
        }
        assert_eq!(Key::new("app", "http", "h", ""), Key::new("app", "http", "h", "/"));
    }

    #[test]
    fn a_reference_has_a_key_only_in_the_same_origin() {
        let key = Key::new("app", "http", "example.com", "/a");
        let other = Key::new("app", "http", "example.com", "/b?c");

        assert_eq!(key.same_origin("/b?c"), Some(other.clone()));
        assert_eq!(key.same_origin("http://Example.com:80/b?c#d"), Some(other));
        assert_eq!(key.same_origin("http://example.org/b"), None);
        assert_eq!(key.same_origin("https://example.com/b"), None);
        assert_eq!(key.same_origin("//example.org/b"), None);
    }

    #[test]
    fn an_authority_of_the_key_has_one_spelling() {
        for (scheme, authority, expected) in [
            ("http", "example.com", "example.com"),
            ("http", "Example.COM:80", "example.com"),
            ("http", "example.com:", "example.com"),
            ("https", "example.com:80", "example.com:80"),
            ("https", "[::1]:443", "[::1]"),
            ("http", "example.com.", "example.com."),
        ] {
            assert_eq!(keyed_authority(scheme, authority), expected, "{scheme} {authority}");
            assert_eq!(Key::new("app", scheme, authority, "/"), Key::new("app", scheme, expected, "/"));
        }
    }

    #[test]
    fn one_address_answered_by_two_upstreams_is_two_keys() {
        let of = |owner| Key::new(owner, "http", "example.com", "/");

        assert_ne!(of("public"), of("internal"));
        let told = Key::new("app", "http x", "example.com", "/");
        assert_ne!(told, Key::new("app http", "x", "example.com", "/"), "a scheme that is none");
        assert_eq!(of("public").same_origin("/").as_ref(), Some(&of("public")));
    }

    #[test]
    fn a_query_keeps_what_the_operator_wants_in_the_key() {
        let pattern = |text: &str| crate::config::NamePattern {
            text: text.trim_end_matches('*').to_owned(),
            is_prefix: text.ends_with('*'),
        };
        let only = |names: &[&str]| QueryKey::Only(names.iter().map(|name| pattern(name)).collect());
        let without = |names: &[&str]| QueryKey::Without(names.iter().map(|name| pattern(name)).collect());
        for (target, query, expected) in [
            ("/a?b=1&utm_x=2&c", QueryKey::All, "/a?b=1&utm_x=2&c"),
            ("/a?b=1&utm_x=2&c", without(&["utm_*"]), "/a?b=1&c"),
            ("/a?utm_x=2", without(&["utm_*"]), "/a"),
            ("/a?utm=2", without(&["utm_*"]), "/a?utm=2"),
            ("/a?c&b=1&d=2", only(&["b", "c"]), "/a?c&b=1"),
            ("/a?b=1", only(&[]), "/a"),
            ("/a?", QueryKey::All, "/a?"),
            ("/a", only(&["b"]), "/a"),
        ] {
            assert_eq!(keyed_target(target, &query), expected, "{target}");
        }
    }
}
