//! What is stored: by status, by what the server allows, and which of its fields.

use super::table::Want::{
    AskedBy, AskedWithout, Body, Field, Hit, Miss, NoField, Status, Unasked, Validated,
};
use super::table::{Rule, check, check_with, rule, twice};

fn with_status(id: String, status: &str, fields: &str, again: super::table::Want) -> Rule {
    rule(id).then("GET", format!("{status} | {fields}"), &[Miss]).then("GET", "200", &[again])
}

#[test]
fn any_final_status_is_stored_for_as_long_as_the_server_says() {
    const GAP_191: [u16; 5] = [300, 405, 414, 451, 501];
    let statuses = [
        200, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 404, 405, 410, 414, 451, 499, 500, 501, 502,
        503, 504, 599,
    ];
    check(statuses.into_iter().flat_map(|status| {
        let prefix = if GAP_191.contains(&status) { "gap-191-status" } else { "status" };
        let status = status.to_string();
        let fresh = "Cache-Control: max-age=100000 | Date: @0";
        let stale = "Expires: @-5000 | Last-Modified: @-100000 | Date: @0";
        [
            with_status(format!("{prefix}-{status}-fresh"), &status, fresh, Hit),
            with_status(format!("{prefix}-{status}-stale"), &status, stale, Miss),
        ]
    }));
}

#[test]
fn must_understand_stores_what_is_understood_and_nothing_else() {
    let control = "Cache-Control: max-age=3600, no-store, must-understand";
    check([
        with_status("status-200-must-understand".to_owned(), "200", control, Hit),
        with_status("own-404-must-understand".to_owned(), "404", control, Hit),
        with_status("status-599-must-understand".to_owned(), "599", control, Miss),
        with_status(
            "own-599-must-understand-alone".to_owned(),
            "599",
            "Cache-Control: max-age=3600, must-understand",
            Miss,
        ),
    ]);
}

#[test]
fn a_lifetime_is_guessed_for_the_statuses_that_allow_it() {
    const PLAIN: &str = "Last-Modified: @-86400 | Date: @0";
    const PUBLIC: &str = "Last-Modified: @-86400 | Date: @0 | Cache-Control: public";
    let rows =
        |prefix: &'static str, word: &'static str, statuses: &'static [u16], fields: &'static str, want| {
            let id = move |status| format!("{prefix}heuristic-{status}-{word}");
            statuses.iter().map(move |status| with_status(id(status), &status.to_string(), fields, want))
        };
    check(
        rows("", "cached", &[200, 203, 204, 404, 405, 410, 414, 501], PLAIN, Hit)
            .chain(rows("gap-190-", "cached", &[300, 301, 308], PLAIN, Hit))
            .chain(rows("", "not_cached", &[201, 202, 403, 502, 503, 504, 599], PLAIN, Miss))
            .chain(rows("own-", "not_cached", &[302, 303, 307, 500], PLAIN, Miss))
            .chain(rows("", "cached", &[599], PUBLIC, Hit))
            .chain(rows("own-", "public", &[201], PUBLIC, Hit)),
    );
}

#[test]
fn the_guess_is_a_tenth_of_the_time_since_the_last_change() {
    let deltas = [600, 1200, 1800, 3600, 43_200, 86_400];
    let fresh = deltas.map(|delta| {
        // Half of it for a machine that is slow.
        let (within, over) = (delta / 20, delta / 10 + 1);
        let fields = |age: u64| format!("Last-Modified: @-{delta} | Date: @0 | Age: {age}");
        [
            twice((&format!("heuristic-delta-{delta}"), &fields(within), Hit)),
            twice((&format!("heuristic-delta-{delta}-over"), &fields(over), Validated)),
        ]
    });
    check(fresh.into_iter().flatten());
    check(
        [
            ("heuristic-delta-5", "Last-Modified: @-5 | Date: @0", Validated),
            ("own-heuristic-future", "Last-Modified: @5000 | Date: @0", Validated),
            ("own-heuristic-a-day-at-most", "Last-Modified: @-8640000 | Date: @0 | Age: 86500", Validated),
            (
                "other-heuristic-content-disposition-attachment",
                "Last-Modified: @-100000 | Date: @0 | Content-Disposition: attachment; filename=example.txt",
                Hit,
            ),
            (
                "other-fresh-content-disposition-attachment",
                "Cache-Control: max-age=60 | Content-Disposition: attachment; filename=example.txt",
                Hit,
            ),
            ("pragma-response-no-cache", "Cache-Control: max-age=3600 | Pragma: no-cache", Hit),
            (
                "pragma-response-no-cache-heuristic",
                "Date: @0 | Last-Modified: @-10000 | Pragma: no-cache",
                Hit,
            ),
            (
                "pragma-response-extension",
                "Cache-Control: max-age=3600 | Pragma: unrecognised-extension",
                Hit,
            ),
        ]
        .map(twice),
    );
}

#[test]
fn a_cookie_is_stored_only_where_the_server_gives_a_lifetime() {
    check(
        [
            ("other-set-cookie", "Cache-Control: max-age=100000 | Set-Cookie: a=b", Hit),
            ("headers-store-Set-Cookie", "Expires: @3600 | Date: @0 | Set-Cookie: a=b", Hit),
            ("own-set-cookie-heuristic", "Last-Modified: @-86400 | Date: @0 | Set-Cookie: a=b", Miss),
            (
                "own-set-cookie-public",
                "Last-Modified: @-86400 | Cache-Control: public | Set-Cookie: a=b",
                Miss,
            ),
            (
                "own-set-cookie-withheld",
                "Last-Modified: @-86400 | Cache-Control: no-cache=\"set-cookie\" | Set-Cookie: a=b",
                Hit,
            ),
        ]
        .map(twice),
    );
    check([
        rule("own-set-cookie-stale")
            .then("GET", "200 | Cache-Control: max-age=0 | ETag: \"a\" | Set-Cookie: a=b", &[Miss])
            .then("GET", "200", &[Miss, AskedWithout("if-none-match")]),
        rule("own-set-cookie-replayed")
            .then("GET", "200 | Cache-Control: max-age=60 | Set-Cookie: a=b | Set-Cookie: c=d", &[Miss])
            .then("GET", "200", &[Hit, Field("set-cookie", "a=b, c=d")]),
        rule("own-set-cookie-not-replayed")
            .then(
                "GET",
                "200 | Cache-Control: max-age=60, no-cache=\"set-cookie\" | Set-Cookie: a=b",
                &[Miss],
            )
            .then("GET", "200", &[Hit, NoField("set-cookie")]),
    ]);
    // A lifetime that was given to what had no cookie yet, or another, is no leave to give this one to all.
    let stale = "Cache-Control: max-age=60 | Age: 100 | ETag: \"a\"";
    let of_304 = |id: &str, set: &str, of_all: super::table::Want| {
        rule(id)
            .then("GET", format!("200 | {stale}{set}"), &[Miss])
            .then("GET", "304 | Set-Cookie: sid=1", &[Validated, Field("set-cookie", "sid=1")])
            .then("GET", "200", &[Hit, of_all])
    };
    check([
        of_304("own-set-cookie-of-a-304", "", NoField("set-cookie")),
        of_304("own-set-cookie-of-a-304-instead", " | Set-Cookie: sid=0", Field("set-cookie", "sid=0")),
        rule("own-set-cookie-of-a-304-with-a-lifetime")
            .then("GET", format!("200 | {stale}"), &[Miss])
            .then("GET", "304 | Cache-Control: max-age=60 | Set-Cookie: sid=1", &[Validated])
            .then("GET", "200", &[Hit, Field("set-cookie", "sid=1")]),
        rule("own-set-cookie-of-a-head")
            .then("GET", format!("200 | {stale}"), &[Miss])
            .then("HEAD", "200 | ETag: \"a\" | Set-Cookie: sid=1", &[Miss, Field("set-cookie", "sid=1")])
            .then("GET", "200", &[Hit, NoField("set-cookie")]),
    ]);
    check_with(
        "cache = { set-cookie = \"never\" }",
        [of_304("own-set-cookie-never-of-a-304", "", NoField("set-cookie"))],
    );
}

#[test]
fn what_the_server_forbids_to_store_is_not_stored() {
    check(
        [
            ("cc-resp-private-shared", "Cache-Control: private, max-age=3600", Miss),
            ("own-private-in-another-case", "Cache-Control: PrIvAtE, max-age=3600", Miss),
            ("cc-resp-no-store", "Cache-Control: no-store | Last-Modified: @-86400", Miss),
            ("cc-resp-no-store-case-insensitive", "Cache-Control: No-StOrE | Last-Modified: @-86400", Miss),
            (
                "cc-resp-no-store-fresh",
                "Cache-Control: max-age=10000, no-store | Expires: @10000 | Date: @0",
                Miss,
            ),
            ("cc-resp-no-cache", "Cache-Control: max-age=10000, no-cache | Expires: @10000 | Date: @0", Miss),
            ("cc-resp-no-cache-case-insensitive", "Cache-Control: max-age=10000, No-CaChE", Miss),
            ("cc-resp-no-cache-revalidate", "Cache-Control: no-cache | ETag: \"abcd\"", Validated),
            ("own-no-cache-revalidate-lm", "Cache-Control: no-cache | Last-Modified: @-86400", Validated),
            (
                "cc-resp-no-cache-revalidate-fresh",
                "Cache-Control: max-age=10000, no-cache | ETag: \"abcd\"",
                Validated,
            ),
            (
                "cc-resp-must-revalidate-fresh",
                "Cache-Control: max-age=10000, must-revalidate | ETag: \"abcd\"",
                Hit,
            ),
            (
                "cc-resp-must-revalidate-stale",
                "Cache-Control: max-age=60, must-revalidate | Age: 100 | ETag: \"abcd\"",
                Validated,
            ),
        ]
        .map(twice),
    );
    // What is not stored is not there to be asked about either.
    check(["no-store", "private"].map(|word| {
        rule(format!("own-{word}-has-no-validator"))
            .then("GET", format!("200 | Cache-Control: {word} | ETag: \"a\""), &[Miss])
            .then("GET", "200", &[Miss, AskedWithout("if-none-match")])
    }));
}

#[test]
fn fields_that_no_cache_or_private_name_are_not_stored() {
    let answer = |control: &str| {
        format!(
            "200 | Cache-Control: {control} | A: 1 | B: 2 | C: 3 | Cache-Control: max-age=3600 | Date: @0"
        )
    };
    let omitted = |id: &str, control: &str, wants: &[super::table::Want]| {
        rule(id).then("GET", answer(control), &[Miss]).then("GET", "200", wants)
    };
    check([
        omitted(
            "headers-omit-headers-listed-in-Cache-Control-no-cache-single",
            "no-cache=\"a\"",
            &[Hit, NoField("a"), Field("b", "2")],
        ),
        omitted(
            "headers-omit-headers-listed-in-Cache-Control-no-cache",
            "no-cache=\"a, b\"",
            &[Hit, NoField("a"), NoField("b"), Field("c", "3")],
        ),
        omitted("own-private-names-a-field", "private=\"a\"", &[Hit, NoField("a"), Field("b", "2")]),
        omitted(
            "own-private-and-no-cache-name-fields",
            "private=\"a\", no-cache=\"B , x\"",
            &[Hit, NoField("a"), NoField("b"), Field("c", "3")],
        ),
        omitted(
            "own-private-names-fields-twice",
            "private=\"a\", private=\"c\"",
            &[Hit, NoField("a"), Field("b", "2"), NoField("c")],
        ),
        omitted("own-private-names-a-token", "private=a", &[Hit, NoField("a"), Field("b", "2")]),
        omitted("own-private-names-no-field", "private=\"a b\"", &[Miss]),
        omitted("own-private-one-of-them-is-none", "private=\"a, (\"", &[Miss]),
        omitted("own-no-cache-names-and-is-meant-whole", "no-cache=\"a\", no-cache", &[Miss]),
        omitted("own-no-cache-names-nothing", "no-cache=\"\"", &[Miss]),
        omitted("own-private-names-and-is-meant-whole", "private=\"a\", private", &[Miss]),
    ]);
}

#[test]
fn what_was_asked_with_authorization_is_stored_where_the_server_says_so() {
    let asked = |id: &str, control: &str, want| {
        rule(id)
            .then(
                "GET | Authorization: FOO",
                format!("200 | Cache-Control: {control} | Date: @0"),
                &[Miss, super::table::Want::AskedWith("authorization", "FOO")],
            )
            .then("GET", "200", &[want])
    };
    check([
        asked("other-authorization", "max-age=100000", Miss),
        asked("other-authorization-public", "max-age=3600, public", Hit),
        asked("other-authorization-must-revalidate", "max-age=3600, must-revalidate", Hit),
        asked("other-authorization-smaxage", "s-maxage=3600", Hit),
        asked("own-authorization-case", "max-age=3600, PuBlIc", Hit),
        asked("own-authorization-proxy-revalidate", "max-age=3600, proxy-revalidate", Miss),
        asked("own-authorization-immutable", "max-age=3600, immutable", Miss),
        asked("own-authorization-public-private", "max-age=3600, public, private", Miss),
        asked("own-authorization-public-no-store", "max-age=3600, public, no-store", Miss),
        asked("own-authorization-s-maxage-0", "max-age=3600, s-maxage=0", Miss),
        asked("own-authorization-in-a-string", "max-age=3600, x=\"public\"", Miss),
        // Whoever shows who they are may be meant to get something else.
        rule("own-authorization-second").then("GET", "200 | Cache-Control: max-age=3600", &[Miss]).then(
            "GET | Authorization: FOO",
            "200",
            &[Miss],
        ),
        rule("own-authorization-second-public")
            .then("GET", "200 | Cache-Control: max-age=3600, public", &[Miss])
            .then("GET | Authorization: FOO", "200", &[Hit]),
        rule("own-authorization-another")
            .then("GET | Authorization: FOO", "200 | Cache-Control: s-maxage=3600", &[Miss])
            .then("GET | Authorization: BAR", "200", &[Hit]),
        // What a shared cache is told by the field that is meant for it counts here too.
        rule("own-authorization-cdn")
            .then(
                "GET | Authorization: FOO",
                "200 | CDN-Cache-Control: max-age=3600 | Cache-Control: public",
                &[Miss],
            )
            .then("GET", "200", &[Miss]),
        rule("own-authorization-cdn-public")
            .then("GET | Authorization: FOO", "200 | CDN-Cache-Control: max-age=3600, public", &[Miss])
            .then("GET", "200", &[Hit]),
    ]);
    // Validated on its behalf, or an error's stand-in, it is as little for others and of others.
    let stale = "200 | Cache-Control: max-age=60, stale-if-error=600, stale-while-revalidate=600 | Age: 100 | ETag: \"a\"";
    check([
        rule("own-authorization-stale").then("GET", stale, &[Miss]).then(
            "GET | Authorization: FOO",
            "200 | Cache-Control: no-store",
            &[Miss, AskedWithout("if-none-match")],
        ),
        rule("own-authorization-stale-503").then("GET", stale, &[Miss]).then(
            "GET | Authorization: FOO",
            "503",
            &[Miss],
        ),
        rule("own-authorization-head").then("GET", "200 | Cache-Control: max-age=60", &[Miss]).then(
            "HEAD | Authorization: FOO",
            "200",
            &[Miss, AskedBy("HEAD")],
        ),
    ]);
}

#[test]
fn fields_of_a_connection_are_never_replayed() {
    // The suite's own tests of these assert nothing.
    let hop_by_hop = [
        ("Connection", "x-hop"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic realm=a"),
        ("Proxy-Authentication-Info", "nextnonce=a"),
        ("Proxy-Authorization", "Basic YTpi"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Trailer", "x-checksum"),
        ("Upgrade", "whatever/1"),
    ];
    check(hop_by_hop.map(|(name, value)| {
        rule(format!("headers-store-{name}"))
            .then("GET", format!("200 | Cache-Control: max-age=3600 | {name}: {value} | X-Kept: 1"), &[Miss])
            .then("GET", "200", &[Hit, NoField(name), Field("x-kept", "1")])
    }));
    check([rule("headers-omit-headers-listed-in-Connection")
        .then("GET", "200 | Cache-Control: max-age=3600 | Connection: a, b | Connection: C | A: 1 | B: 2 | C: 3 | D: 4", &[
            Miss,
        ])
        .then("GET", "200", &[Hit, NoField("a"), NoField("b"), NoField("c"), Field("d", "4")])]);
}

#[test]
fn a_transfer_coding_is_undone_or_refused_and_never_replayed() {
    let chunked =
        "200 | Cache-Control: max-age=3600 | Transfer-Encoding: chunked | = 5\r\nhello\r\n0\r\n\r\n";
    check([
        rule("own-chunked").then("GET", chunked, &[AskedBy("GET"), Body("hello")]).then(
            "GET",
            "200",
            &[Unasked, Body("hello"), NoField("transfer-encoding"), Field("content-length", "5")],
        ),
        // The suite wants such a body read to its end. We refuse it: nobody knows what it is.
        rule("headers-store-Transfer-Encoding")
            .then(
                "GET",
                "200 | Cache-Control: max-age=3600 | Transfer-Encoding: abcdef | Connection: close",
                &[AskedBy("GET"), Status(502)],
            )
            .then("GET", "200", &[Miss]),
    ]);
}

#[test]
fn every_other_field_is_stored_as_it_came() {
    let fields = [
        ("Test-Header", "a"),
        ("X-Test-Header", "a"),
        ("Content-Foo", "a"),
        ("X-Content-Foo", "a"),
        ("Cache-Control", "max-age=3600, x=y"),
        ("Content-Encoding", "garbage"),
        ("Content-Location", "/foo"),
        ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A=="),
        ("Content-Range", "garbage"),
        ("Content-Security-Policy", "default-src 'self'"),
        ("Content-Type", "text/plain"),
        ("Clear-Site-Data", "cache"),
        ("ETag", "\"abcdef\""),
        ("Expires", "Fri, 01 Jan 2038 01:01:01 GMT"),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Public-Key-Pins", "a"),
        ("Set-Cookie2", "a=b"),
        ("X-Frame-Options", "deny"),
        ("X-XSS-Protection", "1"),
        ("Pragma", "a"),
        ("Link", "<a>; rel=b, <c>; rel=d"),
    ];
    check(fields.map(|(name, value)| {
        let control = if name == "Cache-Control" { "" } else { " | Cache-Control: max-age=3600" };
        rule(format!("headers-store-{name}"))
            .then("GET", format!("200 | Date: @0 | {name}: {value}{control}"), &[Miss])
            .then("GET", "200", &[Hit, Field(name, value)])
    }));
    check([rule("headers-store-Content-Length")
        .then(
            "GET",
            "200 | Cache-Control: max-age=3600 | = 0123456789",
            &[Miss, Field("content-length", "10")],
        )
        .then("GET", "200", &[Hit, Field("content-length", "10")])]);
}

#[test]
fn immutable_is_no_lifetime_and_no_leave_to_disobey() {
    // RFC 8246 section 2: what is fresh is not validated, unless the client asks for it; a lifetime must be said beside it.
    let stored = |id: &str, fields: &str, ask: &str, want| {
        let again = if matches!(want, Validated) { "304" } else { "200" };
        rule(id).then("GET", format!("200 | {fields} | ETag: \"a\""), &[Miss]).then(ask, again, &[want])
    };
    let fresh = "Cache-Control: max-age=3600, immutable | Age: 100";
    check([
        stored("own-immutable-fresh", fresh, "GET", Hit),
        stored("own-immutable-condition", fresh, "GET | If-None-Match: \"b\"", Hit),
        stored("own-immutable-no-cache", fresh, "GET | Cache-Control: no-cache", Validated),
        stored("own-immutable-max-age-0", fresh, "GET | Cache-Control: max-age=0", Validated),
        stored("own-immutable-stale", "Cache-Control: max-age=60, immutable | Age: 100", "GET", Validated),
        stored("own-immutable-alone", "Cache-Control: immutable", "GET", Validated),
        stored("own-immutable-no-store", "Cache-Control: immutable, max-age=3600, no-store", "GET", Miss),
    ]);
}
