//! Interim responses (RFC 9110 section 15.2).

use http::StatusCode;

use crate::fields::Fields;

/// Interim responses before one final response; more is the server's fault. 16: a page has one or two 103, and
/// a 102 every 20 s comes three times before the first byte is late.
pub const INTERIMS_MAX: usize = 16;

/// The head of one; there is no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interim {
    /// 1xx, never 101.
    pub status: StatusCode,
    /// As the server sent them.
    pub fields: Fields,
}
