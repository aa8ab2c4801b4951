//! Which request fields chose a response (RFC 9111 §4.1).

use http::HeaderMap;
use http::HeaderName;
use http::header;

use crate::cache::directives::Members;
use crate::cache::status::CacheReason;

/// Fields that one response may vary on. Sixteen: real ones name one to four, and each is compared
/// at every look-up.
const FIELDS_MAX: usize = 16;

/// What a field costs beyond its bytes: its handles, and the one behind an unusual name.
const FIELD_OVERHEAD: usize = 96;

/// The fields named by `Vary`, each with the value the request had, normalised; in order of name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    fields: Box<[Field]>,
}

/// A name, and the normalised value if the request had one.
type Field = (HeaderName, Option<Box<[u8]>>);

impl Selection {
    /// Reads every `Vary` line; `*` anywhere refuses the response.
    pub fn of(req: &HeaderMap, res: &HeaderMap) -> Result<Self, CacheReason> {
        let mut names: Vec<HeaderName> = Vec::new();
        for line in res.get_all(header::VARY) {
            for member in Members::new(line.as_bytes()) {
                // What is not a field name is treated like `*`: we cannot tell what it means.
                let name = HeaderName::from_bytes(member).map_err(|_| CacheReason::VaryAny)?;
                if name == "*" {
                    return Err(CacheReason::VaryAny);
                }
                names.push(name);
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.len() > FIELDS_MAX {
            return Err(CacheReason::VaryTooLong);
        }
        let with_value = |name: HeaderName| {
            let value = normalised(req, &name);
            (name, value)
        };
        Ok(Self { fields: names.into_iter().map(with_value).collect() })
    }

    /// True when a request with these fields would have been answered the same.
    pub fn matches(&self, req: &HeaderMap) -> bool {
        self.fields.iter().all(|(name, stored)| {
            let mut lines = req.get_all(name).iter();
            match (lines.next(), lines.next(), stored) {
                (None, _, None) => true,
                (None, _, Some(_)) | (Some(_), _, None) => false,
                // Almost always: one line, the very bytes. No allocation.
                (Some(line), None, Some(stored)) if line.as_bytes() == &**stored => true,
                _ => normalised(req, name) == *stored,
            }
        })
    }

    /// Bytes of memory behind it.
    pub fn bytes(&self) -> usize {
        let bytes = |(name, value): &Field| name.as_str().len() + value.as_ref().map_or(0, |v| v.len());
        self.fields.iter().map(|field| FIELD_OVERHEAD + bytes(field)).sum()
    }
}

/// Lines joined, white space around members gone; case too where it never matters (RFC 9110
/// §12.5.3, §12.5.4). Members are not sorted: order may mean priority.
fn normalised(headers: &HeaderMap, name: &HeaderName) -> Option<Box<[u8]>> {
    let mut joined = Vec::new();
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    for member in lines.flat_map(|line| Members::new(line.as_bytes())) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(member);
    }
    if name == header::ACCEPT_LANGUAGE || name == header::ACCEPT_ENCODING {
        joined.make_ascii_lowercase();
    }
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let stored = Selection::of(&headers("accept-language", &["en, de;q=0.5"]), &vary).unwrap();

        for (lines, expected) in [
            (&["en, de;q=0.5"][..], true),
            (&["EN,  de;q=0.5"], true),
            (&["en", "de;q=0.5"], true),
            (&["de;q=0.5, en"], false),
            (&["en"], false),
            (&[], false),
        ] {
            assert_eq!(stored.matches(&headers("accept-language", lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_star_on_any_line_refuses() {
        for lines in [&["*"][..], &["a, *"], &["a", "*"], &["*, *"], &["a b"]] {
            let refused = Selection::of(&HeaderMap::new(), &headers("vary", lines));
            assert_eq!(refused, Err(CacheReason::VaryAny), "{lines:?}");
        }
    }
}
