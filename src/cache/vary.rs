//! Which request fields chose a response (RFC 9111 §4.1).

use std::cmp::Ordering;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

use crate::cache::directives::Members;
use crate::cache::status::CacheReason;
use crate::config::CacheKey;
use crate::fields;

/// Fields that one response may vary on. Sixteen: real ones name one to four, and each is compared
/// at every look-up.
const FIELDS_MAX: usize = 16;

/// Fields that we write anew for the server, of more than the key holds: what the client sent, or did not
/// send, in their place tells nothing of what the server got.
const REWRITTEN: [HeaderName; 6] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

/// What a field costs beyond its bytes: its handles, and the one behind an unusual name.
const FIELD_OVERHEAD: usize = 96;

/// The fields named by `Vary`, and what the operator adds to the key, each with the value the request
/// had, normalised; in order of name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    fields: Box<[Field]>,
}

/// A part of a request, and its normalised value if the request had it.
type Field = (Source, Option<Box<[u8]>>);

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Header(Name),
    Cookie(Box<str>),
}

/// A field name in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(HeaderName);

impl Selection {
    /// Reads every `Vary` line; `*` anywhere, or a field that we rewrite, refuses the response. `key` adds
    /// to what is read.
    pub fn of(req: &HeaderMap, res: &HeaderMap, key: &CacheKey) -> Result<Self, CacheReason> {
        let mut sources: Vec<Source> =
            key.headers.iter().map(|name| Source::Header(Name(name.clone()))).collect();
        sources.extend(key.cookies.iter().map(|name| Source::Cookie(name.as_str().into())));
        let added = sources.len();
        for line in res.get_all(header::VARY) {
            for member in Members::new(line.as_bytes()) {
                // What is not a field name is treated like `*`: we cannot tell what it means.
                let name = HeaderName::from_bytes(member).map_err(|_| CacheReason::VaryAny)?;
                if name == "*" || REWRITTEN.contains(&name) {
                    return Err(CacheReason::VaryAny);
                }
                sources.push(Source::Header(Name(name)));
            }
        }
        sources.sort_unstable();
        sources.dedup();
        if sources.len() > FIELDS_MAX + added {
            return Err(CacheReason::VaryTooLong);
        }
        let with_value = |source: Source| {
            let value = source.value(req);
            (source, value)
        };
        Ok(Self { fields: sources.into_iter().map(with_value).collect() })
    }

    /// True when a request with these fields would have been answered the same.
    pub fn matches(&self, req: &HeaderMap) -> bool {
        self.fields.iter().all(|(source, stored)| source.has(req, stored.as_deref()))
    }

    /// True when this field chooses.
    pub fn varies_on(&self, name: &HeaderName) -> bool {
        self.fields.iter().any(|(source, _)| matches!(source, Source::Header(Name(own)) if own == name))
    }

    /// Bytes of memory behind it.
    pub fn bytes(&self) -> usize {
        let bytes = |(source, value): &Field| source.name().len() + value.as_ref().map_or(0, |v| v.len());
        self.fields.iter().map(|field| FIELD_OVERHEAD + bytes(field)).sum()
    }
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Source::Header(Name(name)) => name.as_str(),
            Source::Cookie(name) => name,
        }
    }

    fn value(&self, req: &HeaderMap) -> Option<Box<[u8]>> {
        match self {
            Source::Header(Name(name)) => normalised(req, name),
            Source::Cookie(name) => fields::cookie(req, name).map(|value| value.as_bytes().into()),
        }
    }

    fn has(&self, req: &HeaderMap, stored: Option<&[u8]>) -> bool {
        let Source::Header(Name(name)) = self else { return self.value(req).as_deref() == stored };
        let mut lines = req.get_all(name).iter();
        match (lines.next(), lines.next(), stored) {
            (None, _, None) => true,
            (None, _, Some(_)) | (Some(_), _, None) => false,
            // Almost always: one line, the very bytes. No allocation.
            (Some(line), None, Some(stored)) if line.as_bytes() == stored => true,
            _ => self.value(req).as_deref() == stored,
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

/// Cookie lines as the server gets them (RFC 9113 §8.2.3). Of other fields: lines joined, white space around
/// members gone; case and order too where they never matter (RFC 9110 §12.5.3, §12.5.4: it is the weights
/// that rank). Elsewhere members are not sorted.
fn normalised(headers: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    if name == header::COOKIE {
        return Some(lines.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]).into());
    }
    let mut members: Vec<&[u8]> = lines.flat_map(|line| Members::new(line.as_bytes())).collect();
    let is_ranked = name == header::ACCEPT_LANGUAGE || name == header::ACCEPT_ENCODING;
    if is_ranked {
        members.sort_by_cached_key(|member| member.to_ascii_lowercase());
    }
    let mut joined = members.join(&b", "[..]);
    if is_ranked {
        joined.make_ascii_lowercase();
    }
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(req: &HeaderMap, res: &HeaderMap) -> Result<Selection, CacheReason> {
        Selection::of(req, res, &CacheKey::default())
    }

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(name, line.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_selection_matches_the_same_members_however_they_are_written() {
        let vary = headers("vary", &["Accept-Language", "accept-language, x-b"]);
        let stored = of(&headers("accept-language", &["en, de;q=0.5"]), &vary).unwrap();

        for (lines, expected) in [
            (&["en, de;q=0.5"][..], true),
            (&["EN,  de;q=0.5"], true),
            (&["en", "de;q=0.5"], true),
            (&["de;q=0.5, en"], true),
            (&["de, en;q=0.5"], false),
            (&["en"], false),
            (&[], false),
        ] {
            assert_eq!(stored.matches(&headers("accept-language", lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_star_on_any_line_refuses() {
        for lines in [&["*"][..], &["a, *"], &["a", "*"], &["*, *"], &["a b"], &["a, X-Real-IP"]] {
            let refused = of(&HeaderMap::new(), &headers("vary", lines));
            assert_eq!(refused, Err(CacheReason::VaryAny), "{lines:?}");
        }
    }

    #[test]
    fn what_an_operator_adds_to_the_key_selects_too() {
        let key = CacheKey {
            headers: vec![HeaderName::from_static("x-tenant")],
            cookies: vec!["group".to_owned()],
            ..CacheKey::default()
        };
        let mut request = headers("x-tenant", &["a"]);
        request.insert("cookie", "x=1; group=b".parse().unwrap());
        let stored = Selection::of(&request, &HeaderMap::new(), &key).unwrap();

        assert!(stored.matches(&request));
        request.insert("cookie", "x=2; group=b".parse().unwrap());
        assert!(stored.matches(&request), "another cookie does not matter");
        request.insert("cookie", "group=c".parse().unwrap());
        assert!(!stored.matches(&request));
        assert!(!stored.matches(&HeaderMap::new()));
    }
}
