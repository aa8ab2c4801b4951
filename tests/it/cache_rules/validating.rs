//! Whether what is stored is still right: the server is asked, and what it says is taken over.

use super::table::Want::{
    AskedBy, AskedWith, AskedWithout, Body, Field, Hit, Miss, NoField, Status, Validated,
};
use super::table::{STALE, Want, check, rule};

/// Fresh again.
const FRESH: &str = "Cache-Control: max-age=3600 | Date: @0";

#[test]
fn a_stale_response_is_validated_by_all_that_it_has() {
    let validated = |id: &str, fields: &str, ask: &str, wants: &[Want]| {
        rule(id).then("GET", format!("200 | {STALE} | {fields}"), &[Miss]).then(
            ask,
            format!("304 | {fields}"),
            wants,
        )
    };
    check([
        validated(
            "conditional-etag-strong-generate",
            "ETag: \"abcdef\"",
            "GET",
            &[
                Validated,
                Status(200),
                AskedWith("if-none-match", "\"abcdef\""),
                AskedWithout("if-modified-since"),
            ],
        ),
        validated(
            "conditional-etag-weak-generate-weak",
            "ETag: W/\"abcdef\"",
            "GET",
            &[Validated, AskedWith("if-none-match", "W/\"abcdef\"")],
        ),
        validated(
            "conditional-etag-strong-generate-unquoted",
            "ETag: abcdef",
            "GET",
            &[Validated, AskedWith("if-none-match", "abcdef")],
        ),
        validated(
            "own-both-validators",
            "ETag: \"a\" | Last-Modified: @-3000",
            "GET",
            &[Validated, AskedWith("if-none-match", "\"a\""), AskedWith("if-modified-since", "@-3000")],
        ),
        validated(
            "conditional-lm-stale",
            "Last-Modified: @-3000",
            "GET | If-Modified-Since: @-3000",
            &[AskedWith("if-modified-since", "@-3000"), Status(304)],
        ),
        validated(
            "own-client-knows-another",
            "ETag: \"a\"",
            "GET | If-None-Match: \"b\"",
            &[Validated, Status(200), AskedWith("if-none-match", "\"a\"")],
        ),
        validated(
            "own-client-knows-a-later-date",
            "Last-Modified: @-3000",
            "GET | If-Modified-Since: @-10",
            &[AskedWith("if-modified-since", "@-3000"), Status(304)],
        ),
        validated(
            "own-lm-no-date-is-no-validator",
            "ETag: \"a\" | Last-Modified: yesterday",
            "GET",
            &[Validated, AskedWithout("if-modified-since")],
        ),
        rule("own-part-of-the-stale-whole")
            .then("GET", format!("200 | {STALE} | ETag: \"a\" | = 0123456789"), &[Miss])
            .then(
                "GET | Range: bytes=0-1",
                "304",
                &[Validated, AskedWithout("range"), Status(206), Body("01")],
            ),
    ]);
}

#[test]
fn a_validation_is_asked_with_the_fields_that_selected() {
    check([rule("conditional-etag-vary-headers")
        .then("GET | Abc: 123", format!("200 | {STALE} | ETag: \"abcdef\" | Vary: Abc"), &[Miss])
        .then(
            "GET | Abc: 123",
            "304",
            &[Validated, AskedWith("abc", "123"), AskedWith("if-none-match", "\"abcdef\"")],
        )]);
}

#[test]
fn a_304_updates_every_field_but_content_length() {
    let fields = [
        ("Test-Header", "a", "b"),
        ("X-Test-Header", "a", "b"),
        ("Content-Foo", "a", "b"),
        ("X-Content-Foo", "a", "b"),
        ("Content-Encoding", "a", "b"),
        ("Content-Location", "/foo", "/bar"),
        ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
        ("Content-Range", "a", "b"),
        ("Content-Security-Policy", "default-src 'self'", "default-src 'self' cdn.example.com"),
        ("Content-Type", "text/plain", "text/plain;charset=utf-8"),
        ("Clear-Site-Data", "cache", "cookies"),
        ("Expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
        ("Public-Key-Pins", "a", "b"),
        ("Set-Cookie", "a=b", "a=c"),
        ("Set-Cookie2", "a=b", "a=c"),
        ("X-Frame-Options", "deny", "sameorigin"),
        ("X-XSS-Protection", "1", "1; mode=block"),
        ("Date", "@-500", "@-5"),
    ];
    check(fields.map(|(name, old, new)| {
        let etag = " | ETag: \"a\"";
        rule(format!("304-etag-update-response-{name}"))
            .then("GET", format!("200 | {STALE} | {name}: {old}{etag}"), &[Miss])
            .then(
                "GET",
                format!("304 | Cache-Control: max-age=3600 | {name}: {new}{etag}"),
                &[Validated, Field(name, new)],
            )
            .then("GET", "200", &[Hit, Field(name, new)])
    }));
    check([
        // RFC 9111 section 4.3.4: a strong tag that is not the stored one's speaks of something else.
        rule("304-etag-update-response-ETag")
            .then("GET", format!("200 | {STALE} | ETag: \"abcdef\""), &[Miss])
            .then("GET", "304 | Cache-Control: max-age=3600 | ETag: \"ghijkl\"", &[Miss]),
        rule("304-etag-update-response-ETag-weak")
            .then("GET", format!("200 | {STALE} | ETag: W/\"abcdef\""), &[Miss])
            .then(
                "GET",
                "304 | Cache-Control: max-age=3600 | ETag: W/\"ghijkl\"",
                &[Validated, Field("etag", "W/\"ghijkl\"")],
            ),
        rule("304-etag-update-response-Cache-Control")
            .then("GET", format!("200 | {STALE} | ETag: \"a\""), &[Miss])
            .then(
                "GET",
                "304 | Cache-Control: max-age=3600 | ETag: \"a\"",
                &[Validated, Field("cache-control", "max-age=3600")],
            )
            .then("GET", "200", &[Hit, Field("cache-control", "max-age=3600")]),
        rule("304-etag-update-response-Content-Length")
            .then("GET", format!("200 | {STALE} | ETag: \"a\" | = 0123456789012345"), &[Miss])
            .then(
                "GET",
                format!("304 | {FRESH} | ETag: \"a\" | Content-Length: 10"),
                &[Validated, Field("content-length", "16")],
            )
            .then("GET", "200", &[Hit, Field("content-length", "16")]),
        rule("304-lm-use-stored-Test-Header")
            .then("GET", format!("200 | {STALE} | Last-Modified: @-3000 | Test-Header: a"), &[Miss])
            .then(
                "GET",
                format!("304 | {FRESH} | Last-Modified: @-3000"),
                &[Validated, Field("test-header", "a")],
            )
            .then("GET", "200", &[Hit, Field("test-header", "a")]),
        rule("own-304-lines-replace-lines")
            .then("GET", format!("200 | {STALE} | ETag: \"a\" | Link: <a> | Link: <b>"), &[Miss])
            .then(
                "GET",
                format!("304 | {FRESH} | Link: <c> | Link: <d>"),
                &[Validated, Field("link", "<c>, <d>")],
            ),
        rule("own-304-connection").then("GET", format!("200 | {STALE} | ETag: \"a\" | A: 1"), &[Miss]).then(
            "GET",
            format!("304 | {FRESH} | Connection: A | A: 2 | Keep-Alive: timeout=5"),
            &[Validated, Field("a", "1"), NoField("keep-alive")],
        ),
    ]);
}

#[test]
fn a_304_makes_a_response_fresh_again_on_its_own_terms() {
    let stored = |id: &str| rule(id).then("GET", format!("200 | {STALE} | ETag: \"a\""), &[Miss]);
    check([
        stored("gap-185-304-extends-freshness").then("GET", format!("304 | {FRESH}"), &[Validated]).then(
            "GET",
            "200",
            &[Hit],
        ),
        // Nothing about time: what was said before holds again, from now on.
        stored("own-304-silent").then("GET", "304", &[Validated]).then("GET", "200", &[Hit]),
        // The old Date would make it as old as it was before.
        rule("own-304-without-date")
            .then("GET", "200 | Cache-Control: max-age=60 | Date: @-100 | ETag: \"a\"", &[Miss])
            .then("GET", "304", &[Validated])
            .then("GET", "200", &[Hit]),
        stored("own-304-still-stale").then("GET", format!("304 | {STALE}"), &[Validated]).then(
            "GET",
            "304",
            &[Validated],
        ),
        stored("own-304-no-cache").then("GET", "304 | Cache-Control: no-cache", &[Validated]).then(
            "GET",
            "304",
            &[Validated],
        ),
        stored("own-304-no-store").then("GET", "304 | Cache-Control: no-store", &[Validated]).then(
            "GET",
            "200",
            &[Miss, AskedWithout("if-none-match")],
        ),
        stored("own-304-private").then("GET", "304 | Cache-Control: private", &[Validated]).then(
            "GET",
            "200",
            &[Miss, AskedWithout("if-none-match")],
        ),
    ]);
}

#[test]
fn another_answer_takes_the_place_of_a_stale_one() {
    let stored =
        |id: &str| rule(id).then("GET", format!("200 | {STALE} | ETag: \"a\" | A: 1 | = old"), &[Miss]);
    check([
        stored("gap-184-200-replaces-stale")
            .then(
                "GET",
                format!("200 | {FRESH} | ETag: \"b\" | = new"),
                &[Miss, AskedWith("if-none-match", "\"a\""), NoField("a")],
            )
            .then("GET", "200", &[Hit, Body("new"), Field("etag", "\"b\""), NoField("a")]),
        stored("own-404-replaces-stale").then("GET", format!("404 | {FRESH} | = gone"), &[Miss]).then(
            "GET",
            "200",
            &[Hit, Status(404), Body("gone")],
        ),
        stored("own-200-to-a-client-that-has-it")
            .then(
                "GET | If-None-Match: \"b\"",
                format!("200 | {FRESH} | ETag: \"b\" | = new"),
                &[Status(304)],
            )
            .then("GET", "200", &[Hit, Body("new")]),
    ]);
}

#[test]
fn head_is_answered_from_the_store_or_asked_as_head() {
    let stale = format!("200 | {STALE} | ETag: \"a\" | A: 1 | B: 1 | = 0123456789");
    let fresh = format!("200 | {FRESH} | ETag: \"a\" | A: 1 | = 0123456789");
    let again = "HEAD | Cache-Control: no-cache";
    let head = |more: &str| format!("200 | {FRESH}{more}");
    check([
        rule("own-head-fresh").then("GET", fresh.clone(), &[Miss]).then(
            "HEAD",
            "200",
            &[Hit, Status(200), Field("content-length", "10"), Field("a", "1")],
        ),
        rule("head-writethrough").then("GET", stale.clone(), &[Miss]).then(
            "HEAD",
            "200",
            &[AskedBy("HEAD"), Miss],
        ),
        rule("head-200-freshness-update")
            .then("GET", stale.clone(), &[Miss])
            .then("HEAD", head(" | = 0123456789"), &[AskedBy("HEAD")])
            .then("GET", "200", &[Hit, Body("0123456789")]),
        rule("head-200-update")
            .then("GET", stale.clone(), &[Miss])
            .then("HEAD", head(" | ETag: \"a\" | A: 2 | = 0123456789"), &[AskedBy("HEAD")])
            .then("GET", "200", &[Hit, Field("a", "2"), Field("b", "1"), Body("0123456789")]),
        rule("head-200-retain")
            .then("GET", stale.clone(), &[Miss])
            .then("HEAD", head(" | ETag: \"a\" | = 0123456789"), &[AskedBy("HEAD")])
            .then("GET", "200", &[Hit, Field("a", "1")]),
        rule("head-410-update")
            .then("GET", stale.clone(), &[Miss])
            .then("HEAD", format!("410 | {FRESH} | A: 2"), &[AskedBy("HEAD"), Status(410)])
            .then("GET", "304", &[Validated, Field("a", "1")]),
        rule("gap-186-head-another-etag")
            .then("GET", fresh.clone(), &[Miss])
            .then(again, head(" | ETag: \"b\" | = 0123456789"), &[AskedBy("HEAD"), Status(200)])
            .then("GET", "200", &[Miss]),
        rule("gap-186-head-another-lm")
            .then("GET", format!("200 | {FRESH} | Last-Modified: @-3000 | = 0123456789"), &[Miss])
            .then(again, head(" | Last-Modified: @-2000 | = 0123456789"), &[AskedBy("HEAD")])
            .then("GET", "200", &[Miss]),
        rule("gap-186-head-another-length")
            .then("GET", fresh.clone(), &[Miss])
            .then(again, head(" | = 01234567"), &[AskedBy("HEAD")])
            .then("GET", "200", &[Miss]),
        rule("own-head-same-validator")
            .then("GET", fresh.clone(), &[Miss])
            .then(again, head(" | ETag: \"a\" | = 0123456789"), &[AskedBy("HEAD")])
            .then("GET", "200", &[Hit, Body("0123456789")]),
        rule("own-head-is-not-stored")
            .then("HEAD", head(" | ETag: \"a\" | = 0123456789"), &[AskedBy("HEAD"), Miss])
            .then("GET", "200", &[Miss, AskedWithout("if-none-match")]),
        rule("own-head-if-none-match").then("GET", fresh, &[Miss]).then(
            "HEAD | If-None-Match: \"a\"",
            "200",
            &[Hit, Status(304)],
        ),
    ]);
}

#[test]
fn a_304_that_may_not_be_stored_takes_only_what_it_speaks_of() {
    let varied = |answer: &str| format!("200 | {answer} | Vary: Foo");
    let two = |id: &str| {
        rule(id).then("GET | Foo: 1", format!("{} | ETag: \"one\" | = one", varied(FRESH)), &[Miss]).then(
            "GET | Foo: 2",
            format!("{} | ETag: \"two\" | = two", varied(STALE)),
            &[Miss],
        )
    };
    check([
        two("own-304-no-store-of-a-variant")
            .then("GET | Foo: 2", "304 | Cache-Control: no-store", &[Validated, Body("two")])
            .then("GET | Foo: 1", "200", &[Hit, Body("one")])
            .then("GET | Foo: 2", "200", &[Miss]),
        // It is not for others because of what this request is, and that says nothing of the stored one.
        two("own-304-to-authorization")
            .then(
                "GET | Foo: 3 | Authorization: FOO",
                "304 | ETag: \"one\"",
                &[Validated, Body("one"), AskedWith("if-none-match", "\"two\", \"one\"")],
            )
            .then("GET | Foo: 1", "200", &[Hit, Body("one")])
            .then("GET | Foo: 3", "200", &[Miss]),
    ]);
}

#[test]
fn a_304_may_name_other_fields_that_are_not_for_all() {
    let stored = |id: &str, control: &str| {
        rule(id).then(
            "GET",
            format!("200 | {control} | Age: 100 | ETag: \"a\" | A: 1 | B: 2 | C: 3"),
            &[Miss, Field("a", "1")],
        )
    };
    let plain = "Cache-Control: max-age=60";
    check([
        stored("own-304-names-a-stored-field", plain)
            .then("GET", "304 | Cache-Control: max-age=3600, private=\"a, c\"", &[Validated, Field("b", "2")])
            .then("GET", "200", &[Hit, NoField("a"), Field("b", "2"), NoField("c")]),
        stored("own-304-names-its-own-fields", plain)
            .then(
                "GET",
                "304 | Cache-Control: max-age=3600, no-cache=\"A\", private=\"d\" | A: 4 | D: 5",
                &[Validated, Field("a", "4"), Field("d", "5")],
            )
            .then("GET", "200", &[Hit, NoField("a"), NoField("d"), Field("c", "3")]),
        // Silent about it: what was said before holds.
        stored("own-304-silent-about-fields", "Cache-Control: max-age=60, private=\"a, b\"")
            .then("GET", "304 | A: 4", &[Validated, Field("a", "4"), NoField("b")])
            .then("GET", "200", &[Hit, NoField("a"), NoField("b"), Field("c", "3")]),
        // Those are no secrets any more, but what was not stored is not there.
        stored("own-304-names-none", "Cache-Control: max-age=60, private=\"a, b\"")
            .then("GET", "304 | Cache-Control: max-age=3600 | A: 4", &[Validated, Field("a", "4")])
            .then("GET", "200", &[Hit, Field("a", "4"), NoField("b")]),
        // Of the connection and of the content's length nothing is passed on, whoever names it.
        stored("own-304-names-what-is-never-passed-on", plain)
            .then(
                "GET",
                "304 | Cache-Control: max-age=3600, private=\"keep-alive, x-hop, content-length\" | Keep-Alive: timeout=5 | \
                 Connection: X-Hop | X-Hop: 1 | Content-Length: 3",
                &[Validated, Status(200), NoField("keep-alive"), NoField("x-hop"), NoField("connection")],
            )
            .then("GET", "200", &[Hit, Field("a", "1")]),
    ]);
}

#[test]
fn a_304_may_change_what_a_response_varies_by() {
    let stored = |id: &str| {
        rule(id).then("GET | Foo: 1 | Bar: 1", format!("200 | {STALE} | ETag: \"a\" | Vary: Foo"), &[Miss])
    };
    check([
        stored("own-304-varies-by-more")
            .then("GET | Foo: 1 | Bar: 1", format!("304 | {FRESH} | Vary: Foo, Bar"), &[Validated])
            .then("GET | Foo: 1 | Bar: 1", "200", &[Hit])
            .then("GET | Foo: 1 | Bar: 2", format!("200 | {FRESH} | Vary: Foo, Bar"), &[Miss])
            .then("GET | Foo: 1 | Bar: 1", "200", &[Hit]),
        // What chose it still does, whoever is not to have the field.
        rule("own-304-vary-is-private")
            .then(
                "GET | Foo: 1",
                "200 | Cache-Control: max-age=60, private=\"vary\" | Age: 100 | ETag: \"a\" | Vary: Foo",
                &[Miss],
            )
            .then("GET | Foo: 1", format!("304 | {FRESH}"), &[Validated])
            .then("GET | Foo: 2", "200", &[Miss]),
        rule("own-304-vary-is-of-the-connection")
            .then(
                "GET | Foo: 1",
                format!("200 | {STALE} | ETag: \"a\" | Connection: Vary | Vary: Foo"),
                &[Miss],
            )
            .then("GET | Foo: 1", format!("304 | {FRESH}"), &[Validated])
            .then("GET | Foo: 2", "200", &[Miss]),
        stored("own-304-varies-by-everything")
            .then("GET | Foo: 1", format!("304 | {FRESH} | Vary: *"), &[Validated])
            .then("GET | Foo: 1", "200", &[Miss, AskedWithout("if-none-match")]),
        // RFC 9111 section 4.3.1: another's request is asked about by the tags of all.
        rule("conditional-etag-vary-headers-mismatch")
            .then("GET | Abc: 123", format!("200 | {FRESH} | ETag: \"abcdef\" | Vary: Abc"), &[Miss])
            .then("GET | Abc: 456", "200", &[Miss, AskedWith("if-none-match", "\"abcdef\"")]),
    ]);
}
