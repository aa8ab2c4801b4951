//! What an operator wants gone: by address, by what addresses begin with, by tag, or everything.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::cache::entry::Entry;
use crate::cache::key::Key;
use crate::cache::key::address_text;
use crate::cache::tags::Tags;

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

/// A selector of more than keys, in the form in which a response is soon held against it, and what it has found.
#[derive(Debug)]
pub(super) struct Purge {
    /// What becomes of what it selects.
    pub(super) how: How,
    is_all: bool,
    tags: HashSet<Box<str>>,
    /// In order, and none of them begins with another.
    prefixes: Vec<Box<[u8]>>,
    found: AtomicU64,
}

/// What a name costs beyond its bytes, in a set or a list.
const NAME_OVERHEAD: usize = 64;

impl How {
    /// What becomes of a response; `None` when it is gone.
    pub(super) fn apply(self, entry: &Entry) -> Option<Entry> {
        match self {
            Self::Hard => None,
            Self::Soft(now) => Some(entry.stale_from(now)),
        }
    }
}

impl Selector {
    /// True when it selects by more than keys.
    pub(super) fn is_wide(&self) -> bool {
        self.all || !self.prefixes.is_empty() || !self.tags.is_empty()
    }
}

impl Purge {
    /// Of what `selector` selects by something else than its key.
    pub(super) fn new(selector: &Selector, how: How) -> Self {
        let mut prefixes: Vec<_> = selector.prefixes.iter().map(Address::text).collect();
        prefixes.sort_unstable();
        // One that begins with another comes right behind it, and selects nothing that the other does not.
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier));
        let tags = selector.tags.iter().map(|tag| tag.as_str().into()).collect();
        Self { how, is_all: selector.all, tags, prefixes, found: AtomicU64::new(0) }
    }

    /// True for a response that it selects.
    pub(super) fn wants(&self, key: &Key, tags: &Tags) -> bool {
        self.is_all
            || self.wants_address(key.address())
            || !self.tags.is_empty() && tags.names().any(|tag| self.tags.contains(tag))
    }

    /// True when it selects a response of this key, or may do so because of what the response says of itself.
    pub(super) fn may_want(&self, key: &Key) -> bool {
        self.is_all || !self.tags.is_empty() || self.wants_address(key.address())
    }

    /// Counts a response that it has found.
    pub(super) fn count(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    /// Responses that it has found.
    pub(super) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// Bytes of memory behind it.
    pub(super) fn bytes(&self) -> usize {
        let tags = self.tags.iter().map(|tag| NAME_OVERHEAD + tag.len());
        size_of::<Self>()
            + tags.chain(self.prefixes.iter().map(|prefix| NAME_OVERHEAD + prefix.len())).sum::<usize>()
    }

    fn wants_address(&self, address: &[u8]) -> bool {
        // Whatever stands between a prefix and what begins with it begins with the prefix too, and is not here.
        let behind = self.prefixes.partition_point(|prefix| **prefix <= *address);
        behind.checked_sub(1).is_some_and(|at| address.starts_with(&self.prefixes[at]))
    }
}

impl Address {
    /// As it stands in a key.
    pub fn text(&self) -> Box<[u8]> {
        address_text(&self.scheme, &self.authority, &self.target).into()
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
            Purge::new(&selector, How::Hard).wants(&key, &tagged.head.meta.tags)
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

    proptest::proptest! {
        #[test]
        fn of_many_prefixes_any_that_an_address_begins_with_selects_it(
            prefixes in proptest::collection::vec("/[ab]{0,4}", 0..8),
            target in "/[ab]{0,6}",
        ) {
            let address = |target: &String| format!("http://h{target}").parse::<Address>().unwrap();
            let selector =
                Selector { prefixes: prefixes.iter().map(address).collect(), ..Selector::default() };
            let key = Key::new("app", "http", "h", &target);

            let wanted = Purge::new(&selector, How::Hard).wants(&key, &Tags::default());

            proptest::prop_assert_eq!(wanted, prefixes.iter().any(|prefix| target.starts_with(prefix)));
        }
    }
}
