//! What a request that changes something makes worthless (RFC 9111 §4.4), and what the answer to a POST is
//! good for (RFC 9110 §9.3.3).

use super::table::Want::{AskedBy, Body, Hit, Miss, Status};
use super::table::{Rule, check, rule};

const FRESH: &str = "200 | Cache-Control: max-age=100000 | Date: @0";

/// Methods that are not safe, a registered but rare one and an unknown one among them.
const UNSAFE: [&str; 6] = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "WHATEVER"];

fn after(id: String, ask: &str, answer: &str, want: super::table::Want) -> Rule {
    let stored = rule(id).then("GET", FRESH, &[Miss]).then("GET", "200", &[Hit]);
    stored.then(ask, answer, &[Miss]).then("GET", "200", &[want])
}

#[test]
fn an_unsafe_method_invalidates_unless_it_failed() {
    check(UNSAFE.into_iter().flat_map(|method| {
        let ask = format!("{method} | = abc");
        [
            after(format!("invalidate-{method}"), &ask, "200", Miss),
            after(format!("own-invalidate-{method}-204"), &ask, "204", Miss),
            after(format!("own-invalidate-{method}-303"), &ask, "303 | Location: /elsewhere", Miss),
            after(format!("invalidate-{method}-failed"), &ask, "500", Hit),
            after(format!("own-invalidate-{method}-refused"), &ask, "404", Hit),
        ]
    }));
}

#[test]
fn every_variant_goes() {
    let varied = |body: &str| format!("{FRESH} | Vary: Foo | = {body}");
    check([rule("own-invalidate-variants")
        .then("GET | Foo: 1", varied("one"), &[Miss])
        .then("GET | Foo: 2", varied("two"), &[Miss])
        .then("GET | Foo: 1", "200", &[Hit, Body("one")])
        .then("DELETE | Foo: 3", "200", &[Miss])
        .then("GET | Foo: 1", "200", &[Miss])
        .then("GET | Foo: 2", "200", &[Miss])]);
}

#[test]
fn a_safe_method_invalidates_nothing() {
    check([
        after("gap-178-options".to_owned(), "OPTIONS", "200", Hit),
        after("gap-178-options-location".to_owned(), "OPTIONS", "200 | Content-Location: {}", Hit),
        after("gap-178-head".to_owned(), "HEAD | Cache-Control: no-store", "200", Hit),
        after("gap-178-get".to_owned(), "GET | Cache-Control: no-store", "200 | Location: {}", Hit),
    ]);
}

#[test]
fn location_and_content_location_of_the_same_origin_go_too() {
    let named = |id: String, method: &str, status: &str, field: &str, value: &str, want| {
        rule(id)
            .then("GET {}/other", FRESH, &[Miss])
            .then("GET {}/other", "200", &[Hit])
            .then(format!("{method} | = abc"), format!("{status} | {field}: {value}"), &[Miss])
            .then("GET {}/other", "200", &[want])
    };
    let methods = ["POST", "PUT", "DELETE", "M-SEARCH"];
    check(methods.into_iter().flat_map(|method| {
        let id = |what: &str| format!("invalidate-{method}-{what}");
        [
            named(id("location"), method, "201", "Location", "{}/other", Miss),
            named(id("location-absolute"), method, "201", "Location", "http://test{}/other", Miss),
            named(id("location-default-port"), method, "201", "Location", "HTTP://TEST:80{}/other", Miss),
            named(id("location-fragment"), method, "201", "Location", "{}/other#there", Miss),
            named(id("cl"), method, "200", "Content-Location", "{}/other", Miss),
            named(id("cl-absolute"), method, "200", "Content-Location", "http://test{}/other", Miss),
            named(id("location-failed"), method, "500", "Location", "{}/other", Hit),
            named(id("location-another"), method, "201", "Location", "{}/third", Hit),
            named(id("location-no-uri"), method, "201", "Location", "http://[", Hit),
        ]
    }));
}

#[test]
fn another_host_cannot_be_invalidated() {
    let elsewhere = |id: &str, field: &str, value: &str| {
        rule(id)
            .then("GET {}/other | Host: other.test", FRESH, &[Miss])
            .then("GET {}/other | Host: test:8080", FRESH, &[Miss])
            .then("POST | = abc", format!("200 | {field}: {value}"), &[Miss])
            .then("GET {}/other | Host: other.test", "200", &[Hit])
            .then("GET {}/other | Host: test:8080", "200", &[Hit])
    };
    check([
        elsewhere("gap-177-location", "Location", "http://other.test{}/other"),
        elsewhere("gap-177-cl", "Content-Location", "http://other.test{}/other"),
        elsewhere("gap-177-port", "Location", "http://test:8080{}/other"),
        elsewhere("gap-177-slashes", "Location", "//other.test{}/other"),
        elsewhere("gap-177-user", "Location", "http://test@other.test{}/other"),
    ]);
}

#[test]
fn a_post_whose_answer_is_that_of_get_is_stored() {
    let posted = |id: &str, answer: &str, want| {
        rule(id).then("POST | Content-Type: text/plain | = 12345", answer, &[Miss, AskedBy("POST")]).then(
            "GET",
            "200",
            &[want],
        )
    };
    check([
        posted("method-POST", "200 | Cache-Control: max-age=3600 | Content-Location: {} | Date: @0", Hit),
        posted(
            "own-post-absolute",
            "200 | Cache-Control: max-age=3600 | Content-Location: http://test{}",
            Hit,
        ),
        posted("own-post-elsewhere", "200 | Cache-Control: max-age=3600 | Content-Location: {}/x", Miss),
        posted(
            "own-post-another-host",
            "200 | Cache-Control: max-age=3600 | Content-Location: http://x{}",
            Miss,
        ),
        posted("own-post-unnamed", "200 | Cache-Control: max-age=3600", Miss),
        posted("own-post-heuristic", "200 | Last-Modified: @-86400 | Content-Location: {}", Miss),
        posted("own-post-201", "201 | Cache-Control: max-age=3600 | Content-Location: {}", Miss),
        posted(
            "own-post-no-store",
            "200 | Cache-Control: max-age=3600, no-store | Content-Location: {}",
            Miss,
        ),
        rule("own-post-replaces")
            .then("GET", format!("{FRESH} | = old"), &[Miss])
            .then("POST | = 1", "200 | Cache-Control: max-age=3600 | Content-Location: {} | = new", &[Miss])
            .then("GET", "200", &[Hit, Status(200), Body("new")]),
        rule("own-post-is-always-sent")
            .then("POST | = 1", "200 | Cache-Control: max-age=3600 | Content-Location: {}", &[Miss])
            .then("POST | = 2", "200", &[Miss, AskedBy("POST")]),
        rule("own-put-is-not-stored")
            .then("PUT | = 1", "200 | Cache-Control: max-age=3600 | Content-Location: {}", &[Miss])
            .then("GET", "200", &[Miss]),
    ]);
}
