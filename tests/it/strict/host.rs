//! Whose request it is: `Host`, alone and against an authority in the target (RFC 9110 section 7.2, RFC 9112 section 3.2).

use super::table::{Case, check, get, refused, served, served_last};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    a_host_of_the_grammar_reaches_the_server_as_it_is,
    a_host_that_is_not_of_the_grammar_is_refused,
    there_is_one_host_line,
    the_authority_of_an_absolute_target_counts_and_replaces_the_host,
    an_absolute_target_that_is_no_http_url_is_refused,
    beside_an_absolute_target_the_host_must_be_well_formed_too,
    http_1_0_has_a_host_too,
    claims_about_the_host_in_other_fields_do_not_count,
];

/// A request with these lines in place of its `Host`.
fn lines(lines: &str) -> String {
    format!("GET /x HTTP/1.1\r\n{lines}\r\n")
}

fn of(value: &str) -> String {
    lines(&format!("Host: {value}\r\n"))
}

/// A target in absolute-form, and a `Host` that is well formed.
fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[test]
fn a_host_of_the_grammar_reaches_the_server_as_it_is() {
    let values = [
        "test",
        "TEST",
        "test.",
        "a.b.c",
        "te-st",
        "under_score",
        "1.2.3.4",
        "1.2.3.4:80",
        "256.256.256.256",
        "test:",
        "test:0",
        "test:80",
        "test:080",
        "test:8080",
        "test:65535",
        "[::1]",
        "[::1]:80",
        "[::1]:",
        "[::]",
        "[2001:DB8::1]:443",
        "[::ffff:1.2.3.4]",
        "xn--caf-dma.example",
        "caf%C3%A9",
        "a~b",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let plain = values.map(|value| served(value, of(value), &["GET /x"]).with(&format!("host: {value}")));
    let written = [
        ("lower case", "host: test\r\n"),
        ("upper case", "HOST: test\r\n"),
        ("no space", "Host:test\r\n"),
        ("many spaces", "Host:    test   \r\n"),
        ("tabs", "Host:\ttest\t\r\n"),
        ("not the first field", "X-A: 1\r\nHost: test\r\n"),
        ("beside another name", "X-Host: evil\r\nHost: test\r\nHosts: evil\r\n"),
        ("beside its look-alike", "Host_: evil\r\nHost: test\r\nHTTP_HOST: evil\r\n"),
    ];
    let written = written
        .map(|(name, text)| served(name, lines(text), &["GET /x"]).with("host: test").without("http_host"));
    check(plain.into_iter().chain(written));
}

#[test]
fn a_host_that_is_not_of_the_grammar_is_refused() {
    let long = "a".repeat(256);
    let values = [
        "",
        "\t",
        " ",
        ".",
        "..",
        "...",
        ":",
        ":80",
        "te st",
        "te\tst",
        "test test",
        "test, other",
        "test,test",
        "test,",
        ",test",
        "test;a b",
        "\"test\"",
        "te\"st",
        "<test>",
        "te<st",
        "{test}",
        "te|st",
        "te\\st",
        "te^st",
        "te`st",
        "test/",
        "/test",
        "test/path",
        "//test",
        "http://test",
        "http://test/",
        "test?",
        "test?q",
        "test#",
        "test#f",
        "@",
        "@test",
        "user@test",
        "user:password@test",
        "user@test:80",
        "test@",
        "test:65536",
        "test:99999",
        "test:65616",
        "test:4294967376",
        "test:18446744073709551696",
        "test:-1",
        "test:+80",
        "test: 80",
        "test :80",
        "test:8 0",
        "test:80:80",
        "test::80",
        "test::",
        "test:http",
        "test:0x50",
        "test:80a",
        "test:a80",
        "test:80,81",
        "test:80/",
        "test:80?x",
        "test:80#x",
        "test:80@evil",
        "test:8%30",
        "[",
        "]",
        "[]",
        "[:]",
        "[::1",
        "::1]",
        "::1",
        "[::1]]",
        "[[::1]]",
        "[::1]80",
        "[::1]x",
        "[::1]:65536",
        "[::1]:x",
        "[::1]:80:80",
        "[::1].",
        "x[::1]",
        "[::g]",
        "[:::1]",
        "[1::2::3]",
        "[1:2:3:4:5:6:7:8:9]",
        "[1:2:3:4:5:6:7]",
        "[::12345]",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[fe80::1%lo]",
        "[::1 ]",
        "[ ::1]",
        "[::256.1.1.1]",
        "[1.2.3.4]",
        "[test]",
        "[v1.a]",
        "[v7.a:b]",
        "2001:db8::1",
        "test%",
        "test%2",
        "test%zz",
        "%",
        "test%00",
        "test%2f",
        "test%2F",
        "test%5c",
        "test%40evil",
        "user%40test",
        "test%3a80",
        "test%0d%0a",
        "test%0a",
        "test%20",
        "test%09",
        "test%7f",
        "test%23",
        "test%3f",
        "test%25",
        "te\0st",
        "te\u{1}st",
        "te\u{b}st",
        "te\u{c}st",
        "te\u{7f}st",
        "te\u{80}st",
        "te\u{a0}st",
        "caf\u{e9}",
        "caf\u{c3}\u{a9}",
        "\u{ef}\u{bc}\u{8e}",
        long.as_str(),
    ];
    check(values.iter().map(|value| refused(format!("host {value:?}"), of(value), &[400])));
}

#[test]
fn there_is_one_host_line() {
    let rows = [
        ("no host", ""),
        ("no host, but a host of another name", "X-Host: test\r\nX-Forwarded-Host: test\r\n"),
        ("no host but its look-alike", "Host_: test\r\n"),
        ("the same host twice", "Host: test\r\nHost: test\r\n"),
        ("two hosts", "Host: test\r\nHost: other\r\n"),
        ("two hosts in two cases", "Host: test\r\nHOST: other\r\n"),
        ("two hosts apart", "Host: test\r\nX-A: 1\r\nX-B: 2\r\nHost: other\r\n"),
        ("an empty host first", "Host:\r\nHost: test\r\n"),
        ("an empty host second", "Host: test\r\nHost:\r\n"),
        ("three hosts", "Host: test\r\nHost: test\r\nHost: test\r\n"),
        ("a space before the colon", "Host : test\r\n"),
        ("a tab before the colon", "Host\t: test\r\n"),
        ("a good host and one with a space before the colon", "Host: test\r\nHost : other\r\n"),
        ("a blank before the first field", " Host: test\r\n"),
        ("a tab before the first field", "\tHost: test\r\n"),
        ("a good host and one after a blank", "Host: test\r\n Host: other\r\n"),
        ("a folded host", "Host:\r\n test\r\n"),
        ("a host that goes on", "Host: te\r\n st\r\n"),
        ("a host that goes on after a tab", "Host: test\r\n\tother\r\n"),
        ("NUL in the name", "Ho\0st: test\r\n"),
        ("NUL behind the name", "Host: test\r\nHost\0: other\r\n"),
        ("a space in the name", "Ho st: test\r\n"),
        ("no colon", "Host test\r\n"),
        ("an equals sign", "Host=test\r\n"),
        ("an accent", "H\u{f6}st: test\r\n"),
    ];
    check(rows.map(|(name, text)| refused(name, lines(text), &[400])));
}

#[test]
fn the_authority_of_an_absolute_target_counts_and_replaces_the_host() {
    let rows = [
        ("http://test/x", "/x", "test"),
        ("http://other/x", "/x", "other"),
        ("http://other:81/x", "/x", "other:81"),
        ("http://other:/x", "/x", "other:"),
        ("http://OTHER/x", "/x", "OTHER"),
        ("HTTP://other/x", "/x", "other"),
        ("hTtP://other/x", "/x", "other"),
        ("https://other/x", "/x", "other"),
        ("http://other", "/", "other"),
        ("http://other?q", "/?q", "other"),
        ("http://other/?q=http://third/", "/?q=http://third/", "other"),
        ("http://other//x", "//x", "other"),
        ("http://other/http://third/", "/http://third/", "other"),
        ("http://[::1]:80/x", "/x", "[::1]:80"),
        ("http://1.2.3.4/x", "/x", "1.2.3.4"),
    ];
    check(rows.map(|(absolute, path, host)| {
        let asked = format!("GET {path}");
        served(absolute, target(absolute), &[asked.as_str()]).with(&format!("host: {host}")).without("x-host")
    }));
}

#[test]
fn an_absolute_target_that_is_no_http_url_is_refused() {
    let targets = [
        "http://",
        "http:///",
        "http:///x",
        "http:/x",
        "http:x",
        "http:",
        "http",
        "://test/x",
        "http//test/x",
        "http://user@test/x",
        "http://user:pw@test/x",
        "http://@test/x",
        "http://a@b@c/x",
        "http://test@/x",
        "http://test:65536/x",
        "http://test:99999/x",
        "http://test:-1/x",
        "http://test:+80/x",
        "http://test:a/x",
        "http://test:80:80/x",
        "http://:80/x",
        "http://te_%zz/x",
        "http://test%2fx/",
        "http://test%00/",
        "http://test,other/x",
        "http://te\"st/x",
        "http://test\\x",
        "http://test\\@evil/x",
        "http://[::1/x",
        "http://::1/x",
        "http://[::1]x/",
        "http://[::1%25eth0]/",
        "http://[v1.a]/",
        "http://te\u{e9}st/x",
        "http://./x",
        "http:\\\\test\\x",
        "ftp://test/x",
        "file:///x",
        "file://test/x",
        "ws://test/x",
        "gopher://test/x",
        "unix:/x",
        "javascript:alert(1)",
        "data:text/plain,x",
        "mailto:a@test",
        "urn:a:b",
        "h2c://test/x",
        "test/x",
        "x",
        "?x",
        "test:80",
        "test",
        ":80",
        "./x",
        "../x",
        "%2fx",
        "@test/x",
        "*",
        "**",
        "*/x",
        "*?x",
    ];
    check(targets.iter().map(|text| refused(format!("target {text:?}"), target(text), &[400])));
}

#[test]
fn beside_an_absolute_target_the_host_must_be_well_formed_too() {
    let at = |hosts: &str| format!("GET http://test/x HTTP/1.1\r\n{hosts}\r\n");
    let rows = [
        ("none", ""),
        ("empty", "Host:\r\n"),
        ("two", "Host: test\r\nHost: test\r\n"),
        ("two that differ", "Host: test\r\nHost: other\r\n"),
        ("with a path", "Host: test/x\r\n"),
        ("with a user", "Host: a@test\r\n"),
        ("a list", "Host: test, test\r\n"),
        ("a port too high", "Host: test:65536\r\n"),
    ];
    check(rows.map(|(name, hosts)| refused(name, at(hosts), &[400])));
}

#[test]
fn http_1_0_has_a_host_too() {
    let old = |line: &str, host: &str| format!("{line} HTTP/1.0\r\n{host}\r\n");
    check([
        served_last("a host", old("GET /x", "Host: test\r\n"), &["GET /x"]).with("host: test"),
        refused("none", old("GET /x", ""), &[400]),
        refused("two", old("GET /x", "Host: test\r\nHost: other\r\n"), &[400]),
        refused("a bad one", old("GET /x", "Host: a@b\r\n"), &[400]),
        served_last("an absolute target", old("GET http://other/x", "Host: test\r\n"), &["GET /x"])
            .with("host: other"),
        refused("an absolute target and no host", old("GET http://other/x", ""), &[400]),
    ]);
}

#[test]
fn claims_about_the_host_in_other_fields_do_not_count() {
    let rows = [
        "X-Forwarded-Host: evil\r\n",
        "X-Host: evil\r\n",
        "X-Original-Host: evil\r\n",
        "Forwarded: host=evil\r\n",
    ];
    let cases = rows.map(|field| {
        served(field, get(field), &["GET /x"]).with("host: test").with("x-forwarded-host: test")
    });
    let cases: [Case; 4] = cases;
    check(cases);
}
