//! What an operator wants gone: by address, by what addresses begin with, by tag, or everything.

use std::fmt;

use crate::cache::entry::Entry;
use crate::cache::key::Key;

/// Selects stored responses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    /// Those of these keys.
    pub keys: Vec<Key>,
    /// Those whose address begins so.
    pub prefixes: Vec<Address>,
    /// Those that call themselves so, by `Surrogate-Key`, `Cache-Tag` or `Cache-Groups`.
    pub tags: Vec<String>,
    /// All of them.
    pub all: bool,
}

/// What becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// They are gone.
    Hard,
    /// They are stale from now on (seconds since 1970): validated before they are used, or served stale
    /// where that is allowed.
    Soft(u64),
    /// Each use is validated, whatever windows they or a client name (RFC 9111 §4.4): a server has said that they
    /// are out of date.
    Invalid,
}

/// An address, or the beginning of one: `http://host/path?query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `http` or `https`.
    pub scheme: String,
    /// Host, and port if it is not the scheme's own.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAddress(String);

impl Selector {
    /// True when every stored response has to be looked at to find those that are selected.
    pub fn must_walk(&self) -> bool {
        self.all || !self.prefixes.is_empty() || !self.tags.is_empty()
    }

    /// True for a stored response that is selected by something else than its key.
    pub fn wants(&self, key: &Key, entry: &Entry) -> bool {
        self.all
            || self.prefixes.iter().any(|prefix| key.begins_with(prefix))
            || self.tags.iter().any(|tag| entry.head.meta.tags.have(tag))
    }
}

impl std::str::FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let refused = || NoAddress(text.chars().take(200).collect());
        let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
        let scheme = scheme.to_ascii_lowercase();
        let (authority, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let is_sound = matches!(scheme.as_str(), "http" | "https")
            && !authority.is_empty()
            && !authority.contains(['?', '#', '@', ' '])
            && !target.contains(['#', ' ']);
        let authority = authority.to_ascii_lowercase();
        if is_sound { Ok(Address { scheme, authority, target: target.to_owned() }) } else { Err(refused()) }
    }
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address such as \"https://www.example.com/path\"", self.0)
    }
}

impl std::error::Error for NoAddress {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::entry;

    #[test]
    fn an_address_is_read_or_refused() {
        let read = |text: &str| text.parse::<Address>().ok().map(|a| (a.scheme, a.authority, a.target));
        let parts = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));

        assert_eq!(read("HTTPS://Example.com/A?b=/"), parts("https", "example.com", "/A?b=/"));
        assert_eq!(read("http://[::1]:80"), parts("http", "[::1]:80", "/"));
        for bad in [
            "/path",
            "example.com/a",
            "ftp://a/",
            "http:///a",
            "http://a?b",
            "http://u@h/",
            "http://a/#b",
            "",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn responses_are_selected_by_how_their_address_begins_and_by_tag() {
        let tagged = entry(&[("cache-control", "max-age=60"), ("cache-tag", "news, home")], "a");
        let key = Key::new("up stream", "https", "www.example.com:443", "/blog/a?b");
        let wants = |prefixes: &[&str], tags: &[&str]| {
            let selector = Selector {
                prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(),
                tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
                ..Selector::default()
            };
            selector.wants(&key, &tagged)
        };

        for prefix in [
            "https://www.example.com",
            "https://www.example.com:443/blog/",
            "https://WWW.example.com/blog/a?b",
        ] {
            assert!(wants(&[prefix], &[]), "{prefix}");
        }
        for prefix in [
            "http://www.example.com/",
            "https://www.example.co",
            "https://example.com/",
            "https://www.example.com/Blog",
        ] {
            assert!(!wants(&[prefix], &[]), "{prefix}");
        }
        assert!(wants(&["http://other/"], &["home"]));
        assert!(!wants(&[], &["hom"]) && !wants(&[], &[]));
    }
}
