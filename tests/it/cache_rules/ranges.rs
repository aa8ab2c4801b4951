//! Parts of a representation (RFC 9110 §14): taken from a whole, stored, joined, or left to the server.

use super::table::Want::{
    AskedWith, AskedWithout, Body, Field, Hit, Miss, NoField, Status, Unasked, Validated,
};
use super::table::{Rule, Want, check, rule};

const FRESH: &str = "Cache-Control: max-age=3600 | Date: @0";

/// Ten bytes are stored, and then a part of them is asked for.
fn of_whole(id: &str, fields: &str, ask: &str, wants: &[Want]) -> Rule {
    rule(id).then("GET", format!("200 | {FRESH}{fields} | = 0123456789"), &[Miss]).then(
        format!("GET | {ask}"),
        "200 | X-Second: 1",
        wants,
    )
}

fn part(range: &str, fields: &str, body: &str) -> String {
    format!("206 | {FRESH} | Content-Range: bytes {range}{fields} | = {body}")
}

#[test]
fn a_stored_whole_answers_for_its_parts() {
    let part = |body, range| [Hit, Status(206), Body(body), Field("content-range", range)];
    check([
        of_whole("partial-store-complete-reuse-partial", "", "Range: bytes=0-1", &part("01", "bytes 0-1/10")),
        of_whole(
            "partial-store-complete-reuse-partial-no-last",
            "",
            "Range: bytes=1-",
            &part("123456789", "bytes 1-9/10"),
        ),
        of_whole(
            "partial-store-complete-reuse-partial-suffix",
            "",
            "Range: bytes=-1",
            &part("9", "bytes 9-9/10"),
        ),
        of_whole("own-range-over-the-end", "", "Range: bytes=8-99", &part("89", "bytes 8-9/10")),
        of_whole("own-range-all", "", "Range: bytes=0-", &part("0123456789", "bytes 0-9/10")),
        of_whole("own-range-suffix-over", "", "Range: bytes=-99", &part("0123456789", "bytes 0-9/10")),
        of_whole("own-range-length", "", "Range: bytes=2-4", &[Hit, Field("content-length", "3")]),
        of_whole("partial-use-headers", " | A: 1", "Range: bytes=0-1", &[Hit, NoField("x-second")]),
        of_whole("partial-use-stored-headers", " | A: 1", "Range: bytes=0-1", &[Hit, Field("a", "1")]),
        of_whole("own-range-other-unit", "", "Range: lines=0-1", &[Miss, AskedWith("range", "lines=0-1")]),
        rule("own-range-of-head").then("GET", format!("200 | {FRESH} | = 0123456789"), &[Miss]).then(
            "HEAD | Range: bytes=0-1",
            "200",
            &[Hit, Status(200), Field("content-length", "10")],
        ),
        rule("own-range-of-an-error").then("GET", format!("404 | {FRESH} | = 0123456789"), &[Miss]).then(
            "GET | Range: bytes=0-1",
            "200",
            &[Hit, Status(404), Body("0123456789")],
        ),
    ]);
}

#[test]
fn a_part_that_is_not_there_is_416() {
    let wants =
        [Unasked, Status(416), Body(""), Field("content-range", "bytes */10"), Field("content-length", "0")];
    check([
        of_whole("gap-192-416", "", "Range: bytes=10-", &wants),
        of_whole("gap-192-416-far", "", "Range: bytes=100-200", &wants),
        of_whole("gap-192-416-no-bytes", "", "Range: bytes=-0", &wants),
        of_whole("gap-192-416-then-whole", "", "Range: bytes=10-", &wants).then(
            "GET",
            "200",
            &[Hit, Status(200)],
        ),
        // What no bytes were found for is one range; it says nothing of the rest.
        rule("gap-192-416-of-the-server")
            .then("GET | Range: bytes=10-", format!("416 | {FRESH} | Content-Range: bytes */10"), &[Miss])
            .then("GET", format!("200 | {FRESH}"), &[Miss])
            .then("GET", "200", &[Hit, Status(200)]),
    ]);
}

#[test]
fn if_range_gives_a_part_of_that_very_representation_or_the_whole() {
    let when = |id: &str, fields: &str, condition: &str, status| {
        let ask = format!("Range: bytes=0-1 | If-Range: {condition}");
        let body = if status == 206 { "01" } else { "0123456789" };
        of_whole(id, fields, &ask, &[Hit, Status(status), Body(body)])
    };
    let (strong, weak) = (" | ETag: \"a\"", " | ETag: W/\"a\"");
    let dated = " | Last-Modified: @-5000";
    check([
        when("gap-181-if-range-strong", strong, "\"a\"", 206),
        when("gap-181-if-range-other", strong, "\"b\"", 200),
        when("gap-181-if-range-weak", weak, "W/\"a\"", 200),
        when("gap-181-if-range-weak-of-strong", strong, "W/\"a\"", 200),
        when("gap-181-if-range-date", dated, "@-5000", 206),
        when("gap-181-if-range-later-date", dated, "@-4000", 200),
        when("gap-181-if-range-earlier-date", dated, "@-6000", 200),
        // Modified in the very second in which it was sent: it may have changed since.
        when("gap-181-if-range-weak-date", " | Last-Modified: @0", "@0", 200),
        when("gap-181-if-range-unknown-date", "", "@-5000", 200),
        when("gap-181-if-range-no-date", dated, "yesterday", 200),
    ]);
    check([rule("gap-181-if-range-to-the-server").then(
        "GET | Range: bytes=0-1 | If-Range: \"a\"",
        "206 | Content-Range: bytes 0-1/10 | = 01",
        &[Miss, AskedWith("range", "bytes=0-1"), AskedWith("if-range", "\"a\"")],
    )]);
}

#[test]
fn a_stored_part_answers_for_what_lies_within_it() {
    // The suite's server says six bytes and sends five; the last is not here.
    let stored = |id: &str| {
        rule(id).then(
            "GET | Range: bytes=-5",
            part("4-9/10", "", "01234"),
            &[Miss, AskedWith("range", "bytes=-5"), Field("content-range", "bytes 4-9/10")],
        )
    };
    check([
        stored("partial-store-partial-reuse-partial").then(
            "GET | Range: bytes=-5",
            "200",
            &[Hit, Status(206), Body("01234")],
        ),
        stored("partial-store-partial-reuse-partial-byterange").then(
            "GET | Range: bytes=6-8",
            "200",
            &[Hit, Status(206), Body("234"), Field("content-range", "bytes 6-8/10")],
        ),
        stored("partial-store-partial-reuse-partial-absent").then("GET | Range: bytes=6-", "200", &[Miss]),
        stored("partial-store-partial-reuse-partial-suffix").then("GET | Range: bytes=-1", "200", &[Miss]),
        stored("own-part-is-not-the-whole").then("GET", "200", &[Miss, AskedWithout("range")]),
        stored("own-part-before").then("GET | Range: bytes=3-5", "200", &[Miss]),
        stored("own-part-head").then("HEAD", "200", &[Miss]),
    ]);
    let ten = |id: &str| rule(id).then("GET | Range: bytes=2-7", part("2-7/10", "", "234567"), &[Miss]);
    check([
        ten("own-part-inside")
            .then("GET | Range: bytes=3-4", "200", &[Hit, Body("34"), Field("content-range", "bytes 3-4/10")]),
        ten("own-part-edges").then("GET | Range: bytes=2-7", "200", &[Hit, Body("234567")]),
        ten("own-part-over").then("GET | Range: bytes=3-8", "200", &[Miss]),
        rule("gap-190-heuristic-206-cached")
            .then("GET | Range: bytes=0-1", "206 | Last-Modified: @-86400 | Content-Range: bytes 0-1/10 | = 01", &[Miss])
            .then("GET | Range: bytes=0-1", "200", &[Hit, Status(206)]),
        rule("own-part-stale")
            .then("GET | Range: bytes=0-1",
                  "206 | Cache-Control: max-age=60 | Age: 100 | ETag: \"a\" | Content-Range: bytes 0-1/10 | = 01", &[Miss])
            .then("GET | Range: bytes=0-1", "200", &[Miss]),
        rule("own-part-unasked")
            .then("GET", part("0-1/10", "", "01"), &[Miss])
            .then("GET", "200", &[Miss]),
        rule("own-part-untold")
            .then("GET | Range: bytes=0-1", format!("206 | {FRESH} | = 01"), &[Miss])
            .then("GET | Range: bytes=0-1", "200", &[Miss]),
        // What contradicts itself is nobody's to put together.
        rule("own-part-longer-than-its-range")
            .then("GET | Range: bytes=0-1", part("0-1/10", "", "01234"), &[Miss])
            .then("GET | Range: bytes=0-1", "200", &[Miss]),
        rule("own-part-of-two-places")
            .then("GET | Range: bytes=0-1", part("0-1/10", " | Content-Range: bytes 4-5/10", "01"), &[Miss])
            .then("GET | Range: bytes=0-1", "200", &[Miss]),
        rule("own-part-if-range-other")
            .then("GET | Range: bytes=0-4", part("0-4/10", " | ETag: \"a\"", "01234"), &[Miss])
            .then("GET | Range: bytes=0-1 | If-Range: \"b\"", "200 | = 0123456789", &[Miss, AskedWith("if-range", "\"b\"")]),
    ]);
}

#[test]
fn parts_of_one_representation_become_larger_ones() {
    let first = |id: &str, etag: &str| {
        rule(id).then(
            "GET | Range: bytes=0-4",
            part("0-4/10", &format!(" | ETag: {etag} | A: 1"), "01234"),
            &[Miss],
        )
    };
    let second = |rule: Rule, etag: &str| {
        rule.then(
            "GET | Range: bytes=5-9",
            part("5-9/10", &format!(" | ETag: {etag} | B: 2"), "56789"),
            &[Miss],
        )
    };
    check([
        second(first("gap-189-two-parts-are-the-whole", "\"a\""), "\"a\"").then(
            "GET",
            "200",
            &[
                Unasked,
                Status(200),
                Body("0123456789"),
                Field("content-length", "10"),
                NoField("content-range"),
                Field("a", "1"),
                Field("b", "2"),
            ],
        ),
        second(first("gap-189-a-part-of-both", "\"a\""), "\"a\"").then(
            "GET | Range: bytes=3-6",
            "200",
            &[Hit, Status(206), Body("3456"), Field("content-range", "bytes 3-6/10")],
        ),
        second(first("gap-189-another-etag", "\"a\""), "\"b\"").then("GET", "200", &[Miss]),
        second(first("gap-189-weak-etags", "W/\"a\""), "W/\"a\"").then("GET", "200", &[Miss]),
        first("gap-189-overlap", "\"a\"")
            .then("GET | Range: bytes=3-7", part("3-7/10", " | ETag: \"a\"", "34567"), &[Miss])
            .then("GET | Range: bytes=0-7", "200", &[Hit, Body("01234567")])
            .then("GET", "200", &[Miss]),
        first("gap-189-hole", "\"a\"")
            .then("GET | Range: bytes=6-9", part("6-9/10", " | ETag: \"a\"", "6789"), &[Miss])
            .then("GET", "200", &[Miss]),
        first("own-whole-replaces-parts", "\"a\"")
            .then("GET", format!("200 | {FRESH} | ETag: \"b\" | = abcdefghij"), &[Miss])
            .then("GET | Range: bytes=0-1", "200", &[Hit, Body("ab")]),
    ]);
}

#[test]
fn several_ranges_are_the_servers_to_put_together() {
    let multipart =
        "206 | Cache-Control: max-age=60 | Content-Type: multipart/byteranges; boundary=x | = --x--";
    check([
        of_whole(
            "gap-193-multipart-stored",
            "",
            "Range: bytes=0-1,4-5",
            &[Miss, AskedWith("range", "bytes=0-1,4-5")],
        )
        .then("GET", "200", &[Hit, Body("0123456789")]),
        rule("gap-193-multipart-passed")
            .then(
                "GET | Range: bytes=0-1,4-5",
                multipart,
                &[Miss, Status(206), Field("content-type", "multipart/byteranges; boundary=x")],
            )
            .then("GET | Range: bytes=0-1,4-5", "200", &[Miss])
            .then("GET", "200", &[Miss]),
        rule("gap-193-multipart-for-one-range").then("GET | Range: bytes=0-1", multipart, &[Miss]).then(
            "GET | Range: bytes=0-1",
            "200",
            &[Miss],
        ),
    ]);
}

#[test]
fn a_range_of_a_stale_whole_is_taken_from_it_when_it_has_been_validated() {
    let stale = "Cache-Control: max-age=60 | Age: 100 | ETag: \"a\" | Last-Modified: @-5000 | Date: @0";
    let asked = |id: &str, ask: &str, answer: &str, wants: &[Want]| {
        rule(id).then("GET", format!("200 | {stale} | = 0123456789"), &[Miss]).then(
            format!("GET | {ask}"),
            answer,
            wants,
        )
    };
    let part = |body| [Validated, AskedWithout("range"), AskedWithout("if-range"), Status(206), Body(body)];
    let new = format!("200 | {FRESH} | ETag: \"b\" | = abcdefghij");
    check([
        asked("own-range-stale-suffix", "Range: bytes=-2", "304", &part("89")),
        asked("own-range-stale-over", "Range: bytes=8-99", "304", &part("89")),
        asked("own-range-stale-if-range", "Range: bytes=0-1 | If-Range: \"a\"", "304", &part("01")),
        asked(
            "own-range-stale-if-range-other",
            "Range: bytes=0-1 | If-Range: \"b\"",
            "304",
            &[Validated, Status(200), Body("0123456789")],
        ),
        asked(
            "own-range-stale-unsatisfiable",
            "Range: bytes=10-",
            "304",
            &[Validated, Status(416), Field("content-range", "bytes */10"), Body("")],
        ),
        asked(
            "own-range-stale-if-none-match",
            "Range: bytes=0-1 | If-None-Match: \"a\"",
            "304",
            &[Validated, Status(304), Body("")],
        ),
        // A whole may be answered with (RFC 9110 section 14.2), and is stored for those who come.
        asked("own-range-stale-replaced", "Range: bytes=0-1", &new, &[Miss, Status(200)]).then(
            "GET | Range: bytes=0-1",
            "200",
            &[Hit, Status(206), Body("ab")],
        ),
        asked(
            "own-ranges-of-a-stale-whole",
            "Range: bytes=0-1,4-5",
            "206 | Content-Type: multipart/byteranges; boundary=x | = --x--",
            &[Miss, Status(206), AskedWith("range", "bytes=0-1,4-5"), AskedWithout("if-none-match")],
        )
        .then("GET", "304", &[Validated, Body("0123456789")]),
    ]);
}

#[test]
fn what_a_stored_part_does_not_hold_is_asked_for() {
    let stored = |id: &str| {
        rule(id).then("GET | Range: bytes=2-7", part("2-7/10", " | ETag: \"a\"", "234567"), &[Miss])
    };
    let at = |id: &str, ask: &str, wants: &[Want]| {
        stored(id).then(format!("GET | {ask}"), "200 | = 0123456789", wants)
    };
    check([
        at("own-part-suffix-within", "Range: bytes=-3", &[Miss, AskedWith("range", "bytes=-3")]),
        at("own-part-open-within", "Range: bytes=2-", &[Miss]),
        // Beyond the end: the server says so, of what there is now.
        at("gap-192-outside-a-part", "Range: bytes=8-9", &[Miss, AskedWith("range", "bytes=8-9")]),
        at("gap-192-416-of-a-part", "Range: bytes=10-", &[Miss, AskedWith("range", "bytes=10-")]),
        at("own-part-several", "Range: bytes=2-3,5-6", &[Miss, AskedWith("range", "bytes=2-3,5-6")]),
        at("own-part-other-unit", "Range: lines=2-3", &[Miss]),
        at("own-part-if-range", "Range: bytes=3-4 | If-Range: \"a\"", &[Hit, Status(206), Body("34")]),
        at("own-part-if-range-weak", "Range: bytes=3-4 | If-Range: W/\"a\"", &[Miss]),
        at("own-part-if-none-match", "Range: bytes=3-4 | If-None-Match: \"a\"", &[Hit, Status(304)]),
        at("own-part-no-cache", "Range: bytes=3-4 | Cache-Control: no-cache", &[Miss]),
        rule("own-part-of-unknown-length")
            .then("GET | Range: bytes=0-3", part("0-3/*", "", "0123"), &[Miss])
            .then("GET | Range: bytes=1-2", "200", &[Hit, Body("12"), Field("content-range", "bytes 1-2/*")])
            .then("GET | Range: bytes=1-", "200", &[Miss]),
        rule("own-part-no-store")
            .then(
                "GET | Range: bytes=0-1",
                "206 | Cache-Control: no-store | Content-Range: bytes 0-1/10 | = 01",
                &[Miss],
            )
            .then("GET | Range: bytes=0-1", "200", &[Miss]),
        rule("own-part-vary")
            .then("GET | Range: bytes=0-1 | Foo: 1", part("0-1/10", " | Vary: Foo", "01"), &[Miss])
            .then("GET | Range: bytes=0-1 | Foo: 2", "200", &[Miss])
            .then("GET | Range: bytes=0-1 | Foo: 1", "200", &[Hit]),
        // Without a strong validator nobody knows whether the rest would be of the same (RFC 9110 section 15.3.7.3).
        rule("partial-store-partial-complete")
            .then("GET | Range: bytes=-5", part("0-4/10", "", "01234"), &[Miss])
            .then("GET", "200", &[Miss, AskedWithout("range")]),
    ]);
}
