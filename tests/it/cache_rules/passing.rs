//! What passes the cache by, unchanged.

use super::table::Want::{Age, AskedBy, AskedWith, Body, Field, Hit, Interims, Miss, NoField, Status};
use super::table::{check, rule};

const FRESH: &str = "200 | Cache-Control: max-age=100000 | Date: @0";

#[test]
fn interim_responses_pass_and_are_not_stored() {
    let hints = "103 | Link: </styles.css>; rel=preload; as=style | X-My-Header: test";
    check([
        rule("interim-102").then("GET", format!("102 || {FRESH}"), &[Miss, Interims(&[102])]).then(
            "GET",
            "200",
            &[Hit, Interims(&[])],
        ),
        rule("interim-103").then("GET", format!("{hints} || {FRESH}"), &[Miss, Interims(&[103])]).then(
            "GET",
            "200",
            &[Hit],
        ),
        rule("interim-not-cached").then("GET", format!("{hints} || {FRESH}"), &[Miss]).then(
            "GET",
            "200",
            &[Hit, Interims(&[])],
        ),
        rule("interim-no-header-reuse")
            .then("GET", format!("{hints} || {FRESH}"), &[Miss, NoField("x-my-header"), NoField("link")])
            .then("GET", "200", &[Hit, NoField("x-my-header"), NoField("link")]),
        rule("own-interim-with-a-lifetime")
            .then("GET", "103 | Cache-Control: max-age=100000 || 200", &[Miss, Interims(&[103])])
            .then("GET", "200", &[Miss]),
        rule("own-several-interims")
            .then("GET", format!("102 || {hints} || {FRESH}"), &[Miss, Interims(&[102, 103])])
            .then("GET", "200", &[Hit]),
        rule("own-interim-of-a-validation")
            .then("GET", "200 | Cache-Control: max-age=60 | Age: 100 | ETag: \"a\"", &[Miss])
            .then(
                "GET",
                format!("{hints} || 304 | Cache-Control: max-age=3600"),
                &[Interims(&[103]), Status(200)],
            )
            .then("GET", "200", &[Hit, NoField("x-my-header")]),
    ]);
}

#[test]
fn statuses_that_nobody_knows_pass() {
    check([299, 418, 499, 599].map(|status| {
        rule(format!("own-status-{status}-passes"))
            .then("GET", format!("{status} Odd | Cache-Control: no-store"), &[Miss, Status(status)])
            .then("GET", "200", &[Miss])
    }));
}

#[test]
fn methods_that_change_something_pass_with_their_bodies() {
    check(["PUT", "POST", "DELETE", "PATCH", "M-SEARCH"].map(|method| {
        rule(format!("own-{method}-passes")).then("GET", FRESH, &[Miss]).then(
            format!("{method} | If-None-Match: * | = abc"),
            "200",
            &[Miss, AskedBy(method), AskedWith("if-none-match", "*"), AskedWith("content-length", "3")],
        )
    }));
}

#[test]
fn preconditions_are_the_servers_to_judge() {
    let precondition = |id: &str, name: &'static str, value: &'static str| {
        rule(id)
            .then("GET", format!("{FRESH} | ETag: \"a\" | Last-Modified: @-3000 | = stored"), &[Miss])
            .then(
                format!("GET | {name}: {value}"),
                "412 | Cache-Control: max-age=60",
                &[Miss, Status(412), AskedWith(name, value)],
            )
            .then("GET", "200", &[Hit, Status(200), Body("stored")])
    };
    check([
        precondition("gap-180-if-match", "If-Match", "\"b\""),
        precondition("gap-180-if-match-same", "If-Match", "\"a\""),
        precondition("gap-180-if-unmodified-since", "If-Unmodified-Since", "@-5000"),
        // Alone, too, what it is answered with is not for others.
        rule("gap-180-412-is-not-stored")
            .then("GET | If-Match: \"b\"", "412 | Cache-Control: max-age=60", &[Miss])
            .then("GET", "200", &[Miss]),
    ]);
}

#[test]
fn requests_about_something_else_than_their_target_pass_and_leave_nothing() {
    let passed = |id: &str, fields: &str| {
        rule(id)
            .then(format!("GET | {fields}"), FRESH, &[Miss])
            .then("GET", FRESH, &[Miss])
            .then("GET", "200", &[Hit])
            .then(format!("GET | {fields}"), "200", &[Miss])
    };
    check([
        passed("own-method-override", "X-HTTP-Method-Override: DELETE"),
        passed("own-original-url", "X-Original-URL: /admin"),
        passed("own-get-with-a-body", "X-A: 1 | = abc"),
    ]);
}

#[test]
fn what_a_server_says_of_its_own_cache_stays_and_ours_comes_after_it() {
    check([rule("own-cache-status-of-the-server")
        .then(
            "GET",
            "200 | Cache-Control: max-age=60 | Age: 20 | Cache-Status: origin; hit",
            &[Miss, Field("cache-status", "origin; hit, tidegate; fwd=uri-miss; stored")],
        )
        .then("GET", "200", &[Hit, Age(20)])]);
}
