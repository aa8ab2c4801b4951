//! `CDN-Cache-Control` and `Tidegate-Cache-Control` (RFC 9213).

use super::table::Want::{Age, Field, Hit, Miss, Validated};
use super::table::{check, check_with, rule, twice};

#[test]
fn a_field_for_caches_like_this_one_comes_before_those_for_all() {
    check(
        [
            ("cdn-max-age", "CDN-Cache-Control: max-age=3600", Hit),
            ("cdn-max-age-max", "CDN-Cache-Control: max-age=2147483648", Hit),
            ("cdn-max-age-max-plus", "CDN-Cache-Control: max-age=99999999999", Hit),
            ("cdn-max-age-age", "Date: @0 | CDN-Cache-Control: max-age=3600 | Age: 7200", Miss),
            ("cdn-max-age-0", "CDN-Cache-Control: max-age=0 | Cache-Control: max-age=60", Miss),
            ("cdn-max-age-extension", "CDN-Cache-Control: foobar, max-age=3600", Hit),
            ("cdn-max-age-expires", "CDN-Cache-Control: max-age=3600 | Expires: @-10000 | Date: @0", Hit),
            (
                "cdn-max-age-cc-max-age-invalid-expires",
                "CDN-Cache-Control: max-age=3600 | Expires: 0 | Date: @0",
                Hit,
            ),
            ("cdn-max-age-0-expires", "CDN-Cache-Control: max-age=0 | Expires: @10000 | Date: @0", Miss),
            (
                "cdn-max-age-short-cc-max-age",
                "Age: 100 | Cache-Control: max-age=1 | CDN-Cache-Control: max-age=3600",
                Hit,
            ),
            (
                "cdn-max-age-long-cc-max-age",
                "Age: 100 | Cache-Control: max-age=3600 | CDN-Cache-Control: max-age=1",
                Miss,
            ),
            (
                "cdn-private",
                "CDN-Cache-Control: private | Cache-Control: max-age=10000 | Expires: @10000",
                Miss,
            ),
            ("cdn-no-cache", "CDN-Cache-Control: no-cache | Cache-Control: max-age=10000", Miss),
            ("own-cdn-no-cache-validator", "CDN-Cache-Control: no-cache | ETag: \"a\"", Validated),
            ("cdn-no-store-cc-fresh", "Cache-Control: max-age=10000 | CDN-Cache-Control: no-store", Miss),
            ("cdn-fresh-cc-nostore", "Cache-Control: no-store | CDN-Cache-Control: max-age=10000", Hit),
            // RFC 9213 section 2.2: Expires does not count beside it, even where it says no lifetime.
            ("own-cdn-silent-expires", "CDN-Cache-Control: foobar | Expires: @10000 | Date: @0", Miss),
            (
                "own-tidegate-before-cdn",
                "Age: 100 | Tidegate-Cache-Control: max-age=3600 | CDN-Cache-Control: max-age=1",
                Hit,
            ),
            (
                "own-tidegate-no-store",
                "Tidegate-Cache-Control: no-store | CDN-Cache-Control: max-age=60",
                Miss,
            ),
            ("own-tidegate-empty", "Tidegate-Cache-Control: | CDN-Cache-Control: max-age=60", Hit),
        ]
        .map(twice),
    );
}

#[test]
fn a_targeted_field_that_is_no_dictionary_is_as_if_it_were_not_there() {
    let rows = [
        ("cdn-max-age-space-before-equals", "max-age =100"),
        ("cdn-max-age-space-after-equals", "max-age= 100"),
        ("cdn-max-age-case-insensitive", "MaX-aGe=3600"),
        ("cdn-cc-invalid-sh-type-unknown", "max-age=10000, &&&&&"),
        ("cdn-cc-invalid-sh-type-wrong", "max-age=\"10000\""),
        ("own-cdn-float", "max-age=10000.0"),
        ("own-cdn-flag-with-a-number", "max-age=10000, no-store=1"),
        ("own-cdn-empty", ""),
    ];
    let ignored = |(id, value): (&str, &str)| {
        // Both ways round: what the field says is not done, and what Cache-Control says is.
        let refused = format!("Cache-Control: no-store | CDN-Cache-Control: {value}");
        let allowed = format!("Cache-Control: max-age=3600 | CDN-Cache-Control: {value}");
        [twice((id, &refused, Miss)), twice((&format!("{id}-hit"), &allowed, Hit))]
    };
    check(rows.into_iter().flat_map(ignored));
}

#[test]
fn what_goes_to_the_client_of_a_targeted_response_is_what_the_server_sent() {
    let stored =
        "200 | Cache-Control: max-age=1 | Expires: @1 | CDN-Cache-Control: max-age=10000 | Date: @-50";
    check([
        rule("cdn-remove-header")
            .then(
                "GET",
                "200 | Cache-Control: max-age=10000 | CDN-Cache-Control: foo",
                &[Miss, Field("cdn-cache-control", "foo")],
            )
            .then("GET", stored, &[Miss]),
        rule("cdn-remove-header-stored").then("GET", stored, &[Miss]).then(
            "GET",
            "200",
            &[Hit, Field("cdn-cache-control", "max-age=10000")],
        ),
        rule("cdn-remove-age-exceed").then("GET", stored, &[Miss]).then("GET", "200", &[Hit, Age(50)]),
        rule("cdn-date-update-exceed").then("GET", stored, &[Miss]).then(
            "GET",
            "200",
            &[Hit, Field("date", "@-50")],
        ),
        rule("cdn-expires-update-exceed").then("GET", stored, &[Miss]).then(
            "GET",
            "200",
            &[Hit, Field("expires", "@1"), Field("cache-control", "max-age=1")],
        ),
    ]);
}

#[test]
fn a_cache_that_is_no_cdn_does_not_read_them() {
    check_with(
        "cache = { targeted = false }",
        [
            ("gap-194-cdn-no-store", "CDN-Cache-Control: no-store | Cache-Control: max-age=60", Hit),
            ("gap-194-cdn-max-age", "CDN-Cache-Control: max-age=60 | Cache-Control: no-store", Miss),
            ("gap-194-cdn-alone", "CDN-Cache-Control: max-age=60", Miss),
        ]
        .map(twice),
    );
}
