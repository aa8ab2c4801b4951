//! A head of HTTP/1.1 is the same however its bytes arrive, and says just what a simple reader finds in it, and what
//! another library finds.

use http::Version;
use httparse::{EMPTY_HEADER, Status};
use tidegate::config::Limits;
use tidegate::fields::RequestHead;
use tidegate::front::http1::head::{BadHead, Scan, parse};

use super::head;

/// Of more lines than are remembered from looking for the end: both ways of reading them are taken.
const FIELDS_MAX: usize = 30;

pub fn holds(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let limits = Limits { uri_bytes: 200, header_bytes: 800, headers: FIELDS_MAX, ..Limits::default() };
    let read = |scan: &mut Scan, bytes: &[u8]| -> Result<Option<(usize, RequestHead)>, BadHead> {
        let Some(place) = scan.find(bytes, &limits)? else { return Ok(None) };
        parse(&bytes[place.begin..place.end], scan, &limits).map(|head| Some((place.end, head)))
    };
    let whole = read(&mut Scan::default(), bytes);
    let mut scan = Scan::default();
    let step = usize::from(size).max(1);
    let lengths = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let piecewise = lengths
        .map(|n| read(&mut scan, &bytes[..n]))
        .find(|read| !matches!(read, Ok(None)))
        .unwrap_or(Ok(None));

    match (&whole, &piecewise) {
        (Ok(Some((end, one))), Ok(Some((same, other)))) => {
            assert_eq!(end, same);
            assert_eq!((&one.method, &one.uri, one.version), (&other.method, &other.uri, other.version));
            assert_eq!(one.fields, other.fields);
            is_what_a_simple_reader_finds(&bytes[..*end], one);
            is_what_a_library_finds(&bytes[..*end], one);
        }
        (Ok(None), Ok(None)) => assert!(!begun(bytes).windows(4).any(|w| w == b"\r\n\r\n")),
        // One that is bad in two ways may be refused for either, but never taken.
        (one, other) => assert!(one.is_err() && other.is_err(), "{one:?} {other:?}"),
    }
}

/// What stands behind empty lines, which may come before a request.
fn begun(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

fn is_what_a_simple_reader_finds(bytes: &[u8], head: &RequestHead) {
    // Each byte is a character: none is lost.
    let text: String = bytes.iter().map(|&b| char::from(b)).collect();
    let text = text.trim_start_matches("\r\n");
    assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1);
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "no line ends otherwise");
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(words.len(), 3);
    assert_eq!(words[0], head.method.as_str());
    assert!(words[1].bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    assert_eq!(words[2] == "HTTP/1.0", head.version == Version::HTTP_10);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), head.fields.len());
    for (line, field) in lines.into_iter().zip(head.fields.iter()) {
        let (name, value) = line.split_once(':').unwrap();
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']));
        let bytes = |text: &str| -> Vec<u8> { text.chars().map(|c| c as u8).collect() };
        assert_eq!((field.name(), field.value()), (name.as_bytes(), &bytes(value)[..]), "{line:?}");
        // As it travels on.
        assert_eq!(field.line(), bytes(&format!("{name}: {value}\r\n")));
        assert!(head.fields.get_all(name.as_str()).eq(head::all(&head.fields, &name)));
    }
}

/// The same names, values and order.
fn is_what_a_library_finds(bytes: &[u8], head: &RequestHead) {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut read = httparse::Request::new(&mut fields);
    let mut bytes = begun(bytes).to_vec();
    // It knows no minor version above 1; RFC 9110 section 2.5 takes them for that.
    let minor = bytes.iter().position(|&b| b == b'\r').expect("a line ends") - 1;
    bytes[minor] = bytes[minor].min(b'1');

    assert_eq!(read.parse(&bytes), Ok(Status::Complete(bytes.len())));
    assert_eq!(read.method, Some(head.method.as_str()));
    assert_eq!(read.version, Some(u8::from(head.version == Version::HTTP_11)));
    assert_eq!(head::found_pairs(read.headers), head::pairs(&head.fields));
}
