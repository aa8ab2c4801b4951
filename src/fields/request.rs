//! The head of a request, and at a glance which fields it has not.

use std::ops::Deref;

use http::header::{self, GetAll};
use http::request::Parts;
use http::{HeaderName, HeaderValue};

/// The head of a request. It does not change by itself: see [`RequestHead::with`].
///
/// Between the socket and the answer a request is asked for some thirty fields, nearly all of which it has not. Each
/// question to the map costs a hash and a search; here it costs a bit.
#[derive(Debug, Clone)]
pub struct RequestHead {
    parts: Parts,
    drawers: u32,
}

impl RequestHead {
    /// Looks at each field once.
    pub fn new(parts: Parts) -> Self {
        let drawers = parts.headers.keys().fold(0, |drawers, name| drawers | drawer(name));
        RequestHead { parts, drawers }
    }

    /// The same, changed.
    pub fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(&mut self.parts);
        RequestHead::new(self.parts)
    }

    /// Whether it has this field.
    #[inline]
    pub fn has(&self, name: &HeaderName) -> bool {
        self.may_have(name) && self.parts.headers.contains_key(name)
    }

    /// The first line of this field.
    #[inline]
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if self.may_have(name) { self.parts.headers.get(name) } else { None }
    }

    /// Every line of this field; `None` when there is none.
    #[inline]
    pub fn get_all(&self, name: &HeaderName) -> Option<GetAll<'_, HeaderValue>> {
        self.has(name).then(|| self.parts.headers.get_all(name))
    }

    /// As [`super::elements`].
    #[inline]
    pub fn elements(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &str> {
        let lines = self.may_have(name).then(|| super::elements(&self.parts.headers, name));
        lines.into_iter().flatten()
    }

    /// Whether it has any field whose name begins with `x-`.
    pub fn has_private_fields(&self) -> bool {
        self.drawers & PRIVATE != 0
    }

    #[inline]
    fn may_have(&self, name: &HeaderName) -> bool {
        self.drawers & drawer(name) != 0
    }
}

impl Deref for RequestHead {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl From<Parts> for RequestHead {
    fn from(parts: Parts) -> Self {
        RequestHead::new(parts)
    }
}

/// Fields whose names begin with `x-`.
const PRIVATE: u32 = 1 << 30;
/// All that are asked for seldom, or are nearly always there.
const OTHER: u32 = 1 << 31;

/// Where to look for a field: one that decides something has a drawer of its own.
#[inline]
fn drawer(name: &HeaderName) -> u32 {
    match *name {
        header::CONNECTION => 1,
        header::TE => 1 << 1,
        header::TRANSFER_ENCODING => 1 << 2,
        header::CONTENT_LENGTH => 1 << 3,
        header::EXPECT => 1 << 4,
        header::UPGRADE => 1 << 5,
        header::AUTHORIZATION => 1 << 6,
        header::CACHE_CONTROL => 1 << 7,
        header::PRAGMA => 1 << 8,
        header::RANGE => 1 << 9,
        header::IF_RANGE => 1 << 10,
        header::IF_MATCH => 1 << 11,
        header::IF_NONE_MATCH => 1 << 12,
        header::IF_MODIFIED_SINCE => 1 << 13,
        header::IF_UNMODIFIED_SINCE => 1 << 14,
        header::COOKIE => 1 << 15,
        header::FORWARDED => 1 << 16,
        _ if name.as_str().starts_with("x-") => PRIVATE,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 12] = [
        "host",
        "connection",
        "te",
        "range",
        "if-range",
        "cookie",
        "pragma",
        "x-a",
        "x-host",
        "x",
        "sec-x",
        "accept",
    ];

    proptest! {
        #[test]
        fn a_head_says_what_its_map_says(there in prop::collection::vec(0..NAMES.len(), 0..6)) {
            let mut parts = http::Request::new(()).into_parts().0;
            for index in there {
                parts.headers.append(NAMES[index], HeaderValue::from_static("a, b"));
            }
            let headers = parts.headers.clone();
            let head = RequestHead::new(parts);

            for name in NAMES.map(HeaderName::from_static) {
                prop_assert_eq!(head.has(&name), headers.contains_key(&name));
                prop_assert_eq!(head.get(&name), headers.get(&name));
                prop_assert_eq!(head.elements(&name).count(), 2 * headers.get_all(&name).iter().count());
                prop_assert_eq!(head.get_all(&name).is_some(), headers.contains_key(&name));
            }
            let has_private = headers.keys().any(|name| name.as_str().starts_with("x-"));
            prop_assert_eq!(head.has_private_fields(), has_private);
        }
    }
}
