//! What may answer a request: its directives, what it varies by, its conditions; and what it is told.

use super::table::Want::{
    Age, AskedWith, AskedWithout, Body, Field, Hit, Miss, NoField, Status, Unasked, Validated,
};
use super::table::{Rule, STALE, Want, check, check_with, rule};

const FRESH: &str = "Cache-Control: max-age=3600 | Date: @0";

/// A stored response with these fields, and then a request with those.
fn stored(id: &str, answer: &str, ask: &str, wants: &[Want]) -> Rule {
    let again = if matches!(wants.first(), Some(Validated)) { "304" } else { "200" };
    rule(id).then("GET", format!("200 | {answer}"), &[Miss]).then(format!("GET | {ask}"), again, wants)
}

#[test]
fn a_request_says_how_old_or_stale_an_answer_may_be() {
    let aged = "Cache-Control: max-age=3600 | Age: 1800";
    let tagged = &format!("{FRESH} | ETag: \"a\"");
    let stale = &format!("{STALE} | ETag: \"a\"");
    check([
        stored("ccreq-ma0", aged, "Cache-Control: max-age=0", &[Miss]),
        stored("ccreq-ma1", aged, "Cache-Control: max-age=1", &[Miss]),
        stored("ccreq-magreaterage", aged, "Cache-Control: max-age=600", &[Miss]),
        stored("own-ccreq-max-age-enough", aged, "Cache-Control: max-age=2600", &[Hit]),
        // What it accepts staler than that is so much, not whatever is fresh.
        stored("own-ccreq-max-age-and-max-stale", aged, "Cache-Control: max-age=600, max-stale=60", &[Miss]),
        stored(
            "own-ccreq-max-age-and-more-stale",
            aged,
            "Cache-Control: max-age=600, max-stale=2000",
            &[Hit],
        ),
        stored("ccreq-max-stale", stale, "Cache-Control: max-stale=1000", &[Hit, Age(100)]),
        stored("ccreq-max-stale-age", stale, "Cache-Control: max-stale=200", &[Hit, Age(100)]),
        stored("gap-183-max-stale-bare", stale, "Cache-Control: max-stale", &[Hit, Age(100)]),
        stored("gap-183-max-stale-exceeded", stale, "Cache-Control: max-stale=10", &[Validated]),
        stored("own-ccreq-max-stale-broken", stale, "Cache-Control: max-stale=x", &[Validated]),
        stored(
            "own-ccreq-max-stale-must-revalidate",
            "Cache-Control: max-age=60, must-revalidate | Age: 100 | ETag: \"a\"",
            "Cache-Control: max-stale",
            &[Validated],
        ),
        stored(
            "own-ccreq-max-stale-proxy-revalidate",
            "Cache-Control: max-age=60, proxy-revalidate | Age: 100 | ETag: \"a\"",
            "Cache-Control: max-stale",
            &[Validated],
        ),
        stored(
            "own-ccreq-max-stale-s-maxage",
            "Cache-Control: s-maxage=60 | Age: 100 | ETag: \"a\"",
            "Cache-Control: max-stale",
            &[Validated],
        ),
        stored(
            "own-ccreq-max-stale-no-cache",
            "Cache-Control: no-cache | ETag: \"a\"",
            "Cache-Control: max-stale",
            &[Validated],
        ),
        stored("ccreq-min-fresh", "Cache-Control: max-age=1500", "Cache-Control: min-fresh=2000", &[Miss]),
        stored(
            "ccreq-min-fresh-age",
            "Cache-Control: max-age=1500 | Age: 1000",
            "Cache-Control: min-fresh=1000",
            &[Miss],
        ),
        stored(
            "own-ccreq-min-fresh-enough",
            "Cache-Control: max-age=1500 | Age: 1000",
            "Cache-Control: min-fresh=100",
            &[Hit],
        ),
        stored("ccreq-no-cache", FRESH, "Cache-Control: no-cache", &[Miss]),
        stored(
            "ccreq-no-cache-lm",
            &format!("{FRESH} | Last-Modified: @-10000"),
            "Cache-Control: no-cache",
            &[Validated, AskedWith("if-modified-since", "@-10000")],
        ),
        stored(
            "ccreq-no-cache-etag",
            tagged,
            "Cache-Control: no-cache",
            &[Validated, AskedWith("if-none-match", "\"a\"")],
        ),
        stored("own-ccreq-case", FRESH, "Cache-Control: NO-CACHE", &[Miss]),
        stored("own-ccreq-unknown", FRESH, "Cache-Control: nothing-to-see-here | Pragma: foo", &[Hit]),
        stored("own-ccreq-within-a-string", FRESH, "Cache-Control: x=\"no-cache, no-store\"", &[Hit]),
    ]);
}

#[test]
fn a_request_that_says_no_store_leaves_no_trace() {
    check([
        stored("ccreq-no-store", FRESH, "Cache-Control: no-store", &[Miss]).then("GET", "200", &[Hit]),
        rule("own-ccreq-no-store-first")
            .then("GET | Cache-Control: no-store", format!("200 | {FRESH} | ETag: \"a\""), &[Miss])
            .then("GET", "200", &[Miss, AskedWithout("if-none-match")]),
    ]);
}

#[test]
fn a_newer_answer_that_may_not_be_stored_leaves_the_older_one() {
    check(["no-store", "no-store, max-age=0"].map(|control| {
        let id =
            if control == "no-store" { "cc-resp-no-store-old-new" } else { "cc-resp-no-store-old-max-age" };
        stored(id, &format!("{FRESH} | A: 1"), "Cache-Control: no-cache", &[Miss])
            .then("GET | Cache-Control: no-cache", format!("200 | Cache-Control: {control} | A: 2"), &[Miss])
            .then("GET", "200", &[Hit, Field("a", "1")])
    }));
}

#[test]
fn only_if_cached_never_asks_the_server() {
    let stale = &format!("{STALE} | ETag: \"a\"");
    check([
        rule("ccreq-oic").then("GET | Cache-Control: only-if-cached", "200", &[Unasked, Status(504)]),
        stored("gap-179-only-if-cached-stored", FRESH, "Cache-Control: only-if-cached", &[Hit, Status(200)]),
        stored("own-oic-stale", stale, "Cache-Control: only-if-cached", &[Unasked, Status(504)]),
        stored("own-oic-max-stale", stale, "Cache-Control: only-if-cached, max-stale", &[Hit, Status(200)]),
        stored(
            "own-oic-vary",
            "Cache-Control: max-age=60 | Vary: Foo",
            "Foo: 1 | Cache-Control: only-if-cached",
            &[Unasked, Status(504)],
        ),
    ]);
}

#[test]
fn pragma_counts_only_without_cache_control() {
    check([
        stored(
            "pragma-request-no-cache",
            FRESH,
            "Pragma: no-cache | Cache-Control: nothing-to-see-here",
            &[Hit],
        ),
        stored("own-pragma-alone", FRESH, "Pragma: no-cache", &[Miss]),
        stored("pragma-request-extension", FRESH, "Pragma: unrecognised-extension", &[Hit]),
    ]);
}

#[test]
fn a_client_that_may_not_ask_is_not_heard() {
    check_with(
        "cache = { client-directives = false }",
        [
            stored("own-deaf-no-cache", FRESH, "Cache-Control: no-cache", &[Hit]),
            stored("own-deaf-no-store", FRESH, "Cache-Control: no-store", &[Hit]),
            stored("own-deaf-pragma", FRESH, "Pragma: no-cache", &[Hit]),
        ],
    );
}

#[test]
fn another_query_is_another_response_and_a_cookie_is_not() {
    check([
        rule("query-args-different").then("GET {}?test=1", format!("200 | {FRESH}"), &[Miss]).then(
            "GET {}?test=2",
            "200",
            &[Miss],
        ),
        rule("query-args-same").then("GET {}?test=1", format!("200 | {FRESH}"), &[Miss]).then(
            "GET {}?test=1",
            "200",
            &[Hit],
        ),
        stored("other-cookie", FRESH, "Cookie: a=b", &[Hit]),
    ]);
}

#[test]
fn age_is_always_told_and_date_and_expires_are_left_alone() {
    let answered = |id: &str, answer: &str, wants: &[Want]| {
        rule(id).then("GET", format!("200 | {answer}"), &[Miss]).then("GET", "200", wants)
    };
    check([
        answered("other-age-gen", "Cache-Control: max-age=3600 | Date: @-30", &[Hit, Age(30)]),
        answered("other-age-update-expires", "Expires: @2592000 | Date: @0 | Age: 30", &[Hit, Age(30)]),
        answered(
            "other-age-update-max-age",
            "Cache-Control: max-age=3600 | Date: @0 | Age: 30",
            &[Hit, Age(30)],
        ),
        answered("own-age-is-one", "Cache-Control: max-age=3600 | Age: 30 | Age: 10", &[Hit, Age(30)]),
        answered(
            "own-age-the-older-of-two",
            "Cache-Control: max-age=3600 | Date: @-300 | Age: 30",
            &[Hit, Age(300)],
        ),
        answered(
            "other-date-update",
            "Cache-Control: max-age=3600 | Date: @-50",
            &[Hit, Field("date", "@-50")],
        ),
        answered("other-date-update-expires", "Expires: @3600 | Date: @-50", &[Hit, Field("date", "@-50")]),
        answered(
            "other-date-update-expires-update",
            "Expires: @3600 | Date: @-50",
            &[Hit, Field("expires", "@3600")],
        ),
        // Who asked gets the server's own word: an Age would say that a cache answered (RFC 9111 section 5.1).
        rule("other-age-delay").then(
            "GET",
            "200 | Cache-Control: max-age=3600 | Date: @-50",
            &[Miss, NoField("age")],
        ),
        rule("own-no-age-of-the-server").then(
            "GET",
            "200 | Cache-Control: max-age=3600",
            &[Miss, NoField("age")],
        ),
        answered(
            "own-date-future",
            "Cache-Control: max-age=3600 | Date: @500",
            &[Hit, Field("date", "@500")],
        ),
    ]);
}

#[test]
fn a_response_that_varies_answers_those_who_ask_alike() {
    let by = |vary: &str| format!("200 | Cache-Control: max-age=5000 | Date: @0 | Vary: {vary}");
    let varied = |id: &str, first: &str, vary: &str, second: &str, want| {
        let ask = |fields: &str| if fields.is_empty() { "GET".to_owned() } else { format!("GET | {fields}") };
        rule(id).then(ask(first), by(vary), &[Miss]).then(ask(second), "200", &[want])
    };
    let (two, three) = ("Foo, Bar", "Foo, Bar, Baz");
    let all = "Foo: 1 | Bar: abc | Baz: 789";
    check([
        varied("vary-match", "Foo: 1", "Foo", "Foo: 1", Hit),
        varied("vary-no-match", "Foo: 1", "Foo", "Foo: 2", Miss),
        varied("vary-omit-stored", "", "Foo", "Foo: 1", Miss),
        varied("vary-omit", "Foo: 1", "Foo", "", Miss),
        varied("vary-cache-key", "Foo: 1 | Other: 2", "Foo", "Foo: 1 | Other: 3", Hit),
        varied("vary-2-match", "Foo: 1 | Bar: abc", two, "Bar: abc | Foo: 1", Hit),
        varied("vary-2-no-match", "Foo: 1 | Bar: abc", two, "Foo: 2 | Bar: abc", Miss),
        varied("vary-2-match-omit", "Foo: 1 | Bar: abc", two, "", Miss),
        varied("vary-3-match", all, three, all, Hit),
        varied("vary-3-no-match", all, three, "Foo: 2 | Bar: abc | Baz: 789", Miss),
        varied("vary-3-order", all, three, "Foo: 1 | Baz: 789 | Bar: abcde", Miss),
        varied("vary-3-omit", "Foo: 1 | Baz: 789", three, "Foo: 1 | Baz: 789", Hit),
        varied("own-vary-empty-is-not-absent", "Foo:", "Foo", "", Miss),
        varied("own-vary-case-of-a-name", "Foo: 1", "fOO", "Foo: 2", Miss),
        varied("own-vary-on-two-lines", "Foo: 1 | Bar: 1", "Foo | Vary: Bar", "Foo: 1 | Bar: 2", Miss),
        varied("vary-normalise-combine", "Foo: 1, 2", "Foo", "Foo: 1 | Foo: 2", Hit),
        varied("vary-normalise-space", "Foo: 1,2", "Foo", "Foo:   1 ,   2", Hit),
        varied("own-vary-order-of-unknown", "Foo: 1, 2", "Foo", "Foo: 2, 1", Miss),
        varied("own-vary-case-of-unknown", "Foo: a", "Foo", "Foo: A", Miss),
        varied("own-vary-space-outside-quotes", "Foo: \"a\", \"b\"", "Foo", "Foo: \"a\",\"b\"", Hit),
        varied("own-vary-space-within-quotes", "Foo: \"a, b\"", "Foo", "Foo: \"a,b\"", Miss),
        varied("own-vary-space-after-a-quoted-quote", "Foo: \"a\\\", b\"", "Foo", "Foo: \"a\\\",b\"", Miss),
    ]);
    let language = |id: &str, second: &str, want| {
        let second = format!("Accept-Language: {second}");
        varied(id, "Accept-Language: en, de", "Accept-Language", &second, want)
    };
    check([
        language("vary-normalise-lang-order", "de, en", Hit),
        language("vary-normalise-lang-case", "eN, De", Hit),
        language("vary-normalise-lang-space", " en ,   de", Hit),
        language("own-vary-lang-weights", "en;q=0.5, de", Miss),
        language("own-vary-lang-fewer", "en", Miss),
        language("own-vary-lang-on-two-lines", "de | Accept-Language: EN", Hit),
        // RFC 9111 section 4.1: which language it gets, the server says.
        language("vary-normalise-lang-select", "fr;q=0.5, de;q=1.0", Miss),
    ]);
    let encoding = |id: &str, first: &str, second: &str, want| {
        let [first, second] = [first, second].map(|value| format!("Accept-Encoding: {value}"));
        varied(id, &first, "accept-encoding", &second, want)
    };
    let encodings = [
        encoding("own-vary-coding-order", "gzip, br;q=0.5", "BR;q=0.5,gzip", Hit),
        encoding("own-vary-coding-lines", "gzip, br", "br | Accept-Encoding: gzip", Hit),
        encoding("own-vary-coding-weight", "gzip, br;q=0.5", "gzip, br", Miss),
        encoding("own-vary-coding-identity", "gzip", "identity", Miss),
        encoding("own-vary-coding-empty-member", "gzip, br", "gzip,, br,", Hit),
        varied("own-vary-coding-none", "Accept-Encoding: gzip", "Accept-Encoding", "", Miss),
    ];
    let lines = [
        varied("own-vary-lines-of-the-response", "Foo: 1", "Foo | Vary: | Vary: ,foo ,, FOO", "Foo: 1", Hit),
        varied("own-vary-third-line", "Bar: 1", "Foo | Vary: Foo | Vary: Bar", "Bar: 2", Miss),
        varied("own-vary-empty", "Foo: 1", "", "Foo: 2", Hit),
        varied("own-vary-empty-member", "Foo: 1, 2", "Foo", "Foo: 1, , 2", Miss),
        varied("own-vary-lines-in-order", "Foo: 1 | Foo: 2", "Foo", "Foo: 2 | Foo: 1", Miss),
        varied("own-vary-an-empty-line", "Foo: 1", "Foo", "Foo: 1 | Foo:", Miss),
        varied("own-vary-a-tab", "Foo: 1,2", "Foo", "Foo: 1 ,\t2", Hit),
        varied("own-vary-space-within", "Foo: 1 2", "Foo", "Foo: 1  2", Miss),
    ];
    check(encodings.into_iter().chain(lines));
    check([rule("vary-invalidate")
        .then("GET | Foo: 1", format!("{} | = one", by("Foo")), &[Miss])
        .then("GET | Foo: 2", format!("{} | = two", by("Foo")), &[Miss])
        .then("GET | Foo: 1", "200", &[Hit, Body("one")])
        .then("GET | Foo: 2", "200", &[Hit, Body("two")])]);
}

#[test]
fn a_star_in_vary_on_any_line_means_never() {
    let rows = [
        ("vary-star", "Vary: *"),
        ("vary-syntax-star", "Vary: *"),
        ("vary-syntax-star-star", "Vary: *, *"),
        ("vary-syntax-star-star-lines", "Vary: * | Vary: *"),
        ("vary-syntax-empty-star", "Vary: , *"),
        ("vary-syntax-empty-star-lines", "Vary: | Vary: *"),
        ("vary-syntax-star-foo", "Vary: *, Foo"),
        ("vary-syntax-foo-star", "Vary: Foo, *"),
        ("own-vary-no-name", "Vary: Foo Bar"),
    ];
    check(rows.map(|(id, vary)| {
        rule(id)
            .then("GET | Foo: 1 | Baz: 789", format!("200 | Cache-Control: max-age=5000 | {vary}"), &[Miss])
            .then("GET | Foo: 1 | Baz: 789", "200", &[Miss])
    }));
}

#[test]
fn a_fresh_response_answers_if_none_match() {
    let tagged = |id: &str, etag: &str, asked: &str, status| {
        stored(
            id,
            &format!("{FRESH} | ETag: {etag}"),
            &format!("If-None-Match: {asked}"),
            &[Hit, Status(status)],
        )
    };
    let quoted = "\"abcdef\"";
    check([
        tagged("conditional-etag-strong-respond", quoted, quoted, 304),
        tagged("own-etag-other", quoted, "\"abcde\"", 200),
        tagged("conditional-etag-weak-respond", "W/\"abcdef\"", "W/\"abcdef\"", 304),
        tagged("own-etag-weak-of-strong", quoted, "W/\"abcdef\"", 304),
        tagged("own-etag-strong-of-weak", "W/\"abcdef\"", quoted, 304),
        tagged(
            "conditional-etag-strong-respond-multiple-first",
            quoted,
            "\"abcdef\", \"1234\", \"5678\"",
            304,
        ),
        tagged(
            "conditional-etag-strong-respond-multiple-second",
            quoted,
            "\"1234\", \"abcdef\", \"5678\"",
            304,
        ),
        tagged(
            "conditional-etag-strong-respond-multiple-last",
            quoted,
            "\"1234\", \"5678\", \"abcdef\"",
            304,
        ),
        tagged("own-etag-on-another-line", quoted, "\"1234\" | If-None-Match: \"abcdef\"", 304),
        tagged("own-etag-with-a-comma", "\"a,b\"", "\"1\", \"a,b\"", 304),
        tagged("own-etag-part-of-another", "\"b\"", "\"a,b\"", 200),
        tagged("gap-180-if-none-match-star", quoted, "*", 304),
        tagged("conditional-etag-quoted-respond-unquoted", quoted, "abcdef", 200),
        tagged("conditional-etag-unquoted-respond-unquoted", "abcdef", "abcdef", 304),
        tagged("conditional-etag-unquoted-respond-quoted", "abcdef", quoted, 200),
        tagged("conditional-etag-strong-respond-obs-text", "\"abcdefü\"", "\"abcdefü\"", 304),
        tagged("conditional-etag-weak-respond-lowercase", "w/\"abcdef\"", "w/\"abcdef\"", 304),
        tagged("conditional-etag-weak-respond-omit-slash", "W\"abcdef\"", "W\"abcdef\"", 304),
        tagged("conditional-etag-weak-respond-backslash", "W\\\"abcdef\"", "W\\\"abcdef\"", 304),
    ]);
    let both = &format!("{FRESH} | Last-Modified: @-5000 | ETag: \"abcdef\"");
    check([
        stored(
            "conditional-etag-precedence",
            both,
            "If-None-Match: \"abcdef\" | If-Modified-Since: @-10000",
            &[Hit, Status(304)],
        ),
        stored(
            "own-etag-precedence-200",
            both,
            "If-None-Match: \"other\" | If-Modified-Since: @-5000",
            &[Hit, Status(200)],
        ),
        rule("own-condition-on-an-error")
            .then("GET", format!("404 | {FRESH} | ETag: \"abcdef\""), &[Miss])
            .then("GET | If-None-Match: \"abcdef\"", "200", &[Hit, Status(404)]),
    ]);
}

#[test]
fn a_304_carries_what_a_client_must_know_and_nothing_of_the_content() {
    let fields = "ETag: \"a\" | Expires: @3600 | Vary: Foo | Content-Location: /x | Content-Type: text/plain";
    check([stored(
        "conditional-304-etag",
        &format!("{FRESH} | {fields}"),
        "If-None-Match: \"a\"",
        &[
            Hit,
            Status(304),
            Field("etag", "\"a\""),
            Field("cache-control", "max-age=3600"),
            Field("date", "@0"),
            Field("expires", "@3600"),
            Field("vary", "Foo"),
            Field("content-location", "/x"),
            NoField("content-type"),
            NoField("content-length"),
        ],
    )]);
}

#[test]
fn a_fresh_response_answers_if_modified_since_in_three_forms() {
    let modified = |id: &str, asked: &str, status| {
        let answer = format!("{FRESH} | Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT");
        stored(id, &answer, &format!("If-Modified-Since: {asked}"), &[Hit, Status(status)])
    };
    check([
        modified("conditional-lm-fresh", "Sun, 06 Nov 1994 08:49:37 GMT", 304),
        modified("conditional-lm-fresh-earlier", "Sun, 06 Nov 1994 08:49:38 GMT", 304),
        modified("own-lm-later", "Sun, 06 Nov 1994 08:49:36 GMT", 200),
        modified("conditional-lm-fresh-rfc850", "Sunday, 06-Nov-94 08:49:37 GMT", 304),
        modified("own-lm-rfc850-later", "Sunday, 06-Nov-94 08:49:36 GMT", 200),
        modified("own-lm-asctime", "Sun Nov  6 08:49:37 1994", 304),
        modified("own-lm-asctime-later", "Sun Nov  6 08:49:36 1994", 200),
        modified("own-lm-no-date", "yesterday", 200),
        // Without Last-Modified, Date stands in (RFC 9111 section 4.3.2).
        stored("own-no-lm", FRESH, "If-Modified-Since: @0", &[Hit, Status(304)]),
        // Which the suite wants to be 304 (http-tests/cache-tests#204).
        stored("conditional-lm-fresh-no-lm", FRESH, "If-Modified-Since: @-3000", &[Hit, Status(200)]),
    ]);
}

#[test]
fn a_condition_of_a_client_does_not_keep_the_whole_from_being_stored() {
    let answer = format!("200 | {FRESH} | ETag: \"abcdef\" | = whole");
    check([
        rule("conditional-etag-forward")
            .then(
                "GET | If-None-Match: \"abcdef\"",
                answer.clone(),
                &[AskedWithout("if-none-match"), Status(304), Field("etag", "\"abcdef\"")],
            )
            .then("GET", "200", &[Hit, Status(200), Body("whole")]),
        rule("conditional-etag-forward-unquoted")
            .then("GET | If-None-Match: abcdef", answer.clone(), &[AskedWithout("if-none-match"), Miss])
            .then("GET", "200", &[Hit, Status(200), Body("whole")]),
        rule("own-etag-forward-other")
            .then("GET | If-None-Match: \"other\"", answer, &[AskedWithout("if-none-match"), Miss])
            .then("GET", "200", &[Hit, Body("whole")]),
    ]);
}
