//! The fields of a message, as one text.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::known::Known;

/// The fields of a head, in their order, repeated ones where they stood.
///
/// A message has a dozen fields, is asked for some thirty of which it has nearly none, and is written on line by line. So they
/// are one text, the lines of HTTP/1.1 with names in lower case, and where each begins: a field that is passed on is one copy,
/// and a question for one that is not there costs a bit.
#[derive(Clone, Default)]
pub struct Fields {
    /// Lines, and what is left of those that were taken out.
    text: Vec<u8>,
    lines: Vec<Line>,
    /// The bits of those that are there, or were.
    known: u64,
}

/// Where a field stands in the text: `begin..value` has its name and `": "`, `value..end` its value and CRLF.
#[derive(Debug, Clone, Copy)]
struct Line {
    begin: u32,
    value: u32,
    end: u32,
    known: Known,
}

/// One field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    line: &'a [u8],
    /// Where its value begins.
    value: usize,
    known: Known,
}

/// The name of a field, in lower case.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    text: &'a [u8],
    known: Known,
}

/// Between a name and its value.
const COLON: &[u8] = b": ";
/// Behind a value.
const CRLF: &[u8] = b"\r\n";

impl Fields {
    /// None.
    pub const fn new() -> Self {
        Fields { text: Vec::new(), lines: Vec::new(), known: 0 }
    }

    /// None yet, with room for `count` fields that have so many `bytes` together.
    pub fn with_room(bytes: usize, count: usize) -> Self {
        Fields { text: Vec::with_capacity(bytes), lines: Vec::with_capacity(count), known: 0 }
    }

    /// Those of `text`, whose lines [`Fields::found`] and [`Fields::found_loose`] will tell.
    pub(crate) fn of_text(text: Vec<u8>, count: usize) -> Self {
        Fields { text, lines: Vec::with_capacity(count), known: 0 }
    }

    /// The text, to be looked through and its names made small.
    pub(crate) fn text_mut(&mut self) -> &mut [u8] {
        &mut self.text
    }

    /// There is a field in the text, and it stands as it would be written: at `begin`, with the value at `value`, up to `end`
    /// with its CRLF.
    #[inline]
    pub(crate) fn found(&mut self, begin: usize, value: usize, end: usize) {
        let known = Known::of(&self.text[begin..value - COLON.len()]);
        self.push(begin, value, end, known);
    }

    /// There is a field in the text, and it stands otherwise: its name at `begin`, up to `name_end`, its value from `value` to
    /// `value_end`. It is written anew.
    pub(crate) fn found_loose(&mut self, begin: usize, name_end: usize, value: usize, value_end: usize) {
        let at = self.text.len();
        self.text.extend_from_within(begin..name_end);
        self.text.extend_from_slice(COLON);
        let value_at = self.text.len();
        self.text.extend_from_within(value..value_end);
        self.text.extend_from_slice(CRLF);
        self.found(at, value_at, self.text.len());
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True when there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All of them, in their order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'_>> + ExactSizeIterator {
        self.lines.iter().map(|line| self.at(line))
    }

    /// The value of the first of that name.
    #[inline]
    pub fn get<'a>(&self, name: impl Into<Name<'a>>) -> Option<&[u8]> {
        let name = name.into();
        if !self.may_have(name) {
            return None;
        }
        let line = self.lines.iter().find(|line| self.is_called(line, name))?;
        Some(self.at(line).value())
    }

    /// The values of all of that name, in their order.
    #[inline]
    pub fn get_all<'a, N: Into<Name<'a>>>(
        &self,
        name: N,
    ) -> impl DoubleEndedIterator<Item = &[u8]> + use<'_, 'a, N> {
        let name = name.into();
        let lines = if self.may_have(name) { &self.lines[..] } else { &[] };
        lines.iter().filter(move |line| self.is_called(line, name)).map(|line| self.at(line).value())
    }

    /// Whether there is one of that name.
    #[inline]
    pub fn has<'a>(&self, name: impl Into<Name<'a>>) -> bool {
        self.get(name).is_some()
    }

    /// The elements of every line of a list field, without the white space around them.
    #[inline]
    pub fn elements<'a, N: Into<Name<'a>>>(
        &self,
        name: N,
    ) -> impl DoubleEndedIterator<Item = &[u8]> + use<'_, 'a, N> {
        self.get_all(name).flat_map(super::of)
    }

    /// One more, behind the others. The name is a token, the value one line without control characters: whoever has them from
    /// elsewhere has looked.
    pub fn append<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8]) {
        self.append_with(name, |text| text.extend_from_slice(value));
    }

    /// One more, whose value `write` makes.
    pub fn append_with<'a>(&mut self, name: impl Into<Name<'a>>, write: impl FnOnce(&mut Vec<u8>)) {
        let name = name.into();
        let begin = self.text.len();
        name.put_line(&mut self.text, write);
        self.push(begin, begin + name.text.len() + COLON.len(), self.text.len(), name.known);
    }

    /// The only one of that name, behind the others.
    pub fn set<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8]) {
        let name = name.into();
        self.remove(name);
        self.append(name, value);
    }

    /// Takes out all of that name.
    pub fn remove<'a>(&mut self, name: impl Into<Name<'a>>) {
        let name = name.into();
        if self.may_have(name) {
            self.retain(|field| !field.is_called(name));
        }
    }

    /// Takes out those that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let text = &self.text;
        self.lines.retain(|line| keep(line.field(text)));
    }

    /// All of `newer`, in place of those of the same names.
    pub fn replace(&mut self, newer: &Fields) {
        newer.iter().for_each(|field| self.remove(field.called()));
        newer.iter().for_each(|field| self.append(field.called(), field.value()));
    }

    /// The same in no more memory than they need.
    pub fn packed(&self) -> Fields {
        let bytes = self.iter().map(|field| field.line().len()).sum();
        let mut packed = Fields::with_room(bytes, self.len());
        self.iter().for_each(|field| packed.append(field.called(), field.value()));
        packed
    }

    /// The lines of all that were ever added; those of [`Fields::packed`] ones, and no more.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Bytes of memory behind them.
    pub fn bytes(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// As [`http_body`] wants trailers.
    pub fn to_map(&self) -> HeaderMap {
        let pair = |field: Field<'_>| {
            let name = HeaderName::from_bytes(field.name()).ok()?;
            Some((name, HeaderValue::from_bytes(field.value()).ok()?))
        };
        let mut map = HeaderMap::new();
        self.iter().filter_map(pair).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    #[inline]
    fn push(&mut self, begin: usize, value: usize, end: usize, known: Known) {
        debug_assert!(u32::try_from(end).is_ok(), "limits.header-bytes is far below");
        self.known |= known.bit();
        self.lines.push(Line { begin: begin as u32, value: value as u32, end: end as u32, known });
    }

    #[inline]
    fn may_have(&self, name: Name<'_>) -> bool {
        self.known & name.known.bit() != 0
    }

    #[inline]
    fn is_called(&self, line: &Line, name: Name<'_>) -> bool {
        line.known == name.known && (name.known != Known::Other || self.at(line).name() == name.text)
    }

    #[inline]
    fn at(&self, line: &Line) -> Field<'_> {
        line.field(&self.text)
    }
}

impl Line {
    #[inline]
    fn field<'a>(&self, text: &'a [u8]) -> Field<'a> {
        let (begin, end) = (self.begin as usize, self.end as usize);
        Field { line: &text[begin..end], value: (self.value - self.begin) as usize, known: self.known }
    }
}

impl<'a> Field<'a> {
    /// The field of a line that stands as HTTP/1.1 writes it, whose name has so many bytes.
    #[inline]
    pub(crate) fn of_line(line: &'a [u8], name: usize, known: Known) -> Self {
        Field { line, value: name + COLON.len(), known }
    }

    /// Its name, in lower case.
    #[inline]
    pub fn name(self) -> &'a [u8] {
        &self.line[..self.value - COLON.len()]
    }

    /// Its value, without blanks around it.
    #[inline]
    pub fn value(self) -> &'a [u8] {
        &self.line[self.value..self.line.len() - CRLF.len()]
    }

    /// Which it is.
    #[inline]
    pub fn known(self) -> Known {
        self.known
    }

    /// As HTTP/1.1 writes it, with its CRLF.
    #[inline]
    pub fn line(self) -> &'a [u8] {
        self.line
    }

    /// Its name, to ask for others.
    #[inline]
    pub fn called(self) -> Name<'a> {
        Name { text: self.name(), known: self.known }
    }

    fn is_called(self, name: Name<'_>) -> bool {
        self.known == name.known && self.name() == name.text
    }
}

impl<'a> Name<'a> {
    /// In lower case.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.text
    }

    /// Which it is.
    #[inline]
    pub fn known(self) -> Known {
        self.known
    }

    /// The line of a field of this name, whose value `write` makes: one line without control characters.
    #[inline(always)]
    pub fn put_line(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        out.reserve(self.text.len() + COLON.len());
        out.extend_from_slice(self.text);
        out.extend_from_slice(COLON);
        write(out);
        out.extend_from_slice(CRLF);
    }
}

impl From<Known> for Name<'static> {
    #[inline]
    fn from(known: Known) -> Self {
        Name { text: known.as_bytes(), known }
    }
}

impl<'a> From<&'a HeaderName> for Name<'a> {
    #[inline]
    fn from(name: &'a HeaderName) -> Self {
        name.as_str().into()
    }
}

/// In lower case.
impl<'a> From<&'a str> for Name<'a> {
    #[inline]
    fn from(name: &'a str) -> Self {
        name.as_bytes().into()
    }
}

/// In lower case.
impl<'a> From<&'a [u8]> for Name<'a> {
    #[inline]
    fn from(name: &'a [u8]) -> Self {
        debug_assert!(!name.iter().any(u8::is_ascii_uppercase));
        Name { text: name, known: Known::of(name) }
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    }
}

/// Names in lower case.
impl<'a, V: AsRef<[u8]>> FromIterator<(&'a str, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, V)>>(pairs: I) -> Self {
        let mut fields = Fields::new();
        pairs.into_iter().for_each(|(name, value)| fields.append(name, value.as_ref()));
        fields
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.line.trim_ascii_end().escape_ascii())
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 8] = ["host", "te", "cookie", "x-a", "x-b", "x", "accept", "set-cookie"];

    /// What is done to fields, and to a plain list of pairs.
    #[derive(Debug, Clone)]
    enum Step {
        Append(usize, u8),
        Set(usize, u8),
        Remove(usize),
        Pack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = 0..NAMES.len();
        prop_oneof![
            4 => (name.clone(), any::<u8>()).prop_map(|(name, value)| Step::Append(name, value)),
            1 => (name.clone(), any::<u8>()).prop_map(|(name, value)| Step::Set(name, value)),
            1 => name.prop_map(Step::Remove),
            1 => Just(Step::Pack),
        ]
    }

    proptest! {
        #[test]
        fn fields_are_what_a_list_of_pairs_is(steps in prop::collection::vec(step(), 0..24)) {
            let (mut fields, mut pairs) = (Fields::new(), Vec::<(&str, Vec<u8>)>::new());
            for step in steps {
                match step {
                    Step::Append(name, value) => {
                        fields.append(NAMES[name], &[value]);
                        pairs.push((NAMES[name], vec![value]));
                    }
                    Step::Set(name, value) => {
                        fields.set(NAMES[name], &[value]);
                        pairs.retain(|(other, _)| *other != NAMES[name]);
                        pairs.push((NAMES[name], vec![value]));
                    }
                    Step::Remove(name) => {
                        fields.remove(NAMES[name]);
                        pairs.retain(|(other, _)| *other != NAMES[name]);
                    }
                    Step::Pack => {
                        fields = fields.packed();
                        let text: Vec<u8> = fields.iter().flat_map(|field| field.line().to_vec()).collect();
                        prop_assert_eq!(fields.text(), text);
                    }
                }
            }

            let found: Vec<_> = fields.iter().map(|field| (field.name().to_vec(), field.value().to_vec())).collect();
            let expected: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect();
            prop_assert_eq!(found, expected);
            for name in NAMES {
                let values: Vec<&[u8]> =
                    pairs.iter().filter(|(other, _)| *other == name).map(|(_, value)| &value[..]).collect();
                prop_assert_eq!(fields.get(name), values.first().copied());
                prop_assert_eq!(fields.has(name), !values.is_empty());
                prop_assert_eq!(fields.get_all(name).collect::<Vec<_>>(), values);
            }
        }
    }

    #[test]
    fn newer_fields_take_the_place_of_those_of_their_names() {
        let mut fields = Fields::from_iter([("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")]);

        fields.replace(&Fields::from_iter([("a", "3"), ("d", "1"), ("a", "4")]));

        assert_eq!(fields, Fields::from_iter([("b", "1"), ("c", "1"), ("a", "3"), ("d", "1"), ("a", "4")]));
    }
}
