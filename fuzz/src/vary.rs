//! A response that varies on a field never answers a request that says something else there.
//!
//! The first line is `Vary`; then `name: value` are the fields of the request it was made for, and with a `>` before them
//! those of another one.

use http::HeaderName;
use tidegate::cache::{Choosing, Selection};
use tidegate::config::CacheKey;
use tidegate::fields::Fields;

use super::head;

pub fn holds(data: &[u8]) {
    let (vary, rest) = head::first_line(data);
    let (theirs, ours): (Vec<&[u8]>, Vec<&[u8]>) =
        rest.split(|&b| b == b'\n').partition(|line| line.starts_with(b">"));
    let theirs: Vec<&[u8]> = theirs.into_iter().map(|line| &line[1..]).collect();
    let (ours, theirs) = (head::fields(&ours.join(&b'\n')), head::fields(&theirs.join(&b'\n')));
    let vary = Fields::from_iter(head::value(vary).map(|value| ("vary", value)));
    let key = CacheKey {
        headers: vec![HeaderName::from_static("x-tenant")],
        cookies: vec!["group".to_owned()],
        ..CacheKey::default()
    };
    let Ok(stored) = Selection::of(&ours, &vary, &key) else { return };

    assert!(stored.matches(&Choosing::of(&ours)), "it answers the request that it was made for");
    let names = names(&vary);
    let is_same = names.iter().all(|name| same(&ours, &theirs, name));
    let has_same_bytes = names.iter().all(|name| head::all(&ours, name) == head::all(&theirs, name));
    let has_same_group = cookies(&ours, "group") == cookies(&theirs, "group");
    let matches = stored.matches(&Choosing::of(&theirs));
    assert!(!matches || is_same && has_same_group, "{names:?}");
    assert!(matches || !(has_same_bytes && has_same_group), "{names:?}");
}

fn names(vary: &Fields) -> Vec<String> {
    let mut names = vec!["x-tenant".to_owned()];
    for element in head::elements(vary, "vary") {
        names.push(String::from_utf8(element).expect("a field name"));
    }
    names
}

/// Whether no server of the grammar reads two things there.
fn same(one: &Fields, other: &Fields, name: &str) -> bool {
    let (one, other) = (head::all(one, name), head::all(other, name));
    one.is_empty() == other.is_empty() && meaning(&one, name) == meaning(&other, name)
}

fn meaning(lines: &[&[u8]], name: &str) -> Vec<Vec<u8>> {
    if name == "cookie" {
        return vec![lines.join(&b"; "[..])];
    }
    let elements = lines.iter().flat_map(|line| line.split(|&b| b == b',')).map(<[u8]>::trim_ascii);
    if name == "accept-language" || name == "accept-encoding" {
        // Quotes have no meaning here, but the members of lists are told apart with them.
        let elements = elements.filter(|element| !element.is_empty());
        let mut elements: Vec<_> = elements.map(<[u8]>::to_ascii_lowercase).collect();
        elements.sort();
        return elements;
    }
    elements.map(<[u8]>::to_vec).collect()
}

fn cookies(fields: &Fields, name: &str) -> Vec<Vec<u8>> {
    let lines = head::all(fields, "cookie");
    let pairs = lines.into_iter().flat_map(|line| line.split(|&b| b == b';')).map(<[u8]>::trim_ascii);
    let prefix = format!("{name}=").into_bytes();
    pairs.filter_map(|pair| pair.strip_prefix(&prefix[..])).map(<[u8]>::to_vec).collect()
}
