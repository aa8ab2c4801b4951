//! The cache's rules (RFC 9110, 9111, 9213, 5861), each a row of a table and named as the public HTTP
//! cache suite of http-tests/cache-tests names its test, so that a row and a verdict can be laid side by
//! side; a word behind an id tells apart several rows for one test. `gap-N` is a rule that the suite does
//! not test yet, by its issue; `own-…` is a rule of ours.
//!
//! Nothing waits for seconds to pass: a response is stale because it arrives with an `Age`. What needs a
//! clock that moves is in the tables of `src/cache/policy.rs`.

mod table;

mod parsing;
mod passing;
mod ranges;
mod reusing;
mod stale;
mod storing;
mod targeted;
mod unsafe_methods;
mod validating;
