//! Names that a response gives itself, so that it can be purged by them.

use crate::cache::directives::Members;
use crate::cache::directives::strings;
use crate::fields::Fields;

const SURROGATE_KEY: &str = "surrogate-key";
const CACHE_TAG: &str = "cache-tag";
const CACHE_GROUPS: &str = "cache-groups";
const CACHE_GROUP_INVALIDATION: &str = "cache-group-invalidation";

/// Names of one response that are kept, the first ones. RFC 9875 §2 asks for 32 groups at least.
const TAGS_MAX: usize = 128;

/// A longer name is not kept; RFC 9875 §2 asks for 32 characters at least.
const TAG_BYTES_MAX: usize = 256;

/// The names of a stored response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// `Surrogate-Key`, `Cache-Tag`: an operator's, for all sites.
    tags: Box<[Box<str>]>,
    /// `Cache-Groups`: the server's, within its origin (RFC 9875 §2).
    groups: Box<[Box<str>]>,
}

impl Tags {
    /// Reads `Surrogate-Key` (separated by spaces), `Cache-Tag` (by commas) and `Cache-Groups`.
    pub fn of(fields: &Fields) -> Self {
        let names = [SURROGATE_KEY, CACHE_TAG, CACHE_GROUPS];
        if !names.iter().any(|name| fields.has(*name)) {
            return Self::default();
        }
        let keys = fields.get_all(SURROGATE_KEY).flat_map(|line| line.split(|b| b.is_ascii_whitespace()));
        let tags = fields.get_all(CACHE_TAG).flat_map(Members::new);
        let text = |name: &[u8]| std::str::from_utf8(name).ok().map(Box::from);
        Self {
            tags: kept(keys.chain(tags).filter_map(text)),
            groups: kept(strings(fields, CACHE_GROUPS).into_iter().map(String::into_boxed_str)),
        }
    }

    /// What the response calls itself, in either way.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().chain(&*self.groups).map(|name| &**name)
    }

    /// The groups of its origin that the response is in.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|name| &**name)
    }

    /// Bytes of memory behind them.
    pub fn bytes(&self) -> usize {
        self.tags.iter().chain(&*self.groups).map(|tag| tag.len() + size_of::<Box<str>>()).sum()
    }
}

/// The groups that the answer to an unsafe method makes worthless (RFC 9875 §3).
pub fn invalidated_groups(fields: &Fields) -> Vec<String> {
    if !fields.has(CACHE_GROUP_INVALIDATION) {
        return Vec::new();
    }
    // Nothing is in a group whose name is not kept.
    let groups = strings(fields, CACHE_GROUP_INVALIDATION).into_iter();
    groups.filter(|name| is_kept(name)).take(TAGS_MAX).collect()
}

fn kept(names: impl Iterator<Item = Box<str>>) -> Box<[Box<str>]> {
    names.filter(|name| is_kept(name)).take(TAGS_MAX).collect()
}

fn is_kept(name: &str) -> bool {
    !name.is_empty() && name.len() <= TAG_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> Fields {
        fields.iter().copied().collect()
    }

    #[test]
    fn tags_are_read_as_each_field_separates_them() {
        let tags = Tags::of(&headers(&[
            ("surrogate-key", "a  b"),
            ("surrogate-key", "c"),
            ("cache-tag", "d e, f"),
            ("cache-groups", "\"g\", \"h i\";x=y, token"),
        ]));

        assert_eq!(tags.names().collect::<Vec<_>>(), ["a", "b", "c", "d e", "f", "g", "h i"]);
        assert_eq!(tags.groups().collect::<Vec<_>>(), ["g", "h i"]);
    }

    #[test]
    fn tags_are_bounded() {
        let many: String = (0..1000).map(|n| format!("t{n} ")).collect();
        let long = "l".repeat(TAG_BYTES_MAX + 1);
        let tags = Tags::of(&headers(&[("surrogate-key", &many), ("cache-tag", &long)]));

        assert_eq!(tags.tags.len(), TAGS_MAX);
        assert!(tags.names().all(|name| name != long));
        let groups = format!("\"{long}\", \"\", \"a\"");
        assert_eq!(invalidated_groups(&headers(&[("cache-group-invalidation", &groups)])), ["a"]);
    }

    #[test]
    fn a_broken_list_of_groups_is_empty() {
        assert_eq!(Tags::of(&headers(&[("cache-groups", "\"a\", \"")])), Tags::default());
        assert_eq!(
            invalidated_groups(&headers(&[("cache-group-invalidation", "\"a\", b, \"c\"")])),
            ["a", "c"]
        );
    }
}
