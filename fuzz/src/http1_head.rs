//! A head of HTTP/1.1 is the same however its bytes arrive, and says just what a simple reader finds in it.

use bytes::Bytes;
use http::Version;
use http::request::Parts;
use tidegate::config::Limits;
use tidegate::front::http1::head::{BadHead, Scan, parse};

pub fn holds(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let limits = Limits { uri_bytes: 200, header_bytes: 800, headers: 10, ..Limits::default() };
    let read = |scan: &mut Scan, bytes: &[u8]| -> Result<Option<(usize, Parts)>, BadHead> {
        let Some(place) = scan.find(bytes, &limits)? else { return Ok(None) };
        let head = Bytes::copy_from_slice(&bytes[place.begin..place.end]);
        parse(&head, &limits).map(|parts| Some((place.end, parts)))
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
            assert_eq!((&one.method, &one.uri, &one.headers), (&other.method, &other.uri, &other.headers));
            is_what_a_simple_reader_finds(&bytes[..*end], one);
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

fn is_what_a_simple_reader_finds(bytes: &[u8], parts: &Parts) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches("\r\n");
    assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1);
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "no line ends otherwise");
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
    let mut lines = text.lines();
    let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(words.len(), 3);
    assert_eq!(words[0], parts.method.as_str());
    assert!(words[1].bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    assert_eq!(words[2] == "HTTP/1.0", parts.version == Version::HTTP_10);
    let fields: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    assert_eq!(fields.len(), parts.headers.len());
    for line in fields {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim_matches([' ', '\t']);
        let is_there = |held: &http::HeaderValue| String::from_utf8_lossy(held.as_bytes()) == value;
        assert!(parts.headers.get_all(name).iter().any(is_there), "{line:?}");
    }
}
