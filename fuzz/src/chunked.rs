//! A chunked body is the same however its bytes arrive, and what is read of it is what a simple reader finds.

use bytes::BytesMut;
use http::HeaderMap;
use tidegate::http1::chunked::{BadChunk, Chunked, Next};

/// Data, trailers, and what is left behind them; `None` when more is to come.
type Read = Result<Option<(Vec<u8>, HeaderMap, Vec<u8>)>, BadChunk>;

pub fn holds(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(size).max(1));

    assert_eq!(whole, pieces);
    if let Ok(Some((data, trailers, rest))) = whole {
        let end = bytes.len() - rest.len();
        assert_eq!(simple(&bytes[..end]), Some(data));
        assert!(trailers.len() <= 3);
    }
}

fn read(bytes: &[u8], piece: usize) -> Read {
    let mut chunked = Chunked::new(300, 3);
    let (mut buffer, mut data, mut pieces) = (BytesMut::new(), Vec::new(), bytes.chunks(piece));
    loop {
        let trailers = match chunked.next(&mut buffer)? {
            Next::Data(some) => {
                assert!(!some.is_empty());
                data.extend_from_slice(&some);
                continue;
            }
            Next::More => match pieces.next() {
                Some(piece) => {
                    buffer.extend_from_slice(piece);
                    continue;
                }
                None => return Ok(None),
            },
            Next::Trailers(trailers) => trailers,
            Next::End => HeaderMap::new(),
        };
        let rest = [&buffer[..], &pieces.collect::<Vec<_>>().concat()].concat();
        return Ok(Some((data, trailers, rest)));
    }
}

/// RFC 9112 section 7.1.3, as it stands there.
fn simple(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let line =
            std::str::from_utf8(bytes[..end].split(|b| matches!(b, b';' | b' ' | b'\t')).next()?).ok()?;
        let size = usize::from_str_radix(line, 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return (bytes == b"\r\n" || bytes.ends_with(b"\r\n\r\n")).then_some(data);
        }
        data.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
