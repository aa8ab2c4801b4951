//! Walks TOML with its spans, notes each mistake and goes on.
//!
//! A value that cannot be read is noted and gives way to its default (or a
//! placeholder), so that one walk finds every mistake; a walk that noted any
//! never becomes a `Config`. serde stops at the first, which is why it is not used.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes, Place, did_you_mean};
use super::units;

/// One file being read, and what is wrong in it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
    mistakes: RefCell<Vec<(usize, Mistake)>>,
}

/// One value, where it stands and how to name it.
#[derive(Clone)]
pub(super) struct Value<'a> {
    reader: &'a Reader<'a>,
    node: &'a DeValue<'a>,
    span: Range<usize>,
    /// Dotted path from the root.
    pub(super) key: String,
}

/// A table whose keys have been checked; an absent one has none of them.
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    entries: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    key: String,
    known: &'static [&'static str],
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, file: &'a Path) -> Reader<'a> {
        Reader { text, file, mistakes: RefCell::default() }
    }

    /// The table of the whole file.
    pub(super) fn root(&'a self, entries: &'a DeTable<'a>, known: &'static [&'static str]) -> Table<'a> {
        Table::checked(self, Some(entries), 0..0, String::new(), known)
    }

    /// Notes a mistake at a place.
    pub(super) fn note(&self, span: Range<usize>, key: &str, message: impl Into<String>, help: &str) {
        let mut mistake = Mistake::whole(self.file, key, message.into(), help);
        mistake.place = Some(Place::find(self.text, span.clone()));
        self.mistakes.borrow_mut().push((span.start, mistake));
    }

    /// Notes a mistake of the file as a whole; they come last.
    pub(super) fn note_whole(&self, key: &str, message: &str, help: &str) {
        let mistake = Mistake::whole(self.file, key, message.to_owned(), help);
        self.mistakes.borrow_mut().push((usize::MAX, mistake));
    }

    /// All that was noted, in the order of the file.
    pub(super) fn finish(&self) -> Result<(), Mistakes> {
        let mut noted = self.mistakes.take();
        noted.sort_by_key(|(at, _)| *at);
        if noted.is_empty() {
            Ok(())
        } else {
            Err(Mistakes(noted.into_iter().map(|(_, mistake)| mistake).collect()))
        }
    }
}

impl<'a> Value<'a> {
    /// Notes that this value is wrong.
    pub(super) fn wrong(&self, message: impl Into<String>, help: impl AsRef<str>) {
        self.reader.note(self.span.clone(), &self.key, message, help.as_ref());
    }

    /// Notes that this value is wrong, and is nothing.
    pub(super) fn refuse<T>(&self, message: impl Into<String>, help: impl AsRef<str>) -> Option<T> {
        self.wrong(message, help);
        None
    }

    /// Notes that something else than this belongs here, and is nothing.
    pub(super) fn expected<T>(&self, what: &str, help: impl AsRef<str>) -> Option<T> {
        self.refuse(format!("expected {what}, found {}", kind(self.node)), help)
    }

    pub(super) fn is_string(&self) -> bool {
        self.node.is_str()
    }

    pub(super) fn is_table(&self) -> bool {
        self.node.is_table()
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        self.node.as_bool()
    }

    /// The text, whatever the value is, without noting a mistake.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.node.as_str()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self.peek() {
            None => self.expected("a string", ""),
            Some("") => self.refuse("is empty", ""),
            some => some,
        }
    }

    /// Text as `parse` takes it, or as it refuses it.
    pub(super) fn parsed<T>(&self, parse: impl Fn(&str) -> Result<T, super::pattern::Refused>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(refused) => self.refuse(refused.message, refused.help),
        }
    }

    /// A name that may stand in a metric label and on a line of a log.
    pub(super) fn name(&self) -> Option<String> {
        let text = self.text()?;
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return self.refuse("cannot be a name", "use at most 128 bytes and no control characters");
        }
        Some(text.to_owned())
    }

    /// A path; a relative one begins at the file's folder.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let folder = self.reader.file.parent().unwrap_or(Path::new(""));
        self.text().map(|text| folder.join(text))
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.as_bool().or_else(|| self.expected("true or false", ""))
    }

    pub(super) fn whole(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.node else {
            let help = format!("allowed: {} to {}", range.start(), range.end());
            return self.expected("a whole number", help);
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let found = number.and_then(|number| u64::try_from(number).ok());
        self.within(found, integer, range, u64::to_string)
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.quantity("a duration", "s", units::DURATION_HELP)?;
        match units::duration(text) {
            None => self.refuse(format!("{text:?} is not a duration"), units::DURATION_HELP),
            found => self.within(found, text, range, |d| units::spell_duration(*d)),
        }
    }

    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.quantity("a size", "KiB", units::SIZE_HELP)?;
        match units::size(text) {
            None => self.refuse(format!("{text:?} is not a size"), units::SIZE_HELP),
            found => self.within(found, text, range, |bytes| units::spell_size(*bytes)),
        }
    }

    /// A time-out or an interval: more than nothing, at most a day.
    pub(super) fn time_out(&self) -> Option<Duration> {
        self.duration(MOMENT..=DAY)
    }

    /// The value that a word stands for.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Some(*value),
            None => self.refuse(format!("unknown value {text:?}"), did_you_mean(text, &known)),
        }
    }

    /// A table with these keys and no others.
    pub(super) fn table(&self, known: &'static [&'static str], help: &str) -> Option<Table<'a>> {
        match self.node.as_table() {
            Some(entries) => {
                Some(Table::checked(self.reader, Some(entries), self.span.clone(), self.key.clone(), known))
            }
            None => self.expected("a table", help),
        }
    }

    /// The same, where a table without any keys stands in for what is no table.
    pub(super) fn table_or_empty(&self, known: &'static [&'static str], help: &str) -> Table<'a> {
        self.table(known, help).unwrap_or_else(|| self.absent(known))
    }

    /// The table that this value stands for when it is not one: as if it had none of its keys.
    pub(super) fn absent(&self, known: &'static [&'static str]) -> Table<'a> {
        Table::checked(self.reader, None, self.span.clone(), self.key.clone(), known)
    }

    /// A table whose keys the operator chooses.
    pub(super) fn entries(&self, help: &str) -> Option<Vec<(&'a str, Value<'a>)>> {
        let Some(entries) = self.node.as_table() else { return self.expected("a table", help) };
        let child = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &'a std::borrow::Cow<'a, str> = name.get_ref();
            (name.as_ref(), self.child(value, format!("{}.{name}", self.key)))
        };
        Some(entries.iter().map(child).collect())
    }

    pub(super) fn array(&self, help: &str) -> Option<Vec<Value<'a>>> {
        let Some(items) = self.node.as_array() else { return self.expected("an array", help) };
        let item = |(n, value)| self.child(value, format!("{}[{n}]", self.key));
        Some(items.iter().enumerate().map(item).collect())
    }

    fn child(&self, value: &'a Spanned<DeValue<'a>>, key: String) -> Value<'a> {
        Value { reader: self.reader, node: value.get_ref(), span: value.span(), key }
    }

    /// The text of something with a unit; a bare number is the mistake that people make most.
    fn quantity(&self, what: &str, unit: &str, help: &str) -> Option<&'a str> {
        match self.node {
            DeValue::String(text) => Some(text),
            DeValue::Integer(number) => self
                .refuse(format!("{number} has no unit"), format!("write {what}, such as \"{number}{unit}\"")),
            _ => self.expected(what, help),
        }
    }

    fn within<T: PartialOrd>(
        &self,
        found: Option<T>,
        written: impl Display,
        range: RangeInclusive<T>,
        spell: impl Fn(&T) -> String,
    ) -> Option<T> {
        match found {
            Some(found) if range.contains(&found) => Some(found),
            _ => {
                let help = format!("allowed: {} to {}", spell(range.start()), spell(range.end()));
                self.refuse(format!("{written} is out of range"), help)
            }
        }
    }
}

impl<'a> Table<'a> {
    fn checked(
        reader: &'a Reader<'a>,
        entries: Option<&'a DeTable<'a>>,
        span: Range<usize>,
        key: String,
        known: &'static [&'static str],
    ) -> Table<'a> {
        let table = Table { reader, entries, span, key, known };
        for name in entries.into_iter().flat_map(|entries| entries.keys()) {
            if !known.contains(&name.get_ref().as_ref()) {
                let help = did_you_mean(name.get_ref(), known);
                reader.note(name.span(), &table.path_of(name.get_ref()), "unknown key", &help);
            }
        }
        table
    }

    /// The value of a key, if the file has it.
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        debug_assert!(self.known.contains(&name), "{name} is missing from keys.rs");
        let value = self.entries?.get(name)?;
        Some(Value {
            reader: self.reader,
            node: value.get_ref(),
            span: value.span(),
            key: self.path_of(name),
        })
    }

    /// The value of a key that the table must have. What stands in for a table was blamed already.
    pub(super) fn need(&self, name: &'static str, help: &str) -> Option<Value<'a>> {
        let value = self.get(name);
        if value.is_none() && self.entries.is_some() {
            self.reader.note(self.span.clone(), &self.path_of(name), "is missing", help);
        }
        value
    }

    /// A table in this one; as if empty when the file does not have it.
    pub(super) fn section(&self, name: &'static str, known: &'static [&'static str]) -> Table<'a> {
        let found =
            self.get(name).and_then(|value| value.table(known, &format!("write [{}]", self.path_of(name))));
        found.unwrap_or_else(|| {
            Table::checked(self.reader, None, self.span.clone(), self.path_of(name), known)
        })
    }

    /// The tables of `[[name]]`; a file without any is mistaken.
    pub(super) fn sections(&self, name: &'static str, known: &'static [&'static str]) -> Vec<Table<'a>> {
        let help = format!("write [[{name}]]");
        let items = match self.get(name) {
            Some(value) => value.array(&help),
            None => Some(Vec::new()),
        };
        if items.as_ref().is_some_and(Vec::is_empty) {
            self.reader.note_whole(name, &format!("there is no [[{name}]]"), "at least one is needed");
        }
        items.unwrap_or_default().iter().filter_map(|item| item.table(known, &help)).collect()
    }

    /// Notes that this table as a whole is wrong.
    pub(super) fn wrong(&self, message: impl Into<String>, help: impl AsRef<str>) {
        self.reader.note(self.span.clone(), &self.key, message, help.as_ref());
    }

    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        name: &'static str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        let found = self.get(name).and_then(|value| value.whole(range));
        found.and_then(|number| T::try_from(number).ok()).unwrap_or(default)
    }

    /// A number that has no default.
    pub(super) fn optional<T: TryFrom<u64>>(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<T> {
        self.get(name).and_then(|value| value.whole(range)).and_then(|number| T::try_from(number).ok())
    }

    pub(super) fn size<T: TryFrom<u64>>(
        &self,
        name: &'static str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        let found = self.get(name).and_then(|value| value.size(range));
        found.and_then(|bytes| T::try_from(bytes).ok()).unwrap_or(default)
    }

    /// A time-out or an interval: more than nothing, at most a day.
    pub(super) fn duration(&self, name: &'static str, default: Duration) -> Duration {
        self.get(name).and_then(|value| value.time_out()).unwrap_or(default)
    }

    /// A wait that may be `"0s"`: not at all.
    pub(super) fn wait(&self, name: &'static str, default: Duration) -> Duration {
        self.get(name).and_then(|value| value.duration(Duration::ZERO..=DAY)).unwrap_or(default)
    }

    pub(super) fn boolean(&self, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|value| value.boolean()).unwrap_or(default)
    }

    pub(super) fn word<T: Copy>(&self, name: &'static str, default: T, words: &[(&str, T)]) -> T {
        self.get(name).and_then(|value| value.word(words)).unwrap_or(default)
    }

    fn path_of(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }
}

/// The shortest time-out that means anything: the sweeps that enforce them are no finer.
const MOMENT: Duration = Duration::from_millis(1);
/// The longest: whoever needs more has mistaken the unit.
const DAY: Duration = Duration::from_secs(86_400);
/// Names become metric labels; longer ones are a mistake in a template.
const NAME_BYTES_MAX: usize = 128;

/// What a value is, with its article.
fn kind(node: &DeValue<'_>) -> &'static str {
    match node {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
