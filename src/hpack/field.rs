//! One field, as it is read and as the tables keep it.

use bytes::Bytes;

use crate::fields::{self, Name as FieldName};
use crate::hpack::size_of;

/// A field of a block, as it was sent. What a table knows of it already is neither checked nor copied again.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// As sent: it may have upper case, or be no name at all.
    pub name: &'a [u8],
    /// As sent.
    pub value: &'a [u8],
    known_name: Option<&'a Name>,
    known_value: Option<&'a Value>,
}

/// What begins with a colon (RFC 9113 section 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pseudo {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:status`
    Status,
    /// `:protocol` (RFC 8441)
    Protocol,
    /// No other is known.
    Unknown,
}

/// Why a field is none of HTTP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadField {
    /// Its name is none of a field in lower case: no token, empty, too long, or that of a pseudo-field.
    Name,
    /// Its value has control characters.
    Value,
}

/// A field in a table: what is known of it once is known for as often as it is named.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    value: Value,
}

/// A name, looked at.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Field(Bytes),
    Pseudo(Pseudo),
    /// A pseudo-field that nobody knows, or no name.
    Other(Bytes),
}

/// A value, looked at if its name is a header's. Those of pseudo-fields have rules of their own.
#[derive(Debug)]
enum Value {
    Field(Bytes),
    Other(Bytes),
}

impl<'a> Field<'a> {
    /// One that stands in a table.
    pub(super) fn of(entry: &'a Entry) -> Self {
        let (name, value) = (entry.name.as_bytes(), entry.value.as_bytes());
        Field { name, value, known_name: Some(&entry.name), known_value: Some(&entry.value) }
    }

    /// One that was sent in full.
    pub(super) fn literal(name: &'a [u8], value: &'a [u8]) -> Self {
        Field { name, value, known_name: None, known_value: None }
    }

    /// One whose value was sent, with a name that stands in a table.
    pub(super) fn named(name: &'a Name, value: &'a [u8]) -> Self {
        Field { known_name: Some(name), ..Field::literal(name.as_bytes(), value) }
    }

    /// What it counts in a list of fields (RFC 9113 section 6.5.2).
    pub fn size(&self) -> usize {
        size_of(self.name, self.value)
    }

    /// Which of the pseudo-fields it is; `None` if it is an ordinary field, or one without a proper name.
    pub fn pseudo(&self) -> Option<Pseudo> {
        match self.known_name {
            Some(Name::Field(_)) => None,
            Some(Name::Pseudo(pseudo)) => Some(*pseudo),
            Some(Name::Other(_)) | None => Pseudo::of(self.name),
        }
    }

    /// The value as bytes to keep; not copied where a table has that of a pseudo-field.
    pub fn shared_value(&self) -> Bytes {
        match self.known_value {
            Some(Value::Other(bytes)) => bytes.clone(),
            Some(Value::Field(_)) | None => Bytes::copy_from_slice(self.value),
        }
    }

    /// The name and the value of an ordinary field.
    ///
    /// # Errors
    /// It is not the name of a field in lower case, or the value has control characters.
    pub fn ordinary(&self) -> Result<(FieldName<'a>, &'a [u8]), BadField> {
        let is_name = match self.known_name {
            Some(name) => matches!(name, Name::Field(_)),
            None => is_name(self.name),
        };
        if !is_name {
            return Err(BadField::Name);
        }
        let is_value = matches!(self.known_value, Some(Value::Field(_))) || fields::is_value(self.value);
        if is_value { Ok((FieldName::from(self.name), self.value)) } else { Err(BadField::Value) }
    }
}

impl Entry {
    /// A field to be kept, on its own: a slice would keep all that it was sent with.
    pub(super) fn new(name: Name, value: &[u8]) -> Entry {
        let is_sound = matches!(name, Name::Field(_)) && fields::is_value(value);
        let value = Bytes::copy_from_slice(value);
        Entry { name, value: if is_sound { Value::Field(value) } else { Value::Other(value) } }
    }

    /// A field of the static table.
    pub(super) const fn fixed(name: &'static str, value: &'static str) -> Entry {
        match Pseudo::of(name.as_bytes()) {
            Some(pseudo) => Entry {
                name: Name::Pseudo(pseudo),
                value: Value::Other(Bytes::from_static(value.as_bytes())),
            },
            None => Entry {
                name: Name::Field(Bytes::from_static(name.as_bytes())),
                value: Value::Field(Bytes::from_static(value.as_bytes())),
            },
        }
    }

    /// What it counts in its table.
    pub(super) fn size(&self) -> usize {
        size_of(self.name.as_bytes(), self.value.as_bytes())
    }
}

impl Name {
    /// A name to be kept.
    pub(super) fn new(name: &[u8]) -> Name {
        match Pseudo::of(name) {
            Some(Pseudo::Unknown) => Name::Other(Bytes::copy_from_slice(name)),
            Some(pseudo) => Name::Pseudo(pseudo),
            None if is_name(name) => Name::Field(Bytes::copy_from_slice(name)),
            None => Name::Other(Bytes::copy_from_slice(name)),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Field(name) | Name::Other(name) => name,
            Name::Pseudo(pseudo) => pseudo.as_bytes(),
        }
    }
}

impl Value {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Field(value) | Value::Other(value) => value,
        }
    }
}

/// A token in lower case (RFC 9113 section 8.2.1).
fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| fields::is_token_byte(*b) && !b.is_ascii_uppercase())
}

impl Pseudo {
    const fn of(name: &[u8]) -> Option<Pseudo> {
        match name {
            b":method" => Some(Pseudo::Method),
            b":scheme" => Some(Pseudo::Scheme),
            b":authority" => Some(Pseudo::Authority),
            b":path" => Some(Pseudo::Path),
            b":status" => Some(Pseudo::Status),
            b":protocol" => Some(Pseudo::Protocol),
            [b':', ..] => Some(Pseudo::Unknown),
            _ => None,
        }
    }

    const fn as_bytes(self) -> &'static [u8] {
        match self {
            Pseudo::Method => b":method",
            Pseudo::Scheme => b":scheme",
            Pseudo::Authority => b":authority",
            Pseudo::Path => b":path",
            Pseudo::Status => b":status",
            Pseudo::Protocol => b":protocol",
            // No table keeps one as this.
            Pseudo::Unknown => b":",
        }
    }
}
