//! Who a request is from: what a stranger says about it never reaches a server, nor what merely looks like it.

use super::table::{Case, check, check_with, get, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    a_stranger_is_not_believed_whatever_the_case,
    nobody_is_believed_by_a_name_that_only_looks_like_one,
    a_claim_said_several_times_is_replaced_once,
    what_others_take_for_an_identity_passes_as_any_field,
];

/// Whoever comes from this machine is believed.
const TRUSTING: &str =
    "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntrusted-proxies = [\"127.0.0.0/8\"]\n";

/// Fields that only we, or proxies that are trusted, may send.
const CLAIMS: [&str; 12] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-User",
    "X-Forwarded-Prefix",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Anything",
    "X-Forwarded",
    "Forwarded",
    "X-Real-IP",
    "X-Request-Id",
];

/// It reaches the server, and the claim does not.
fn unbelieved(name: &str) -> Case {
    served(name, get(&format!("{name}: evil\r\n")), &["GET /x"]).without_value("evil")
}

#[test]
fn a_stranger_is_not_believed_whatever_the_case() {
    let cases = CLAIMS.iter().flat_map(|name| {
        let mixed: String = name
            .chars()
            .enumerate()
            .map(|(n, c)| if n % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
            .collect();
        [(*name).to_owned(), name.to_uppercase(), mixed]
    });
    let cases: std::collections::BTreeSet<String> = cases.collect();
    check(cases.iter().map(|name| unbelieved(name)));
}

#[test]
fn nobody_is_believed_by_a_name_that_only_looks_like_one() {
    let looks = CLAIMS.iter().flat_map(|name| {
        [
            name.replace('-', "_"),
            name.replacen('-', "_", 1),
            name.replace('-', "."),
            name.replace('-', "~"),
            format!("{name}_"),
            format!("_{name}"),
        ]
    });
    let framing = [
        "Content_Length",
        "Transfer_Encoding",
        "Content.Length",
        "Transfer.Encoding",
        "Host_",
        "Proxy_Authorization",
        "Remote_Addr",
    ];
    let all = looks.chain(framing.map(str::to_owned));
    let all: std::collections::BTreeSet<String> =
        all.filter(|name| !CLAIMS.contains(&name.as_str())).collect();
    check(all.iter().map(|name| unbelieved(name)));
    check_with(TRUSTING, all.iter().map(|name| unbelieved(name)));
}

#[test]
fn a_claim_said_several_times_is_replaced_once() {
    check([
        served("For", get("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n"), &["GET /x"])
            .with("x-forwarded-for: 127.0.0.1"),
        served("Proto", get("X-Forwarded-Proto: https\r\nx-forwarded-proto: https\r\n"), &["GET /x"])
            .with("x-forwarded-proto: http"),
        served("Host", get("X-Forwarded-Host: evil\r\nX-FORWARDED-HOST: evil\r\n"), &["GET /x"])
            .with("x-forwarded-host: test"),
        served("Forwarded", get("Forwarded: for=6.6.6.6\r\nForwarded: for=7.7.7.7\r\n"), &["GET /x"])
            .with("forwarded: for=127.0.0.1;proto=http;host=test"),
        served("Real-IP", get("X-Real-IP: 6.6.6.6\r\nX-Real-IP: 7.7.7.7\r\n"), &["GET /x"])
            .with("x-real-ip: 127.0.0.1"),
        served("empty", get("X-Forwarded-For:\r\nX-Real-IP:\r\nForwarded:\r\n"), &["GET /x"])
            .with("x-forwarded-for: 127.0.0.1"),
        served("with a bad value", get("X-Forwarded-For: ,,\t;\"\\\u{80}\r\n"), &["GET /x"])
            .with("x-forwarded-for: 127.0.0.1"),
    ]);
}

#[test]
fn a_trusted_proxy_is_believed_within_its_claims() {
    check_with(
        TRUSTING,
        [
            served("For", get("X-Forwarded-For: 203.0.113.7\r\n"), &["GET /x"])
                .with("x-forwarded-for: 203.0.113.7, 127.0.0.1")
                .with("x-real-ip: 203.0.113.7"),
            served("Proto", get("X-Forwarded-Proto: https\r\n"), &["GET /x"])
                .with("x-forwarded-proto: https"),
            served("User", get("X-Forwarded-User: alice\r\n"), &["GET /x"]).with("x-forwarded-user: alice"),
            served("id", get("X-Request-Id: mine-1\r\n"), &["GET /x"]).with("x-request-id: mine-1"),
            served("an id that is none", get("X-Request-Id: a b\r\n"), &["GET /x"]).without_value("a b"),
            served("Real-IP is worked out anew", get("X-Real-IP: 6.6.6.6\r\n"), &["GET /x"])
                .with("x-real-ip: 127.0.0.1"),
            served("For that is no address", get("X-Forwarded-For: evil\r\n"), &["GET /x"])
                .with("x-real-ip: 127.0.0.1"),
        ],
    );
}

#[test]
fn what_others_take_for_an_identity_passes_as_any_field() {
    // They are for the servers' operators to know, and to strip: we neither set nor believe them.
    let names =
        ["True-Client-IP", "X-Client-IP", "CF-Connecting-IP", "X-Original-URL", "X-HTTP-Method-Override"];
    check(
        names.map(|name| {
            served(name, get(&format!("{name}: x\r\n")), &["GET /x"]).with(&format!("{name}: x"))
        }),
    );
}
