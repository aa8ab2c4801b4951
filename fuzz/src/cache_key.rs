//! Two requests share a key exactly when they ask for the same thing of the same site.
//!
//! The lines: scheme, authority and target of one request, the same of another, a reference as in `Location`. A first byte
//! says which upstream answers each.

use tidegate::cache::purge::Address;
use tidegate::cache::{Key, keyed_authority, keyed_target};
use tidegate::config::{NamePattern, QueryKey};
use tidegate::filter::authority::Authority;

/// An upstream's name may be any text: also one that looks like the rest of a key.
const OWNERS: [&str; 4] = ["app", "app http", "app http a", "App"];

struct Asked<'a> {
    owner: &'static str,
    scheme: &'a str,
    authority: &'a str,
    target: &'a str,
}

pub fn holds(data: &[u8]) {
    let Some((&owners, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut lines = text.split('\n');
    let Some(one) = Asked::read(owners, &mut lines) else { return };
    is_found(&one);
    is_narrowed(one.target);
    if let Some(other) = Asked::read(owners >> 2, &mut lines) {
        assert_eq!(one.key() == other.key(), one.parts() == other.parts());
        let is_same_origin = one.key().origin_text() == other.key().origin_text();
        assert_eq!(is_same_origin, one.parts()[..3] == other.parts()[..3]);
        assert_eq!(one.key().owner() == other.key().owner(), one.parts()[0] == other.parts()[0]);
        names_its_own(&one, lines.next().unwrap_or_default());
    }
}

impl<'a> Asked<'a> {
    /// Of what the guard lets pass.
    fn read(owner: u8, lines: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let (scheme, authority, target) = (lines.next()?, lines.next()?, lines.next()?);
        let is_target = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        // A trusted proxy says what the scheme is, and says it in a field.
        let is_asked = scheme.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
            && Authority::parse(authority).is_some()
            && is_target
            && (target.starts_with(['/', '?']) || target == "*" || target.is_empty());
        is_asked.then_some(Asked { owner: OWNERS[usize::from(owner & 3)], scheme, authority, target })
    }

    fn key(&self) -> Key {
        Key::new(self.owner, self.scheme, self.authority, self.target)
    }

    /// What makes it what it is (RFC 9110 section 4.2.3).
    fn parts(&self) -> [String; 4] {
        let scheme = self.scheme.to_ascii_lowercase();
        let authority = Authority::parse(self.authority).expect("it was looked at");
        let default = if scheme == "https" { "443" } else { "80" };
        let port = self.authority[authority.name.len()..].trim_start_matches(':');
        let port = if port == default { "" } else { port };
        let slash = if self.target.starts_with(['/', '*']) { "" } else { "/" };
        let name = authority.name.to_ascii_lowercase();
        [self.owner.to_owned(), scheme, format!("{name} {port}"), format!("{slash}{}", self.target)]
    }

    fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.target)
    }
}

/// By its own address, however that is spelled; and by no other site's.
fn is_found(asked: &Asked<'_>) {
    let key = asked.key();
    let authority = keyed_authority(&asked.scheme.to_ascii_lowercase(), asked.authority);
    assert_eq!(Key::new(asked.owner, asked.scheme, &authority, asked.target), key);
    let has_address = ["http", "https"].contains(&asked.scheme.to_ascii_lowercase().as_str());
    if has_address && asked.target.starts_with('/') {
        let address: Address = asked.url().parse().expect("an address");
        let begins_with = |address: &Address| key.address().starts_with(&address.text());
        assert!(begins_with(&address), "{}", asked.url());
        let other = Address { authority: format!("x{}", address.authority), ..address.clone() };
        assert!(!begins_with(&other));
        let longer = Address { target: format!("{}x", address.target), ..address };
        assert!(!begins_with(&longer));
    }
}

/// What is not in the key is gone from the target, and everything else is as it was.
fn is_narrowed(target: &str) {
    let pattern = |text: &str, is_prefix| NamePattern { text: text.to_owned(), is_prefix };
    let patterns = || vec![pattern("utm_", true), pattern("a", false)];
    let is_named = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        name == "a" || name.starts_with("utm_")
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    for (rules, kept) in [
        (QueryKey::All, query.split('&').collect::<Vec<_>>()),
        (QueryKey::Only(patterns()), query.split('&').filter(|pair| is_named(pair)).collect()),
        (QueryKey::Without(patterns()), query.split('&').filter(|pair| !is_named(pair)).collect()),
    ] {
        let narrowed = keyed_target(target, &rules);
        let (narrow_path, narrow_query) = narrowed.split_once('?').unwrap_or((&narrowed, ""));
        assert_eq!((narrow_path, narrow_query), (path, kept.join("&").as_str()), "{rules:?}");
        assert_eq!(keyed_target(&narrowed, &rules), narrowed);
    }
}

/// RFC 9111 section 4.4: a response may speak of its own site alone.
fn names_its_own(asked: &Asked<'_>, reference: &str) {
    let key = asked.key();
    if let Some(other) = key.same_origin(reference) {
        assert!(other.origin_text() == key.origin_text(), "{reference}");
    }
    if asked.target.starts_with('/') && !asked.target.starts_with("//") {
        assert_eq!(key.same_origin(asked.target), Some(key));
    }
}
