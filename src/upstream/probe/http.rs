//! A probe over HTTP/1.1: one request on a connection of its own.

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::config::HttpProbe;
use crate::net::Stream;
use crate::upstream::probe::Driven;
use crate::upstream::probe::bounded::Bounded;
use crate::upstream::probe::failure::Failure;

/// What servers see in their logs, unless the operator chose otherwise.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static("tidegate-probe");

/// Bytes of a body that are looked at: a page of health is a page. What a server sends beyond it is not read.
const BODY_BYTES_MAX: usize = 64 * 1024;

// An answer's head has the limits of any response's.
const RESPONSE_HEADERS: usize = 100;
/// hyper reads a head into its buffer: one that does not fit is too large.
const RESPONSE_HEAD_BYTES: usize = 64 * 1024;

pub(super) async fn ask(stream: Stream, probe: &HttpProbe, host: &str) -> Result<(), Failure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(RESPONSE_HEADERS)
        .max_buf_size(RESPONSE_HEAD_BYTES)
        .handshake(TokioIo::new(Bounded::new(stream)))
        .await
        .map_err(Failure::Http)?;
    let _driven = Driven::spawn(connection);
    let request = request(probe, host).map_err(Failure::Request)?;
    let answer = sender.send_request(request).await.map_err(Failure::Http)?;

    let status = answer.status().as_u16();
    if !probe.expect.iter().any(|(low, high)| (*low..=*high).contains(&status)) {
        return Err(Failure::Status(status));
    }
    let Some(pattern) = &probe.body else { return Ok(()) };
    let body = beginning(answer.into_body()).await.map_err(Failure::Http)?;
    if pattern.is_in(&body) { Ok(()) } else { Err(Failure::Body) }
}

fn request(probe: &HttpProbe, host: &str) -> http::Result<Request<Empty<Bytes>>> {
    let mut request = Request::builder()
        .method(&probe.method)
        .uri(&probe.path)
        .header(HOST, host)
        .header(CONNECTION, "close")
        .body(Empty::new())?;
    let headers = request.headers_mut();
    headers.extend(probe.headers.iter().cloned());
    headers.entry(USER_AGENT).or_insert(AGENT);
    Ok(request)
}

/// All of a body, or as much as is looked at.
async fn beginning(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut read = Vec::new();
    while read.len() < BODY_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame?.into_data() else { continue };
        read.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - read.len())]);
    }
    Ok(read)
}
