//! A probe by gRPC's own protocol: `grpc.health.v1.Health/Check` over HTTP/2.
//!
//! Its two messages have one field each, so they are written and read by hand here; `h2` is used as it is, because
//! one stream on one connection needs nothing of what stands above it.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::Builder;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::{Scheme, Uri};
use http::{HeaderMap, HeaderValue, Request, StatusCode};

use crate::config::GrpcProbe;
use crate::net::Stream;
use crate::upstream::probe::Driven;
use crate::upstream::probe::bounded::Bounded;
use crate::upstream::probe::failure::Failure;
use crate::upstream::probe::http::AGENT;

/// What TLS must agree on.
pub(super) const ALPN: &str = "h2";

const METHOD: &str = "/grpc.health.v1.Health/Check";
const KIND: HeaderValue = HeaderValue::from_static("application/grpc");

/// Bytes of an answer: it has seven, and room for fields that a later version may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// All fields of an answer's head, or of its trailers.
const HEADER_LIST_BYTES: u32 = 16 * 1024;

pub(super) async fn ask(
    stream: Stream,
    probe: &GrpcProbe,
    host: &str,
    timeout: Duration,
) -> Result<(), Failure> {
    let scheme = match &stream {
        Stream::Plain(_) => Scheme::HTTP,
        Stream::Tls(_) if stream.alpn() != Some(ALPN.as_bytes()) => return Err(Failure::NoHttp2),
        Stream::Tls(_) => Scheme::HTTPS,
    };
    let request = request(probe, scheme, host, timeout).map_err(Failure::Request)?;
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(HEADER_LIST_BYTES);
    let (client, connection) = builder.handshake(Bounded::new(stream)).await.map_err(Failure::Http2)?;
    let _driven = Driven::spawn(connection);
    let mut client = client.ready().await.map_err(Failure::Http2)?;
    let (answer, mut sending) = client.send_request(request, false).map_err(Failure::Http2)?;
    sending.send_data(question(&probe.service), true).map_err(Failure::Http2)?;

    let (head, mut body) = answer.await.map_err(Failure::Http2)?.into_parts();
    // Before the body: a page that says 404 in HTML has nothing else to tell.
    check_head(head.status, &head.headers)?;
    let message = message(&mut body).await?;
    let trailers = body.trailers().await.map_err(Failure::Http2)?;
    // An answer without a message has its trailers in its head.
    check_rest(trailers.as_ref().unwrap_or(&head.headers), &message)
}

async fn message(body: &mut RecvStream) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        message.extend_from_slice(&data.map_err(Failure::Http2)?);
        if message.len() > ANSWER_BYTES_MAX {
            return Err(Failure::NotGrpc("it is too long".to_owned()));
        }
    }
    Ok(message)
}

fn request(probe: &GrpcProbe, scheme: Scheme, host: &str, timeout: Duration) -> http::Result<Request<()>> {
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(METHOD).build()?;
    let mut request = Request::post(uri)
        .header(CONTENT_TYPE, KIND)
        .header(TE, "trailers")
        .header("grpc-timeout", format!("{}m", timeout.as_millis()))
        .body(())?;
    let headers = request.headers_mut();
    headers.extend(probe.headers.iter().cloned());
    headers.entry(USER_AGENT).or_insert(AGENT);
    Ok(request)
}

/// HTTP's status, then the type.
fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    if status != StatusCode::OK {
        return Err(Failure::Status(status.as_u16()));
    }
    let kind = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    // "application/grpc", perhaps with "+proto" or parameters; "application/grpc-web" is another protocol.
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';'])) {
        return Ok(());
    }
    Err(Failure::NotGrpc(format!("its content-type is {kind:?}")))
}

/// gRPC's status, then the message.
fn check_rest(trailers: &HeaderMap, message: &[u8]) -> Result<(), Failure> {
    match text(trailers, "grpc-status") {
        Some(code) if code == "0" => {}
        Some(code) => {
            return Err(Failure::Grpc { code, message: text(trailers, "grpc-message").unwrap_or_default() });
        }
        None => return Err(Failure::NotGrpc("it has no grpc-status".to_owned())),
    }
    match status_in(message) {
        Some(SERVING) => Ok(()),
        Some(0) => Err(Failure::NotServing("UNKNOWN")),
        Some(2) => Err(Failure::NotServing("NOT_SERVING")),
        Some(3) => Err(Failure::NotServing("SERVICE_UNKNOWN")),
        Some(_) => Err(Failure::NotServing("what no version knows")),
        None => Err(Failure::NotGrpc("its message cannot be read".to_owned())),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

// Protocol buffers, as far as they are needed. `HealthCheckRequest { string service = 1; }`,
// `HealthCheckResponse { ServingStatus status = 1; }`; a tag is the field's number and the kind of what follows.

/// `ServingStatus::SERVING`.
const SERVING: u64 = 1;
const SERVICE_TAG: u8 = 1 << 3 | LENGTH;
const STATUS_FIELD: u64 = 1;
const VARINT: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const LENGTH: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// The question, behind gRPC's prefix: not compressed, so long.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    // A field with its default is left out.
    if !service.is_empty() {
        message.push(SERVICE_TAG);
        push_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).expect("a service's name has a limit in the configuration");
    let prefix = [&[0][..], &length.to_be_bytes()].concat();
    [prefix, message].concat().into()
}

fn push_varint(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// The status in an answer behind its prefix; `None` when it is no such message, or a compressed one, which nobody
/// asked for.
pub fn status_in(answer: &[u8]) -> Option<u64> {
    let (prefix, mut message) = answer.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    if u32::from_be_bytes(length) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match (tag & 7) as u8 {
            VARINT => {
                let value = varint(&mut message)?;
                // Of a field that is there twice, the last counts.
                status = if tag >> 3 == STATUS_FIELD { value } else { status };
                0
            }
            EIGHT_BYTES => 8,
            LENGTH => usize::try_from(varint(&mut message)?).ok()?,
            FOUR_BYTES => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

/// Seven bits a byte, the lowest first; the last one has no eighth.
fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);

        let long = question(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        assert_eq!(long.len(), 5 + 203);
    }

    #[test]
    fn an_answers_status_is_read_and_nothing_else_of_it() {
        for (message, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 1], Some(129)),
            // Twice: the last counts.
            (&[0, 0, 0, 0, 4, 8, 2, 8, 1], Some(1)),
            // Fields that no version has yet: a number, bytes, eight of them, four of them.
            (&[0, 0, 0, 0, 4, 16, 7, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 6, 8, 1, 18, 2, 8, 2], Some(1)),
            (&[0, 0, 0, 0, 11, 17, 8, 2, 8, 2, 8, 2, 8, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 7, 21, 8, 2, 8, 2, 8, 1], Some(1)),
            // Compressed, cut off, too long, a tag without a value, an unknown kind, a number without an end.
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 1, 1], None),
            (&[0, 0, 0, 0, 1, 8], None),
            (&[0, 0, 0, 0, 2, 11, 1], None),
            (&[0, 0, 0, 0, 2, 18, 9], None),
            (&[0, 0, 0, 0, 12, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], None),
            (&[0, 0], None),
            (&[], None),
        ] {
            assert_eq!(status_in(message), expected, "{message:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_the_reader_panic(message in proptest::collection::vec(0_u8.., 0..40)) {
            let length = (message.len() as u32).to_be_bytes();
            status_in(&[&[0], &length[..], &message].concat());
        }
    }

    #[test]
    fn only_the_head_of_a_grpc_answer_will_do() {
        for (status, kind, expected) in [
            (200, "application/grpc", None),
            (200, "application/grpc+proto", None),
            (200, "application/grpc;x=y", None),
            (503, "application/grpc", Some("status 503")),
            (
                200,
                "application/grpc-web",
                Some("the answer is not gRPC: its content-type is \"application/grpc-web\""),
            ),
            (200, "", Some("the answer is not gRPC: its content-type is \"\"")),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            let said = check_head(StatusCode::from_u16(status).unwrap(), &headers);
            assert_eq!(said.err().map(|failure| failure.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn only_a_service_that_serves_is_well() {
        const WELL: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
        const ILL: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
        type Trailers<'a> = &'a [(&'static str, &'static str)];
        let ok: Trailers<'_> = &[("grpc-status", "0")];
        let cases: &[(Trailers<'_>, &[u8], Option<&str>)] = &[
            (ok, WELL, None),
            (ok, ILL, Some("the service says NOT_SERVING")),
            (ok, &[0, 0, 0, 0, 0], Some("the service says UNKNOWN")),
            (ok, &[0, 0, 0, 0, 2, 8, 3], Some("the service says SERVICE_UNKNOWN")),
            (ok, &[0; 3], Some("the answer is not gRPC: its message cannot be read")),
            (&[], WELL, Some("the answer is not gRPC: it has no grpc-status")),
            (&[("grpc-status", "14")], WELL, Some("grpc-status 14")),
            (
                &[("grpc-status", "5"), ("grpc-message", "unknown service")],
                &[],
                Some("grpc-status 5: unknown service"),
            ),
        ];
        for (trailers, message, expected) in cases {
            let fields = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let said = check_rest(&fields.collect(), message);
            assert_eq!(said.err().map(|failure| failure.to_string()).as_deref(), *expected);
        }
    }
}
