//! What is served although it is stale (RFC 9111 §4.2.4, RFC 5861), and what never is.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::table::Want::{Age, AskedWith, Body, Field, Miss, NoField, Stale, Status, Validated};
use super::table::{HANGS_UP, Rule, STALE, check, check_with, rule};
use crate::support::{Gate, Origin, Proxy, eventually, one_route, reply};

const TAG: &str = "ETag: \"a\"";

/// What comes of a stale response with this Cache-Control, 100 seconds old, when the server answers so.
fn when(id: &str, control: &str, answer: &str, wants: &[super::table::Want]) -> Rule {
    rule(id)
        .then("GET", format!("200 | Cache-Control: {control} | Age: 100 | {TAG}"), &[Miss])
        .then("GET", answer, wants)
}

#[test]
fn a_stale_response_stands_in_when_no_server_answers() {
    let served = &[Stale, Status(200), Age(100)];
    check([
        when("stale-close", "max-age=60", HANGS_UP, served),
        when("stale-sie-close", "max-age=60, stale-if-error=600", HANGS_UP, served),
        // Obsolete since RFC 9111.
        when("stale-warning-become", "max-age=60", HANGS_UP, &[Stale, NoField("warning")]),
        when("stale-warning-stored", "max-age=60", HANGS_UP, &[Stale, NoField("warning")]),
        when(
            "own-stale-close-asks-first",
            "max-age=60",
            HANGS_UP,
            &[Stale, AskedWith("if-none-match", "\"a\"")],
        ),
        rule("own-stale-close-lm")
            .then("GET", format!("200 | {STALE} | Last-Modified: @-3000"), &[Miss])
            .then("GET", HANGS_UP, served),
        rule("own-stale-close-without-validator")
            .then("GET", "200 | Cache-Control: max-age=60, stale-if-error=600 | Age: 100", &[Miss])
            .then("GET", HANGS_UP, served),
        rule("own-stale-close-condition").then("GET", format!("200 | {STALE} | {TAG}"), &[Miss]).then(
            "GET | If-None-Match: \"a\"",
            HANGS_UP,
            &[Stale, Status(304)],
        ),
        // A client's no-cache asks for a validation, and there is nobody who could give it.
        rule("own-no-cache-of-the-client-close")
            .then("GET", "200 | Cache-Control: max-age=3600", &[Miss])
            .then("GET | Cache-Control: no-cache", HANGS_UP, &[Stale, Status(200)]),
        // Whatever of it is asked for.
        rule("own-stale-close-head")
            .then("GET", format!("200 | {STALE} | {TAG} | = 0123456789"), &[Miss])
            .then("HEAD", HANGS_UP, &[Stale, Status(200), Age(100), Field("content-length", "10")]),
        rule("own-stale-close-range")
            .then("GET", format!("200 | {STALE} | {TAG} | = 0123456789"), &[Miss])
            .then("GET | Range: bytes=0-1", HANGS_UP, &[Stale, Status(206), Body("01")]),
        rule("own-stale-close-range-without-validator")
            .then(
                "GET",
                "200 | Cache-Control: max-age=60, stale-if-error=600 | Age: 100 | = 0123456789",
                &[Miss],
            )
            .then("GET | Range: bytes=0-1", HANGS_UP, &[Stale, Status(206), Body("01")]),
        rule("own-stale-close-again")
            .then("GET", format!("200 | {STALE} | {TAG}"), &[Miss])
            .then("GET", HANGS_UP, served)
            .then("GET", "304", &[Validated]),
    ]);
}

#[test]
fn a_stale_response_never_stands_in_where_the_server_forbids_it() {
    let refused = &[Status(502)];
    check([
        when("stale-close-must-revalidate", "max-age=60, must-revalidate", HANGS_UP, refused),
        when("stale-close-proxy-revalidate", "max-age=60, proxy-revalidate", HANGS_UP, refused),
        when("stale-close-no-cache", "max-age=60, no-cache", HANGS_UP, refused),
        when("stale-close-s-maxage=2", "max-age=60, s-maxage=60", HANGS_UP, refused),
        when("own-sie-must-revalidate", "max-age=60, stale-if-error=600, must-revalidate", HANGS_UP, refused),
        when("own-sie-no-cache", "max-age=600, stale-if-error=600, no-cache", HANGS_UP, refused),
        rule("own-stale-close-head-must-revalidate")
            .then(
                "GET",
                format!("200 | Cache-Control: max-age=60, must-revalidate | Age: 100 | {TAG}"),
                &[Miss],
            )
            .then("HEAD", HANGS_UP, refused),
        when(
            "own-sie-503-must-revalidate",
            "max-age=60, stale-if-error=600, must-revalidate",
            "503",
            &[Miss],
        ),
        when(
            "own-sie-503-proxy-revalidate",
            "max-age=60, stale-if-error=600, proxy-revalidate",
            "503",
            &[Miss],
        ),
        when(
            "own-sie-s-maxage-must-revalidate",
            "s-maxage=60, stale-if-error=600, must-revalidate",
            HANGS_UP,
            refused,
        ),
        when(
            "own-sie-s-maxage-proxy-revalidate",
            "s-maxage=60, stale-if-error=600, proxy-revalidate",
            "503",
            &[Miss],
        ),
        when(
            "own-swr-s-maxage-proxy-revalidate",
            "s-maxage=60, stale-while-revalidate=600, proxy-revalidate",
            "304",
            &[Validated],
        ),
        // Beside s-maxage it can mean nothing else.
        when("own-sie-s-maxage", "s-maxage=60, stale-if-error=600", "503", &[Stale, Status(200)]),
    ]);
}

#[test]
fn an_error_is_replaced_within_the_window_and_not_after_it() {
    let windowed = "max-age=60, stale-if-error=600";
    check([
        when("stale-503", "max-age=60", "503", &[Miss]),
        when("stale-sie-503", windowed, "503", &[Stale, Status(200), Age(100)]),
        when("own-sie-500", windowed, "500", &[Stale, Status(200)]),
        when("own-sie-599", windowed, "599", &[Stale, Status(200)]),
        when("own-sie-404", windowed, "404", &[Miss]),
        rule("own-sie-503-head")
            .then("GET", format!("200 | Cache-Control: {windowed} | Age: 100 | {TAG}"), &[Miss])
            .then("HEAD", "503", &[Stale, Status(200)]),
        rule("own-sie-503-range-without-validator")
            .then("GET", format!("200 | Cache-Control: {windowed} | Age: 100 | = 0123456789"), &[Miss])
            .then("GET | Range: bytes=0-1", "503", &[Stale, Status(206), Body("01")]),
        rule("own-503-head").then("GET", format!("200 | {STALE} | {TAG}"), &[Miss]).then(
            "HEAD",
            "503",
            &[Miss, Status(503)],
        ),
        when("own-sie-over", "max-age=60, stale-if-error=10", "503", &[Miss]),
        // The server has set an end to its leave to replace errors; there is no error where there is no answer.
        when("own-sie-over-close", "max-age=60, stale-if-error=10", HANGS_UP, &[Stale, Status(200)]),
        rule("own-stale-close-too-old")
            .then("GET", format!("200 | Cache-Control: max-age=60 | Age: 1000 | {TAG}"), &[Miss])
            .then("GET", HANGS_UP, &[Status(502)]),
        // An error must not become its own stand-in.
        rule("own-error-is-no-stand-in").then("GET", format!("503 | {TAG} | = one"), &[Miss]).then(
            "GET",
            "503 | = two",
            &[Miss],
        ),
    ]);
    check_with(
        "cache = { stale-if-error = \"1h\" }",
        [
            when("own-operators-sie", "max-age=60", "503", &[Stale, Status(200)]),
            when("own-operators-sie-must-revalidate", "max-age=60, must-revalidate", "503", &[Miss]),
        ],
    );
}

#[test]
fn after_the_window_nobody_is_served_while_it_is_revalidated() {
    check([
        when("stale-while-revalidate-window", "max-age=60, stale-while-revalidate=10", "304", &[Validated]),
        when(
            "own-swr-must-revalidate",
            "max-age=60, stale-while-revalidate=600, must-revalidate",
            "304",
            &[Validated],
        ),
        when("own-swr-no-cache", "max-age=60, stale-while-revalidate=600, no-cache", "304", &[Validated]),
    ]);
}

/// Answers the first request with a response that may be served stale while it is revalidated, and each
/// later one with `later` once the gate is open.
fn behind_a_gate(gate: &Gate, later: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Origin {
    let (gate, count) = (gate.clone(), AtomicUsize::new(0));
    Origin::start(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            let fields =
                "Cache-Control: max-age=60, stale-while-revalidate=3600\r\nAge: 100\r\nETag: \"abc\"\r\n";
            return reply("200 OK", fields, "old");
        }
        gate.wait();
        later()
    })
}

/// The suite's `stale-while-revalidate`.
#[track_caller]
fn while_revalidating(later: fn() -> Vec<u8>, becomes: &str) {
    let gate = Gate::default();
    let origin = behind_a_gate(&gate, later);
    let proxy = Proxy::start(&one_route("cache = true", "eject = false", &[&origin]));
    proxy.get("/");

    let stale: Vec<String> = (0..3).map(|_| proxy.get("/").text()).collect();
    assert_eq!(stale, ["old"; 3]);
    assert!(!gate.is_open(), "nobody may wait for the validation");
    eventually("the server is asked behind their backs", || origin.count() == 2);

    gate.open();
    let mut answer = proxy.get("/");
    eventually("it is fresh", || {
        answer = proxy.get("/");
        answer.field("cache-status").is_some_and(|status| status.contains("; hit; ttl=3"))
    });
    assert_eq!((answer.text().as_str(), origin.count()), (becomes, 2), "one validation, for all");
    assert_eq!(origin.last().field("if-none-match"), Some("\"abc\""));
}

#[test]
fn stale_while_revalidate_serves_at_once_and_freshens_behind() {
    while_revalidating(
        || reply("304 Not Modified", "Cache-Control: max-age=3600\r\nETag: \"abc\"\r\n", ""),
        "old",
    );
}

#[test]
fn stale_while_revalidate_takes_a_new_response_behind() {
    while_revalidating(|| reply("200 OK", "Cache-Control: max-age=3600\r\nETag: \"def\"\r\n", "new"), "new");
}

#[test]
fn what_has_been_replaced_by_what_cannot_be_stored_is_not_served_while_it_is_revalidated() {
    for (status, fields, is_replaced) in [
        ("200 OK", "Cache-Control: private\r\n", true),
        ("404 Not Found", "", true),
        ("302 Found", "Location: /login\r\n", true),
        // An error says nothing of it.
        ("503 Service Unavailable", "", false),
        ("429 Too Many Requests", "", false),
    ] {
        let gate = Gate::default();
        let origin = behind_a_gate(&gate, move || reply(status, fields, "new"));
        let proxy = Proxy::start(&one_route("cache = true", "eject = false", &[&origin]));
        proxy.get("/");
        assert_eq!(proxy.get("/").text(), "old");
        eventually("the server is asked behind its back", || origin.count() == 2);

        gate.open();
        let not_stored = || proxy.metric("tidegate_cache_not_stored_total", &[]);
        eventually("its answer has come", || not_stored() == 1.0);

        assert_eq!(proxy.get("/").text(), if is_replaced { "new" } else { "old" }, "{status}");
    }
}
