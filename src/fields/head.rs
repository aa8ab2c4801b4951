//! Heads.

use bytes::Bytes;
use http::{Method, StatusCode, Uri, Version, request, response};

use super::Fields;

/// The head of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// The version in which it came.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// The version in which it came.
    pub version: Version,
    /// Its reason phrase, where that is not the usual one.
    pub reason: Option<Bytes>,
    /// Its fields.
    pub fields: Fields,
}

impl RequestHead {
    /// The same, changed.
    pub fn with(mut self, change: impl FnOnce(&mut RequestHead)) -> Self {
        change(&mut self);
        self
    }
}

impl ResponseHead {
    /// Of HTTP/1.1, without fields.
    pub fn new(status: StatusCode) -> Self {
        ResponseHead { status, version: Version::HTTP_11, reason: None, fields: Fields::new() }
    }
}

impl From<request::Parts> for RequestHead {
    fn from(parts: request::Parts) -> Self {
        let fields = Fields::from(&parts.headers);
        RequestHead { method: parts.method, uri: parts.uri, version: parts.version, fields }
    }
}

impl From<response::Parts> for ResponseHead {
    fn from(parts: response::Parts) -> Self {
        let fields = Fields::from(&parts.headers);
        ResponseHead { status: parts.status, version: parts.version, reason: None, fields }
    }
}
