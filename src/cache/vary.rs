//! Which request fields chose a response (RFC 9111 §4.1).

use std::cell::RefCell;
use std::cmp::Ordering;

use http::HeaderName;
use http::header;

use crate::cache::directives::Members;
use crate::cache::status::CacheReason;
use crate::config::CacheKey;
use crate::fields;
use crate::fields::Fields;
use crate::fields::Known;

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

/// Bytes of one field that may choose: browsers keep no larger cookie.
const VALUE_BYTES_MAX: usize = 4096;

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

/// What a request says there.
enum Value {
    Absent,
    Is(Box<[u8]>),
    /// More than is compared: it is no stored one's value.
    TooLong,
}

/// What a request says in the fields that choose; each is read once, however many responses it is compared with.
pub struct Choosing<'r> {
    fields: &'r Fields,
    read: RefCell<Vec<(Source, Value)>>,
}

/// A field name in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(HeaderName);

impl Selection {
    /// Reads every `Vary` line; `*` anywhere, or a field that we rewrite, refuses the response. `key` adds
    /// to what is read.
    pub fn of(req: &Fields, res: &Fields, key: &CacheKey) -> Result<Self, CacheReason> {
        let mut sources: Vec<Source> =
            key.headers.iter().map(|name| Source::Header(Name(name.clone()))).collect();
        sources.extend(key.cookies.iter().map(|name| Source::Cookie(name.as_str().into())));
        let added = sources.len();
        for line in res.get_all(Known::Vary) {
            for member in Members::new(line) {
                // What is not a field name is treated like `*`: we cannot tell what it means.
                let name = HeaderName::from_bytes(member).map_err(|_| CacheReason::VaryAny)?;
                if name == "*" || REWRITTEN.contains(&name) || is_believed_of_some(&name) {
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
        let with_value = |source: Source| match source.value(req) {
            Value::Absent => Ok((source, None)),
            Value::Is(value) => Ok((source, Some(value))),
            Value::TooLong => Err(CacheReason::VaryTooLong),
        };
        Ok(Self { fields: sources.into_iter().map(with_value).collect::<Result<_, _>>()? })
    }

    /// True when a request that says this would have been answered the same.
    pub fn matches(&self, req: &Choosing<'_>) -> bool {
        self.fields.iter().all(|(source, stored)| req.has(source, stored.as_deref()))
    }

    /// True when all that the operator adds to the key has chosen: another route, or this one before a reload, may
    /// have had less in it.
    pub fn covers(&self, key: &CacheKey) -> bool {
        let has_cookie = |cookie: &String| {
            self.fields.iter().any(|(source, _)| matches!(source, Source::Cookie(own) if **own == **cookie))
        };
        key.headers.iter().all(|name| self.varies_on(name)) && key.cookies.iter().all(has_cookie)
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

/// Fields that a server gets from trusted proxies only: of a stranger's request it is not known what the server got. Not
/// those that the key holds.
fn is_believed_of_some(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded") && !matches!(name, "x-forwarded-host" | "x-forwarded-proto")
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Source::Header(Name(name)) => name.as_str(),
            Source::Cookie(name) => name,
        }
    }

    fn value(&self, req: &Fields) -> Value {
        match self {
            Source::Header(Name(name)) => normalised(req, name),
            Source::Cookie(name) => fields::cookie_bytes(req, name).map_or(Value::Absent, Value::of),
        }
    }
}

impl Value {
    fn of(bytes: Vec<u8>) -> Self {
        if bytes.len() > VALUE_BYTES_MAX { Value::TooLong } else { Value::Is(bytes.into()) }
    }
}

impl<'r> Choosing<'r> {
    /// What this request says.
    pub fn of(fields: &'r Fields) -> Self {
        Choosing { fields, read: RefCell::default() }
    }

    fn has(&self, source: &Source, stored: Option<&[u8]>) -> bool {
        if let Source::Header(Name(name)) = source {
            let mut lines = self.fields.get_all(name);
            match (lines.next(), lines.next(), stored) {
                (None, _, None) => return true,
                (None, _, Some(_)) | (Some(_), _, None) => return false,
                // Almost always: one line, the very bytes. No allocation.
                (Some(line), None, Some(stored)) if line == stored => return true,
                _ => {}
            }
        }
        let mut read = self.read.borrow_mut();
        let index = read.iter().position(|(known, _)| known == source).unwrap_or_else(|| {
            read.push((source.clone(), source.value(self.fields)));
            read.len() - 1
        });
        match &read[index].1 {
            Value::Absent => stored.is_none(),
            Value::Is(value) => stored == Some(value),
            Value::TooLong => false,
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
/// commas gone, which no server makes anything of outside quotes. Of the fields that are lists by their grammar
/// also empty members, case and order (RFC 9110 §12.5.3, §12.5.4: it is the weights that rank). In any other field
/// `https://a` and `https://a,` are two things, and a server may answer them differently.
fn normalised(fields: &Fields, name: &HeaderName) -> Value {
    let lines: Vec<&[u8]> = fields.get_all(name).collect();
    if lines.is_empty() {
        return Value::Absent;
    }
    if lines.iter().map(|line| line.len()).sum::<usize>() > VALUE_BYTES_MAX {
        return Value::TooLong;
    }
    if name == header::COOKIE {
        return Value::of(lines.join(&b"; "[..]));
    }
    if name == header::ACCEPT_LANGUAGE || name == header::ACCEPT_ENCODING {
        let mut members: Vec<&[u8]> = lines.into_iter().flat_map(Members::new).collect();
        members.sort_by_cached_key(|member| member.to_ascii_lowercase());
        let mut joined = members.join(&b", "[..]);
        joined.make_ascii_lowercase();
        return Value::Is(joined.into());
    }
    let members: Vec<&[u8]> = lines.into_iter().flat_map(members).map(<[u8]>::trim_ascii).collect();
    Value::Is(members.join(&b", "[..]).into())
}

/// What stands between the commas of a line, empty or not; those in quoted strings are text (RFC 9110 §5.6.4).
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.split(move |&b| {
        is_quoted ^= b == b'"' && !is_escaped;
        is_escaped = is_quoted && b == b'\\' && !is_escaped;
        b == b',' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(stored: &Selection, req: &Fields) -> bool {
        stored.matches(&Choosing::of(req))
    }

    fn of(req: &Fields, res: &Fields) -> Result<Selection, CacheReason> {
        Selection::of(req, res, &CacheKey::default())
    }

    fn headers(name: &'static str, lines: &[&str]) -> Fields {
        lines.iter().map(|line| (name, line)).collect()
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
            assert_eq!(matches(&stored, &headers("accept-language", lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_star_on_any_line_refuses() {
        for lines in [
            &["*"][..],
            &["a, *"],
            &["a", "*"],
            &["*, *"],
            &["a b"],
            &["a, X-Real-IP"],
            &["x-forwarded"],
            &["a", "X-Forwarded-Prefix"],
        ] {
            let refused = of(&Fields::new(), &headers("vary", lines));
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
        request.set(Known::Cookie, b"x=1; group=b");
        let stored = Selection::of(&request, &Fields::new(), &key).unwrap();

        assert!(matches(&stored, &request));
        request.set(Known::Cookie, b"x=2; group=b");
        assert!(matches(&stored, &request), "another cookie does not matter");
        request.set(Known::Cookie, b"group=c");
        assert!(!matches(&stored, &request));
        assert!(!matches(&stored, &Fields::new()));
    }

    #[test]
    fn what_a_server_may_tell_apart_is_told_apart() {
        let stored = of(&headers("origin", &["https://a, b"]), &headers("vary", &["origin"])).unwrap();
        for (lines, expected) in [
            (&["https://a, b"][..], true),
            (&["https://a,b"], true),
            (&["https://a", "b"], true),
            (&["https://a, b,"], false),
            (&["https://a, , b"], false),
            (&["https://A, b"], false),
        ] {
            assert_eq!(matches(&stored, &headers("origin", lines)), expected, "{lines:?}");
        }
        let quoted =
            of(&headers("origin", &[r#""a, \"b" ,"c\", d""#]), &headers("vary", &["origin"])).unwrap();
        for (line, expected) in [
            (r#""a, \"b" ,"c\", d""#, true),
            (r#""a, \"b", "c\", d""#, true),
            (r#""a,\"b" ,"c\", d""#, false),
            (r#""a, \"b" ,"c\",d""#, false),
        ] {
            assert_eq!(matches(&quoted, &headers("origin", &[line])), expected, "{line}");
        }
        let one = of(&headers("origin", &["https://a"]), &headers("vary", &["origin"])).unwrap();
        assert!(!matches(&one, &headers("origin", &["https://a,"])));
    }

    #[test]
    fn a_cookie_of_the_key_is_all_that_a_server_may_read_into_it() {
        let key = CacheKey { cookies: vec!["group".to_owned()], ..CacheKey::default() };
        let stored = Selection::of(&headers("cookie", &["group=vip"]), &Fields::new(), &key).unwrap();
        let none = Selection::of(&Fields::new(), &Fields::new(), &key).unwrap();
        for cookies in ["group=vip; group=guest", "group=\"vip\"", "group=", "group=vip; x=1; group=vip"] {
            assert!(!matches(&stored, &headers("cookie", &[cookies])), "{cookies}");
            assert!(!matches(&none, &headers("cookie", &[cookies])), "{cookies}");
        }
        let junk = Fields::from_iter([("cookie", b"group=\xff")]);
        assert!(!matches(&none, &junk), "what is no text is not nothing");
        assert!(matches(&stored, &headers("cookie", &["x=1; group=vip"])));
    }

    #[test]
    fn a_value_that_is_too_long_chooses_nothing() {
        let long = "a,".repeat(VALUE_BYTES_MAX);
        let vary = headers("vary", &["accept-encoding"]);
        assert_eq!(of(&headers("accept-encoding", &[&long]), &vary), Err(CacheReason::VaryTooLong));
        let stored = of(&headers("accept-encoding", &["a"]), &vary).unwrap();
        assert!(!matches(&stored, &headers("accept-encoding", &[&long])));
    }
}
