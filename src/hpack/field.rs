//! One field, as it is read and as the tables keep it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

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
    secrecy: Secrecy,
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

/// Whether a field may be compressed by who passes it on (RFC 7541 section 6.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    Open,
    NeverIndexed,
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
    Header(HeaderName),
    Pseudo(Pseudo),
    /// A pseudo-field that nobody knows, or no name.
    Other(Bytes),
}

/// A value, looked at if its name is a header's. Those of pseudo-fields have rules of their own.
#[derive(Debug)]
enum Value {
    Header(HeaderValue),
    Other(Bytes),
}

impl<'a> Field<'a> {
    /// One that stands in a table.
    pub(super) fn of(entry: &'a Entry) -> Self {
        let (name, value) = (entry.name.as_bytes(), entry.value.as_bytes());
        Field {
            name,
            value,
            known_name: Some(&entry.name),
            known_value: Some(&entry.value),
            secrecy: Secrecy::Open,
        }
    }

    /// One that was sent in full.
    pub(super) fn literal(name: &'a [u8], value: &'a [u8], secrecy: Secrecy) -> Self {
        Field { name, value, known_name: None, known_value: None, secrecy }
    }

    /// One whose value was sent, with a name that stands in a table.
    pub(super) fn named(name: &'a Name, value: &'a [u8], secrecy: Secrecy) -> Self {
        Field { known_name: Some(name), ..Field::literal(name.as_bytes(), value, secrecy) }
    }

    /// What it counts in a list of fields (RFC 9113 section 6.5.2).
    pub fn size(&self) -> usize {
        size_of(self.name, self.value)
    }

    /// Which of the pseudo-fields it is; `None` if it is an ordinary field, or one without a proper name.
    pub fn pseudo(&self) -> Option<Pseudo> {
        match self.known_name {
            Some(Name::Header(_)) => None,
            Some(Name::Pseudo(pseudo)) => Some(*pseudo),
            Some(Name::Other(_)) | None => Pseudo::of(self.name),
        }
    }

    /// The value as bytes to keep; not copied where a table has that of a pseudo-field.
    pub fn shared_value(&self) -> Bytes {
        match self.known_value {
            Some(Value::Other(bytes)) => bytes.clone(),
            Some(Value::Header(_)) | None => Bytes::copy_from_slice(self.value),
        }
    }

    /// The name of an ordinary field. A quote passes, which is part of no token: `http` lets it.
    ///
    /// # Errors
    /// It is not the name of a field in lower case.
    pub fn header_name(&self) -> Result<HeaderName, BadField> {
        match self.known_name {
            Some(Name::Header(name)) => Ok(name.clone()),
            Some(Name::Pseudo(_) | Name::Other(_)) => Err(BadField::Name),
            None => HeaderName::from_lowercase(self.name).map_err(|_| BadField::Name),
        }
    }

    /// The value of an ordinary field; sensitive if it may never be compressed.
    ///
    /// # Errors
    /// It has control characters.
    pub fn header_value(&self) -> Result<HeaderValue, BadField> {
        let mut value = match self.known_value {
            Some(Value::Header(value)) => value.clone(),
            Some(Value::Other(_)) | None => {
                HeaderValue::from_bytes(self.value).map_err(|_| BadField::Value)?
            }
        };
        value.set_sensitive(self.secrecy == Secrecy::NeverIndexed);
        Ok(value)
    }

    /// Both, of an ordinary field.
    ///
    /// # Errors
    /// One of them is none.
    pub fn header(&self) -> Result<(HeaderName, HeaderValue), BadField> {
        Ok((self.header_name()?, self.header_value()?))
    }
}

impl Entry {
    /// A field to be kept, on its own: a slice would keep all that it was sent with.
    pub(super) fn new(name: Name, value: &[u8]) -> Entry {
        let header = match name {
            Name::Header(_) => HeaderValue::from_bytes(value).ok(),
            Name::Pseudo(_) | Name::Other(_) => None,
        };
        let value = header.map_or_else(|| Value::Other(Bytes::copy_from_slice(value)), Value::Header);
        Entry { name, value }
    }

    /// A field of the static table.
    pub(super) const fn fixed(name: &'static str, value: &'static str) -> Entry {
        match Pseudo::of(name.as_bytes()) {
            Some(pseudo) => Entry {
                name: Name::Pseudo(pseudo),
                value: Value::Other(Bytes::from_static(value.as_bytes())),
            },
            None => Entry {
                name: Name::Header(HeaderName::from_static(name)),
                value: Value::Header(HeaderValue::from_static(value)),
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
            None => HeaderName::from_lowercase(name)
                .map_or_else(|_| Name::Other(Bytes::copy_from_slice(name)), Name::Header),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Header(name) => name.as_str().as_bytes(),
            Name::Pseudo(pseudo) => pseudo.as_bytes(),
            Name::Other(name) => name,
        }
    }
}

impl Value {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Header(value) => value.as_bytes(),
            Value::Other(value) => value,
        }
    }
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
