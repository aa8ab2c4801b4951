//! The fields of a block, made into a request's head or its trailers (RFC 9113 sections 8.2 and 8.3).
//!
//! What is malformed here is an error of the stream alone. What else a head may not say, and whether it says one thing
//! only, is judged by [`crate::filter::guard`], the same for every protocol.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Uri, Version, uri};

use crate::fields::{self, Fields, Known, Name, RequestHead};
use crate::hpack::{Field, Pseudo};

/// How many fields a head has room for at first, and bytes of them: as many as browsers send.
const USUAL_FIELDS: usize = 16;
const USUAL_BYTES: usize = 512;
/// Beyond so many times as much as a list of fields may have, it is no mistake.
const BOMB: usize = 4;
/// The longest target that [`Uri`] can hold.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    /// It is no request (RFC 9113 section 8.1.1).
    Malformed,
    /// It is larger than it may be: this is what the client gets.
    TooLarge(StatusCode),
    /// It is so much larger that no client can mean it.
    Bomb,
}

/// A request as its head says it.
#[derive(Debug)]
pub struct Asked {
    pub head: RequestHead,
    /// Bytes of the body, if they are announced, properly.
    pub length: Option<u64>,
}

/// Takes the fields of a block one by one.
#[derive(Debug)]
pub struct Head {
    pseudo: PseudoFields,
    fields: Taken,
}

/// The same, for what follows a body.
#[derive(Debug)]
pub struct Trailers(Taken);

#[derive(Debug, Default)]
struct PseudoFields {
    method: Option<Method>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
}

#[derive(Debug)]
struct Taken {
    list: Fields,
    length: Length,
    is_malformed: bool,
    /// As RFC 9113 section 6.5.2 counts them.
    size: usize,
    size_max: usize,
}

/// What `content-length` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Absent,
    Said(u64),
    /// The guard has a word for it.
    Doubtful,
}

impl Head {
    /// None of it yet. No more than `size_max` bytes of fields are kept.
    pub fn new(size_max: usize) -> Self {
        Head {
            pseudo: PseudoFields::default(),
            fields: Taken::new(size_max, Fields::with_room(USUAL_BYTES, USUAL_FIELDS)),
        }
    }

    /// The next field.
    pub fn take(&mut self, field: &Field<'_>) {
        let Some(pseudo) = field.pseudo() else { return self.fields.take(field) };
        // Section 8.3: they come before all others.
        let is_late = !self.fields.list.is_empty();
        if !self.fields.fits(field) || self.fields.is_malformed {
            return;
        }
        if is_late || self.pseudo.take(pseudo, field).is_none() {
            self.fields.is_malformed = true;
        }
    }

    /// The request, after the last field.
    ///
    /// # Errors
    /// It is none.
    pub fn finish(self) -> Result<Asked, BadHead> {
        let Head { pseudo, fields } = self;
        fields.check()?;
        let length = match fields.length {
            Length::Said(bytes) => Some(bytes),
            Length::Absent | Length::Doubtful => None,
        };
        let (method, uri) = pseudo.target()?;
        let head = RequestHead { method, uri, version: Version::HTTP_2, fields: fields.list };
        Ok(Asked { head, length })
    }
}

impl Trailers {
    /// None of them yet. No more than `size_max` bytes of fields are kept.
    pub fn new(size_max: usize) -> Self {
        Trailers(Taken::new(size_max, Fields::new()))
    }

    /// The next field.
    pub fn take(&mut self, field: &Field<'_>) {
        self.0.take(field);
        // Sections 8.1 and 8.2.1; what the guard sees in a head, for nobody shows it trailers.
        self.0.is_malformed |= field.pseudo().is_some() || fields::is_padded(field.value);
    }

    /// The trailers, after the last field.
    ///
    /// # Errors
    /// They are none, or more than `count_max`.
    pub fn finish(self, count_max: usize) -> Result<HeaderMap, BadHead> {
        self.0.check()?;
        if self.0.list.len() > count_max {
            return Err(BadHead::TooLarge(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        Ok(self.0.list.to_map())
    }
}

impl Taken {
    fn new(size_max: usize, list: Fields) -> Self {
        Taken { list, length: Length::Absent, is_malformed: false, size: 0, size_max }
    }

    /// Counts it, before anything is made of it.
    fn fits(&mut self, field: &Field<'_>) -> bool {
        self.size = self.size.saturating_add(field.size());
        self.size <= self.size_max
    }

    fn take(&mut self, field: &Field<'_>) {
        if !self.fits(field) || self.is_malformed {
            return;
        }
        match field.ordinary() {
            Ok((name, value)) if !is_of_connection(name.known(), value) => self.append(name, value),
            _ => self.is_malformed = true,
        }
    }

    fn append(&mut self, name: Name<'_>, value: &[u8]) {
        if name.known() == Known::ContentLength {
            self.length = match (self.length, fields::number(value)) {
                (Length::Absent, Some(bytes)) => Length::Said(bytes),
                _ => Length::Doubtful,
            };
        }
        self.list.append(name, value);
    }

    fn check(&self) -> Result<(), BadHead> {
        match self.size {
            _ if self.is_malformed => Err(BadHead::Malformed),
            size if size > self.size_max.saturating_mul(BOMB) => Err(BadHead::Bomb),
            size if size > self.size_max => {
                Err(BadHead::TooLarge(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
            }
            _ => Ok(()),
        }
    }
}

impl PseudoFields {
    /// `None` if it is unknown, comes twice, or cannot be what it says.
    fn take(&mut self, pseudo: Pseudo, field: &Field<'_>) -> Option<()> {
        let place = match pseudo {
            Pseudo::Method => {
                let method = Method::from_bytes(field.value).ok()?;
                return self.method.replace(method).is_none().then_some(());
            }
            Pseudo::Scheme => &mut self.scheme,
            Pseudo::Authority => &mut self.authority,
            Pseudo::Path => &mut self.path,
            // `:protocol` is for those who were told of it (RFC 8441 section 4).
            Pseudo::Status | Pseudo::Protocol | Pseudo::Unknown => return None,
        };
        place.replace(field.shared_value()).is_none().then_some(())
    }

    fn target(self) -> Result<(Method, Uri), BadHead> {
        let method = self.method.ok_or(BadHead::Malformed)?;
        let mut parts = uri::Parts::default();
        if method == Method::CONNECT {
            // Section 8.5.
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                return Err(BadHead::Malformed);
            }
        } else {
            let (Some(scheme), Some(path)) = (self.scheme, self.path) else { return Err(BadHead::Malformed) };
            let scheme = known_scheme(&scheme).ok_or(BadHead::Malformed)?;
            // A URI has a scheme with an authority, or neither.
            parts.scheme = self.authority.is_some().then_some(scheme);
            parts.path_and_query = Some(target(path)?);
        }
        if let Some(authority) = self.authority {
            parts.authority = Some(Authority::from_maybe_shared(authority).map_err(|_| BadHead::Malformed)?);
        }
        let uri = Uri::from_parts(parts).map_err(|_| BadHead::Malformed)?;
        Ok((method, uri))
    }
}

/// Those that a reverse proxy can be asked for.
fn known_scheme(scheme: &[u8]) -> Option<Scheme> {
    match scheme {
        b"http" => Some(Scheme::HTTP),
        b"https" => Some(Scheme::HTTPS),
        _ if scheme.eq_ignore_ascii_case(b"http") => Some(Scheme::HTTP),
        _ if scheme.eq_ignore_ascii_case(b"https") => Some(Scheme::HTTPS),
        _ => None,
    }
}

/// A path and perhaps a query. No form of a target has a fragment; [`PathAndQuery`] would drop it.
fn target(path: Bytes) -> Result<PathAndQuery, BadHead> {
    if path.len() > TARGET_BYTES_MAX {
        return Err(BadHead::TooLarge(StatusCode::URI_TOO_LONG));
    }
    if path.is_empty() || path.iter().any(|b| matches!(b, 0..=b' ' | b'#' | 0x7f)) {
        return Err(BadHead::Malformed);
    }
    PathAndQuery::from_maybe_shared(path).map_err(|_| BadHead::Malformed)
}

/// Section 8.2.2.
fn is_of_connection(name: Known, value: &[u8]) -> bool {
    name.is_connection_specific() || name == Known::Te && !value.eq_ignore_ascii_case(b"trailers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    const SIZE_MAX: usize = 1000;
    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "test")];

    /// Literals that nobody remembers (RFC 7541 section 6.2.2).
    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        block
    }

    fn read(fields: &[(&str, &str)]) -> Result<Asked, BadHead> {
        let mut head = Head::new(SIZE_MAX);
        Decoder::new(4096).decode(&block(fields), |field| head.take(field)).unwrap();
        head.finish()
    }

    fn with(further: &[(&str, &str)]) -> Result<Asked, BadHead> {
        read(&[&GET[..], further].concat())
    }

    fn but(name: &str, value: &str) -> Result<Asked, BadHead> {
        read(&GET.map(|field| if field.0 == name { (name, value) } else { field }))
    }

    #[test]
    fn a_head_is_read_to_the_byte() {
        let asked = with(&[("cookie", "a=b"), ("x", "\u{e9}"), ("cookie", "c=d"), ("content-length", "007")])
            .unwrap();

        assert_eq!((asked.head.method, asked.head.version), (Method::GET, Version::HTTP_2));
        assert_eq!(asked.head.uri, "http://test/a?b");
        let cookies: Vec<_> = asked.head.fields.get_all("cookie").collect();
        // Counted one by one by the guard; whoever writes them for a server puts them together.
        assert_eq!(cookies, [b"a=b", b"c=d"]);
        assert_eq!(asked.head.fields.get("x"), Some("\u{e9}".as_bytes()));
        assert_eq!(asked.length, Some(7));
    }

    #[test]
    fn what_a_target_can_be() {
        let connect = [(":method", "CONNECT"), (":authority", "test:443")];
        assert_eq!(read(&connect).unwrap().head.uri, "test:443");
        assert_eq!(but(":scheme", "HTTPS").unwrap().head.uri, "https://test/a?b");
        assert_eq!(but(":path", "*").unwrap().head.uri.path(), "*");
        let without_authority = read(&[GET[0], GET[1], GET[2], ("host", "test")]).unwrap();
        assert_eq!(without_authority.head.uri, "/a?b");
    }

    #[test]
    fn what_is_malformed_is_found() {
        let [method, scheme, path, authority] = GET;
        for (name, read) in [
            ("no :method", read(&[scheme, path, authority])),
            ("no :scheme", read(&[method, path, authority])),
            ("no :path", read(&[method, scheme, authority])),
            ("nothing", read(&[])),
            (":method twice", read(&[method, method, scheme, path, authority])),
            (":path twice", read(&[method, scheme, path, path, authority])),
            (":authority twice", with(&[authority])),
            (":path behind a field", read(&[method, scheme, authority, ("x", "1"), path])),
            (":status", with(&[(":status", "200")])),
            (":protocol", with(&[(":protocol", "websocket")])),
            ("an unknown one", with(&[(":x", "1")])),
            ("a colon", with(&[(":", "1")])),
            ("upper case", with(&[("X", "1")])),
            ("no name", with(&[("", "1")])),
            ("a space in a name", with(&[("x y", "1")])),
            ("CR LF in a value", with(&[("x", "1\r\ny: 2")])),
            ("NUL in a value", with(&[("x", "1\0")])),
            ("connection", with(&[("connection", "")])),
            ("keep-alive", with(&[("keep-alive", "1")])),
            ("proxy-connection", with(&[("proxy-connection", "close")])),
            ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
            ("upgrade", with(&[("upgrade", "h2c")])),
            ("te", with(&[("te", "trailers, gzip")])),
            ("an empty method", but(":method", "")),
            ("a method with a space", but(":method", "GET /")),
            ("an empty path", but(":path", "")),
            ("a path with a space", but(":path", "/a b")),
            ("a path with LF", but(":path", "/\n")),
            ("a path with DEL", but(":path", "/\x7f")),
            ("a fragment", but(":path", "/a#b")),
            ("a fragment in a query", but(":path", "/a?b#c")),
            ("another scheme", but(":scheme", "ftp")),
            ("no scheme", but(":scheme", "")),
            ("no host", but(":authority", "")),
            ("a host with a path", but(":authority", "test/x")),
            ("a host with CR LF", but(":authority", "test\r\nx: y")),
            ("CONNECT and a path", but(":method", "CONNECT")),
            ("CONNECT to nowhere", read(&[(":method", "CONNECT")])),
        ] {
            assert_eq!(read.unwrap_err(), BadHead::Malformed, "{name}");
        }
        for (name, read) in [
            ("te", with(&[("te", "Trailers")])),
            ("a tab in a value", with(&[("x", "a\tb")])),
            ("a length that is none", with(&[("content-length", "+5")])),
        ] {
            assert_eq!(read.unwrap().length, None, "{name}");
        }
    }

    #[test]
    fn lengths_count_that_are_one_number() {
        for (lines, expected) in [
            (&["5"][..], Some(5)),
            (&["5", "5"], None),
            (&["5", "x"], None),
            (&["-5"], None),
            (&[""], None),
            (&["18446744073709551616"], None),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("content-length", *line)).collect();
            assert_eq!(with(&fields).unwrap().length, expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_said_to_be_and_far_beyond_it_is_a_bomb() {
        let long = "a".repeat(100);
        let fields = |count| vec![("x", &long[..]); count];
        // With its name and 32: 133 bytes. Those of the request itself are about 180.
        assert!(with(&fields(6)).is_ok());
        assert_eq!(
            with(&fields(7)).unwrap_err(),
            BadHead::TooLarge(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
        assert_eq!(with(&fields(30)).unwrap_err(), BadHead::Bomb);
    }

    #[test]
    fn trailers_are_fields_and_nothing_else() {
        let read = |fields: &[(&str, &str)]| {
            let mut trailers = Trailers::new(SIZE_MAX);
            Decoder::new(4096).decode(&block(fields), |field| trailers.take(field)).unwrap();
            trailers.finish(2)
        };
        assert_eq!(read(&[("x", "1"), ("y", "2")]).unwrap().len(), 2);
        assert_eq!(read(&[]).unwrap().len(), 0);
        for fields in [(":path", "/"), (":status", "200"), (":x", "1"), ("X", "1"), ("connection", "close")] {
            assert_eq!(read(&[("x", "1"), fields]).unwrap_err(), BadHead::Malformed, "{fields:?}");
        }
        for odd in [("x", " 1"), ("x", "1\t"), ("x", " "), ("x\"y", "1")] {
            assert_eq!(read(&[odd]).unwrap_err(), BadHead::Malformed, "{odd:?}");
        }
        assert_eq!(read(&[("x", "1 \t1"), ("y", "")]).unwrap().len(), 2);
        let too_many = BadHead::TooLarge(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(read(&[("x", "1"), ("x", "1"), ("x", "1")]).unwrap_err(), too_many);
    }
}
