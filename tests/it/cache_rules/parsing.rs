//! How long a response is fresh: Cache-Control, Age, Expires and dates, as they are written.

use super::table::Want::{Hit, Miss, Validated};
use super::table::{check, twice};

#[test]
fn cache_control_is_read_strictly_and_in_any_case() {
    check(
        [
            ("freshness-none", "X-A: 1", Miss),
            ("freshness-max-age", "Cache-Control: max-age=3600", Hit),
            ("freshness-max-age-stale", "Cache-Control: max-age=60 | Age: 100 | ETag: \"a\"", Validated),
            ("freshness-max-age-0", "Cache-Control: max-age=0", Miss),
            ("own-max-age-0-validator", "Cache-Control: max-age=0 | ETag: \"a\"", Validated),
            ("freshness-max-age-max-minus-1", "Cache-Control: max-age=2147483647", Hit),
            ("freshness-max-age-max", "Cache-Control: max-age=2147483648", Hit),
            ("freshness-max-age-max-plus-1", "Cache-Control: max-age=2147483649", Hit),
            ("freshness-max-age-max-plus", "Cache-Control: max-age=99999999999", Hit),
            ("own-max-age-over-64-bits", "Cache-Control: max-age=99999999999999999999999", Hit),
            ("freshness-max-age-age", "Date: @0 | Cache-Control: max-age=3600 | Age: 7200", Miss),
            ("freshness-max-age-date", "Date: @-7200 | Cache-Control: max-age=3600", Miss),
            ("freshness-max-age-expires", "Cache-Control: max-age=3600 | Expires: @-7200 | Date: @0", Hit),
            ("freshness-max-age-expires-invalid", "Cache-Control: max-age=3600 | Expires: 0 | Date: @0", Hit),
            ("freshness-max-age-0-expires", "Expires: @3600 | Cache-Control: max-age=0 | Date: @0", Miss),
            ("freshness-max-age-extension", "Cache-Control: foobar, max-age=3600", Hit),
            ("freshness-max-age-case-insenstive", "Cache-Control: MaX-aGe=3600", Hit),
            ("freshness-max-age-negative", "Cache-Control: max-age=-3600", Miss),
            ("freshness-s-maxage-shared", "Cache-Control: s-maxage=3600", Hit),
            (
                "freshness-max-age-s-maxage-shared-longer",
                "Age: 100 | Cache-Control: max-age=3600, s-maxage=1",
                Miss,
            ),
            (
                "freshness-max-age-s-maxage-shared-longer-reversed",
                "Age: 100 | Cache-Control: s-maxage=1, max-age=3600",
                Miss,
            ),
            (
                "freshness-max-age-s-maxage-shared-longer-multiple",
                "Age: 100 | Cache-Control: max-age=3600 | Cache-Control: s-maxage=1",
                Miss,
            ),
            (
                "freshness-max-age-s-maxage-shared-shorter",
                "Age: 100 | Cache-Control: max-age=1, s-maxage=3600",
                Hit,
            ),
            (
                "freshness-max-age-s-maxage-shared-shorter-expires",
                "Expires: @-10 | Cache-Control: max-age=0, s-maxage=3600",
                Hit,
            ),
        ]
        .map(twice),
    );
}

#[test]
fn a_directive_is_neither_guessed_nor_found_within_another() {
    check(
        [
            (
                "freshness-max-age-two-fresh-stale-sameline",
                "Age: 9 | Cache-Control: max-age=1800, max-age=1",
                Hit,
            ),
            (
                "freshness-max-age-two-fresh-stale-sepline",
                "Age: 9 | Cache-Control: max-age=1800 | Cache-Control: max-age=1",
                Hit,
            ),
            (
                "freshness-max-age-two-stale-fresh-sameline",
                "Age: 9 | Cache-Control: max-age=1, max-age=1800",
                Miss,
            ),
            (
                "freshness-max-age-two-stale-fresh-sepline",
                "Age: 9 | Cache-Control: max-age=1 | Cache-Control: max-age=1800",
                Miss,
            ),
            ("freshness-max-age-quoted", "Cache-Control: max-age=\"3600\"", Hit),
            (
                "freshness-max-age-ignore-quoted",
                "Age: 9 | Cache-Control: extension=\"max-age=3600\", max-age=1",
                Miss,
            ),
            (
                "freshness-max-age-ignore-quoted-rev",
                "Age: 9 | Cache-Control: max-age=1, extension=\"max-age=3600\"",
                Miss,
            ),
            ("own-max-age-within-a-list", "Cache-Control: extension=\"a, max-age=3600\"", Miss),
            ("own-max-age-after-a-quote", "Cache-Control: extension=\"a\\\", b\", max-age=3600", Hit),
            ("own-max-age-in-a-longer-name", "Cache-Control: xmax-age=3600", Miss),
            ("freshness-max-age-space-before-equals", "Cache-Control: max-age =3600", Miss),
            ("freshness-max-age-space-after-equals", "Cache-Control: max-age= 3600", Miss),
            ("freshness-max-age-leading-zero", "Cache-Control: max-age=003600", Hit),
            ("freshness-max-age-single-quoted", "Cache-Control: max-age='3600'", Miss),
            ("freshness-max-age-decimal-zero", "Cache-Control: max-age=3600.0", Miss),
            ("freshness-max-age-decimal-five", "Cache-Control: max-age=3600.5", Miss),
            ("freshness-max-age-a100", "Cache-Control: max-age=a3600", Miss),
            ("freshness-max-age-100a", "Cache-Control: max-age=3600a", Miss),
            // A broken span is no leave to guess: not the Expires beside it, not a tenth since Last-Modified.
            ("own-max-age-broken-expires", "Cache-Control: max-age=a3600 | Expires: @3600", Miss),
            ("own-max-age-broken-heuristic", "Cache-Control: max-age=x | Last-Modified: @-86400", Validated),
        ]
        .map(twice),
    );
}

#[test]
fn age_is_its_first_number_or_nothing() {
    let rows = [
        ("age-parse-nonnumeric", "Age: abc", Hit),
        ("age-parse-negative", "Age: -7200", Hit),
        ("age-parse-float", "Age: 7200.0", Hit),
        ("age-parse-large-minus-one", "Age: 2147483647", Miss),
        ("age-parse-large", "Age: 2147483648", Miss),
        ("age-parse-larger", "Age: 2147483649", Miss),
        ("own-age-over-64-bits", "Age: 18446744073709551616", Miss),
        ("age-parse-suffix", "Age: 7200, 0", Miss),
        ("age-parse-prefix", "Age: 0, 7200", Hit),
        ("age-parse-suffix-twoline", "Age: 7200 | Age: 0", Miss),
        ("age-parse-prefix-twoline", "Age: 0 | Age: 7200", Hit),
        ("age-parse-dup-0", "Age: 0, 0", Hit),
        ("age-parse-dup-0-twoline", "Age: 0 | Age: 0", Hit),
        ("age-parse-dup-old", "Age: 2000 | Age: 2000", Hit),
        ("age-parse-parameter", "Age: 7200;foo=bar", Hit),
        ("age-parse-numeric-parameter", "Age: 7200;foo=111", Hit),
    ];
    check(rows.map(|(id, age, want)| {
        twice((id, &format!("Date: @0 | Cache-Control: max-age=3600 | {age}"), want))
    }));
}

#[test]
fn expires_counts_from_date_and_only_when_it_is_one_date() {
    check(
        [
            ("freshness-expires-future", "Expires: @2592000 | Date: @0", Hit),
            ("freshness-expires-past", "Expires: @-2592000 | Date: @0", Miss),
            ("freshness-expires-present", "Expires: @0 | Date: @0", Miss),
            ("freshness-expires-old-date", "Expires: @300 | Date: @400", Miss),
            ("freshness-expires-invalid", "Expires: 0 | Date: @0", Miss),
            ("freshness-expires-invalid-date", "Date: foo | Expires: @100", Hit),
            ("own-expires-without-date", "Expires: @100", Hit),
            ("freshness-expires-age-slow-date", "Date: @-100 | Expires: @100 | Age: 250", Miss),
            ("freshness-expires-age-fast-date", "Date: @100 | Expires: @200 | Age: 150", Miss),
            // Not by our clock: the server's may be wrong, but it agrees with itself.
            ("own-expires-fast-clock", "Date: @5000 | Expires: @5100", Hit),
            ("own-expires-slow-clock", "Date: @-50 | Expires: @-10 | ETag: \"a\"", Validated),
        ]
        .map(twice),
    );
}

#[test]
fn a_date_has_three_forms_in_any_case_and_no_other() {
    let rows = [
        ("freshness-expires-32bit", "Tue, 19 Jan 2038 14:14:08 GMT", Hit),
        ("freshness-expires-far-future", "Sun, 21 Nov 2286 04:46:39 GMT", Hit),
        ("freshness-expires-rfc850", "Thursday, 18-Aug-50 02:01:18 GMT", Hit),
        ("freshness-expires-ansi-c", "Thu Aug  8 02:01:18 2050", Hit),
        ("freshness-expires-wrong-case-weekday", "THU, 18 Aug 2050 02:01:18 GMT", Hit),
        ("freshness-expires-wrong-case-month", "Thu, 18 AUG 2050 02:01:18 GMT", Hit),
        ("freshness-expires-wrong-case-tz", "Thu, 18 Aug 2050 02:01:18 gMT", Hit),
        ("freshness-expires-invalid-utc", "Thu, 18 Aug 2050 02:01:18 UTC", Miss),
        ("freshness-expires-invalid-aest", "Thu, 18 Aug 2050 02:01:18 AEST", Miss),
        ("own-expires-invalid-offset", "Thu, 18 Aug 2050 02:01:18 +0000", Miss),
        ("freshness-expires-invalid-2-digit-year", "Thu, 18 Aug 50 02:01:18 GMT", Miss),
        ("freshness-expires-invalid-no-comma", "Thu 18 Aug 2050 02:01:18 GMT", Miss),
        ("freshness-expires-invalid-multiple-spaces", "Thu, 18  Aug  2050 02:01:18 GMT", Miss),
        ("freshness-expires-invalid-date-dashes", "Thu, 18-Aug-2050 02:01:18 GMT", Miss),
        ("freshness-expires-invalid-time-periods", "Thu, 18 Aug 2050 02.01.18 GMT", Miss),
        ("freshness-expires-invalid-1-digit-hour", "Thu, 18 Aug 2050 2:01:18 GMT", Miss),
        (
            "freshness-expires-invalid-multiple-lines",
            "Thu, 18 Aug 2050 02:01:18 GMT | Expires: Thu, 18 Aug 2050 02:01:19 GMT",
            Miss,
        ),
    ];
    check(rows.map(|(id, date, want)| twice((id, &format!("Date: @0 | Expires: {date}"), want))));
}

#[test]
fn of_a_field_that_is_repeated_or_broken_nothing_is_made_up() {
    check(
        [
            // The first of several counts, as with Age; a date that is none is as if it were not there.
            ("own-date-twice-old-first", "Date: @-7200 | Date: @0 | Cache-Control: max-age=3600", Miss),
            ("own-date-twice-new-first", "Date: @0 | Date: @-7200 | Cache-Control: max-age=3600", Hit),
            ("own-date-broken-age", "Date: foo | Age: 7200 | Cache-Control: max-age=3600", Miss),
            ("own-date-empty", "Date: | Cache-Control: max-age=3600", Hit),
            ("own-date-number", "Date: 0 | Expires: @100", Hit),
            ("own-date-list", "Date: @-7200, @-7200 | Cache-Control: max-age=3600", Hit),
            // One that is broken is in the past, however many there are (RFC 9111 section 5.3).
            ("own-expires-empty", "Date: @0 | Expires:", Miss),
            ("own-expires-minus-one", "Date: @0 | Expires: -1", Miss),
            ("own-expires-twice-the-same", "Date: @0 | Expires: @100 | Expires: @100", Miss),
            ("own-expires-and-a-broken-one", "Date: @0 | Expires: @100 | Expires: 0", Miss),
            ("own-expires-list", "Date: @0 | Expires: @100, @100", Miss),
            ("own-expires-broken-heuristic", "Date: @0 | Expires: 0 | Last-Modified: @-86400", Validated),
            ("own-expires-quoted", "Date: @0 | Expires: \"@100\"", Miss),
            ("own-age-empty", "Cache-Control: max-age=3600 | Age:", Hit),
            ("own-age-empty-then-old", "Cache-Control: max-age=3600 | Age: , 7200", Miss),
            ("own-age-quoted", "Cache-Control: max-age=3600 | Age: \"7200\"", Hit),
            ("own-age-plus", "Cache-Control: max-age=3600 | Age: +7200", Hit),
            ("own-age-hex", "Cache-Control: max-age=3600 | Age: 0x1c20", Hit),
            ("own-last-modified-broken", "Date: @0 | Last-Modified: yesterday | ETag: \"a\"", Validated),
        ]
        .map(twice),
    );
}

#[test]
fn s_maxage_beside_what_asks_for_validation_is_fresh_until_it_ends_and_not_a_second_longer() {
    let words = [
        ("own-s-maxage-must-revalidate", "must-revalidate"),
        ("own-s-maxage-proxy-revalidate", "proxy-revalidate"),
        ("own-s-maxage-both", "must-revalidate, proxy-revalidate"),
    ];
    check(words.into_iter().flat_map(|(id, word)| {
        let fields = |seconds: u32| {
            format!("Cache-Control: max-age=1, s-maxage={seconds}, {word} | Age: 100 | ETag: \"a\"")
        };
        [
            twice((&format!("{id}-fresh"), &fields(3600), Hit)),
            twice((&format!("{id}-stale"), &fields(60), Validated)),
        ]
    }));
}
