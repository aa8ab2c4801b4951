//! The request line (RFC 9112 section 3): method, target, version, one space between them.

use super::table::{answered, check, get, refused, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    any_token_is_a_method_and_travels_as_it_is,
    what_is_no_token_is_no_method,
    connect_trace_and_endless_methods_are_refused,
    a_target_travels_as_it_is,
    a_target_of_other_characters_is_refused,
    a_version_is_http_1_0_or_1_1,
    there_is_one_space_between_them,
    the_asterisk_is_for_options_alone,
    options_go_as_far_as_max_forwards_lets_them,
];

fn line(line: &str) -> String {
    format!("{line}\r\nHost: test\r\n\r\n")
}

#[test]
fn any_token_is_a_method_and_travels_as_it_is() {
    let methods = [
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "HEAD",
        "PROPFIND",
        "M-SEARCH",
        "VERSION-CONTROL",
        "PURGE",
        "get",
        "Get",
        "gET",
        "G",
        "GETT",
        "GE",
        "X!#$%&'*+-.^_`|~1",
        "0",
        "PRI",
    ];
    check(methods.map(|method| {
        let case = served(
            format!("method {method:?}"),
            line(&format!("{method} /x HTTP/1.1")),
            &[format!("{method} /x").as_str()],
        );
        // Ours to know: some are refused here and elsewhere allowed.
        if method == "PRI" { case.or_refused(&[400, 405, 501]) } else { case }
    }));
}

#[test]
fn what_is_no_token_is_no_method() {
    let methods = [
        "",
        "GE T",
        "G\tET",
        "GE(T",
        "GE)T",
        "GE<T",
        "<GET>",
        "G@T",
        "GET,",
        "GET;",
        "GET:",
        "GE\\T",
        "GE/T",
        "/GET",
        "\"GET\"",
        "[GET]",
        "GET?",
        "GET=",
        "{GET}",
        "G\0ET",
        "\0GET",
        "GET\0",
        "\u{1}GET",
        "G\u{7f}T",
        "G\u{c9}T",
        "\u{80}GET",
        "GET\u{a0}",
        "\u{ef}\u{bb}\u{bf}GET",
        "G\u{b}ET",
        "G\u{1b}ET",
    ];
    check(
        methods.map(|method| {
            refused(format!("method {method:?}"), line(&format!("{method} /x HTTP/1.1")), &[400])
        }),
    );
}

#[test]
fn connect_trace_and_endless_methods_are_refused() {
    let mut rows = vec![
        refused(
            "CONNECT to an authority",
            "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n",
            &[405, 400, 501],
        ),
        refused("CONNECT to a path", line("CONNECT /x HTTP/1.1"), &[405, 400, 501]),
        refused("CONNECT to a URL", line("CONNECT http://test/x HTTP/1.1"), &[405, 400, 501]),
        refused("CONNECT to nothing", line("CONNECT  HTTP/1.1"), &[400]),
        refused(
            "CONNECT with a body",
            "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\nContent-Length: 3\r\n\r\nabc",
            &[405, 400, 501],
        ),
        refused("TRACE", line("TRACE /x HTTP/1.1"), &[405, 501]),
        refused("TRACE of everything", line("TRACE * HTTP/1.1"), &[405, 400, 501]),
        refused(
            "TRACE with a body",
            "TRACE /x HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc",
            &[405, 400, 501],
        ),
        refused(
            "TRACE that goes no further",
            "TRACE /x HTTP/1.1\r\nHost: test\r\nMax-Forwards: 0\r\n\r\n",
            &[405, 501],
        ),
        served("TRACK is another word", line("TRACK /x HTTP/1.1"), &["TRACK /x"]).or_refused(&[405, 501]),
        served("trace is another word", line("trace /x HTTP/1.1"), &["trace /x"]).or_refused(&[405, 501]),
    ];
    for (length, statuses) in
        [(33, &[501][..]), (1000, &[501]), (20_000, &[400, 414, 431, 501]), (100_000, &[400, 414, 431, 501])]
    {
        let method = "M".repeat(length);
        rows.push(refused(format!("a method of {length}"), line(&format!("{method} /x HTTP/1.1")), statuses));
    }
    rows.push(served(
        "a method of 32",
        line(&format!("{} /x HTTP/1.1", "M".repeat(32))),
        &[&format!("{} /x", "M".repeat(32))],
    ));
    check(rows);
}

#[test]
fn a_target_travels_as_it_is() {
    let targets = [
        "/",
        "//",
        "///x",
        "/x/",
        "/x//y",
        "/?",
        "/??",
        "/?q",
        "/x?a=b&c=d",
        "/x?a=/../b",
        "/x?a=b?c",
        "/x?//",
        "/x?http://test/",
        "/x;y",
        "/x,y",
        "/x=y",
        "/x:y",
        "/x@y",
        "/:x",
        "/@x",
        "/~x",
        "/x!$&'()*+,;=:@-._~",
        "/%41",
        "/%c3%a9",
        "/%C3%A9?%c3%a9",
        "/x%20y",
        "/x%0ay",
        "/x%0d%0aX-A:%201",
        "/x?%00",
        "/x?%",
        "/x?%zz",
        "/.x",
        "/..x",
        "/x..",
        "/x.",
        "/...",
        "/http://test/x",
        "/*",
    ];
    check(targets.map(|target| {
        served(
            format!("target {target:?}"),
            line(&format!("GET {target} HTTP/1.1")),
            &[format!("GET {target}").as_str()],
        )
    }));
}

#[test]
fn a_target_of_other_characters_is_refused() {
    let targets = [
        "/x\ty",
        "/x\u{b}y",
        "/x\u{c}y",
        "/x\0y",
        "/\0",
        "/x\u{1}",
        "/x\u{1f}",
        "/x\u{7f}",
        "/\u{80}",
        "/x\u{a0}y",
        "/\u{c3}\u{a9}",
        "/caf\u{e9}",
        "/?\u{c3}\u{a9}",
        "/?\u{1}",
        "/?\0",
        "/?\u{7f}",
        "\\x",
        "/\\x",
        "/x\\y",
        "/x\\..\\y",
        "/x y",
        "/x  y",
        "/x HTTP/1.1 y",
    ];
    let bad = targets
        .map(|target| refused(format!("target {target:?}"), line(&format!("GET {target} HTTP/1.1")), &[400]));
    let fragments = [
        "/x#",
        "/x#f",
        "/#",
        "#",
        "/x?q#f",
        "/x##",
        "/x#f?q",
        "/x#/../y",
        "http://test/x#f",
        "http://test#f",
    ];
    let fragments = fragments
        .map(|target| refused(format!("target {target:?}"), line(&format!("GET {target} HTTP/1.1")), &[400]));
    // Not of the grammar, but harmless, and sent by browsers and tools of every age.
    let odd = [
        "/x\"y",
        "/x<y",
        "/x>y",
        "/x{y}",
        "/x|y",
        "/x^y",
        "/x`y",
        "/x[y]",
        "/x?a[]=1",
        "/x?{\"a\":1}",
        "/x?<>",
        "/x?|",
        "/x?\\",
        "/x?^`",
    ];
    let odd = odd.map(|target| {
        let asked = format!("GET {target}");
        served(format!("target {target:?}"), line(&format!("{asked} HTTP/1.1")), &[asked.as_str()])
            .or_refused(&[400])
    });
    let long = format!("GET /{} HTTP/1.1", "x".repeat(9000));
    let longer = format!("GET /{} HTTP/1.1", "x".repeat(70_000));
    let query = format!("GET /x?{} HTTP/1.1", "x".repeat(9000));
    let long = [
        refused("a long path", line(&long), &[414]),
        refused("a longer path", line(&longer), &[414, 431]),
        refused("a long query", line(&query), &[414]),
    ];
    check(bad.into_iter().chain(fragments).chain(odd).chain(long));
}

#[test]
fn a_version_is_http_1_0_or_1_1() {
    let versions = [
        "HTTP/0.9",
        "HTTP/0.0",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/3.0",
        "HTTP/3",
        "HTTP/9.9",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/",
        "HTTP",
        "HTTP/1,1",
        "HTTP/1.1.1",
        "HTTP/1.1x",
        "HTTP/1.1,",
        "HTTP/1.1;",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/10.1",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP/1.-1",
        "HTTP/1.+1",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP/A.B",
        "HTTP/0x1.1",
        "http/1.1",
        "Http/1.1",
        "hTTP/1.1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1 .1",
        "HTTP/1. 1",
        "HTTP\\1.1",
        "HTTPS/1.1",
        "XHTTP/1.1",
        "HTTP-1.1",
        "HTTP//1.1",
        "/HTTP/1.1",
        "HTP/1.1",
        "HTTTP/1.1",
        "ICY/1.1",
        "RTSP/1.0",
        "SIP/2.0",
        "SHTTP/1.3",
        "HTTP/1.1\0",
        "HTTP/1.\0",
        "HTTP/1.\u{b9}",
        "HTTP/1.1\u{a0}",
        "HTTP/1.1\u{b}",
        "HTTP/1.1\t",
        "HTTP/1.1 ",
        "HTTP/1.1 HTTP/1.1",
        "HTTP/1.1 x",
        "\"HTTP/1.1\"",
        "1.1",
        "HTTP/65537.1",
        "HTTP/4294967297.1",
    ];
    let bad = versions.map(|version| {
        refused(format!("version {version:?}"), line(&format!("GET /x {version}")), &[400, 505])
    });
    // RFC 9110 section 2.5: what is sent as a later 1.x can be read as the last one we know, or be refused.
    let later = ["HTTP/1.2", "HTTP/1.3", "HTTP/1.9"].map(|version| {
        served(format!("version {version:?}"), line(&format!("GET /x {version}")), &["GET /x"])
            .or_refused(&[400, 505])
    });
    let none = [
        refused("no version", line("GET /x"), &[400]),
        refused("no version but a space", line("GET /x "), &[400]),
        refused("no version and no fields", "GET /x\r\n\r\n", &[400]),
        refused("no version, and the end", "GET /x\r\n", &[400]).last(),
        refused("no target", line("GET HTTP/1.1"), &[400]),
        refused("no target but two spaces", line("GET  HTTP/1.1"), &[400]),
        refused("a method alone", line("GET"), &[400]),
        refused("a target alone", line("/x"), &[400]),
        refused("a version alone", line("HTTP/1.1"), &[400]),
        refused("a response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[400]),
        refused("fields alone", "Host: test\r\n\r\n", &[400]),
        refused("a TLS handshake", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n", &[400]),
        refused("an SSH banner", "SSH-2.0-OpenSSH_9.2\r\n\r\n", &[400]),
        refused("half of HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[400, 505]),
    ];
    check(bad.into_iter().chain(later).chain(none));
}

#[test]
fn there_is_one_space_between_them() {
    let rows = [
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET  /x  HTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET /x\tHTTP/1.1",
        "GET\t/x\tHTTP/1.1",
        "GET \t/x HTTP/1.1",
        "GET\u{b}/x HTTP/1.1",
        "GET /x\u{b}HTTP/1.1",
        "GET\u{c}/x HTTP/1.1",
        "GET /x\u{c}HTTP/1.1",
        "GET\u{a0}/x HTTP/1.1",
        "GET /x\u{a0}HTTP/1.1",
        "GET\0/x HTTP/1.1",
        "GET/x HTTP/1.1",
        "GET /xHTTP/1.1",
        "GET+/x+HTTP/1.1",
        " GET /x HTTP/1.1",
        "\tGET /x HTTP/1.1",
        "GET /x HTTP/1.1 ",
        "GET /x HTTP/1.1\t",
        "GET /x y HTTP/1.1",
        "GET /x /y HTTP/1.1",
        "GET GET /x HTTP/1.1",
        "GET /x HTTP/1.1 /smuggled HTTP/1.1",
    ];
    check(rows.map(|text| refused(format!("spaces {text:?}"), line(text), &[400])));
}

#[test]
fn the_asterisk_is_for_options_alone() {
    check([
        served("OPTIONS", line("OPTIONS * HTTP/1.1"), &["OPTIONS *"]),
        served("OPTIONS of a path", line("OPTIONS /x HTTP/1.1"), &["OPTIONS /x"]),
        served("OPTIONS of the root", line("OPTIONS / HTTP/1.1"), &["OPTIONS /"]),
        served(
            "OPTIONS of a path with a URL behind it",
            line("OPTIONS /x?back=https://test HTTP/1.1"),
            &["OPTIONS /x?back=https://test"],
        ),
        served("OPTIONS of a path like a URL", line("OPTIONS /x://test HTTP/1.1"), &["OPTIONS /x://test"]),
        // RFC 9112 section 3.2.4: the last proxy makes `*` of a URL without a path.
        served("OPTIONS of a URL without a path", line("OPTIONS http://test HTTP/1.1"), &["OPTIONS *"]),
        served("OPTIONS of a URL with a path", line("OPTIONS http://test/ HTTP/1.1"), &["OPTIONS /"]),
        refused("OPTIONS of more than an asterisk", line("OPTIONS *x HTTP/1.1"), &[400]),
        refused("OPTIONS of two", line("OPTIONS ** HTTP/1.1"), &[400]),
        refused("OPTIONS of an asterisk with a query", line("OPTIONS *?x HTTP/1.1"), &[400]),
        refused("GET", line("GET * HTTP/1.1"), &[400]),
        refused("POST", line("POST * HTTP/1.1"), &[400]),
        refused("HEAD", line("HEAD * HTTP/1.1"), &[400]),
        refused("options", line("options * HTTP/1.1"), &[400]),
    ]);
}

#[test]
fn options_go_as_far_as_max_forwards_lets_them() {
    let options = |value: &str| format!("OPTIONS /x HTTP/1.1\r\nHost: test\r\nMax-Forwards: {value}\r\n\r\n");
    let huge = "99999999999999999999999999999";
    check([
        answered("0", options("0"), &[200, 204]),
        answered("00", options("00"), &[200, 204]),
        answered("0 for all", "OPTIONS * HTTP/1.1\r\nHost: test\r\nMax-Forwards: 0\r\n\r\n", &[200, 204]),
        served("1", options("1"), &["OPTIONS /x"]).with("max-forwards: 0"),
        served("10", options("10"), &["OPTIONS /x"]).with("max-forwards: 9"),
        served("010", options("010"), &["OPTIONS /x"]).with("max-forwards: 9"),
        served("none", "OPTIONS /x HTTP/1.1\r\nHost: test\r\n\r\n", &["OPTIONS /x"]).without("max-forwards"),
        served("huge", options(huge), &["OPTIONS /x"]).without_value(huge),
        refused("negative", options("-1"), &[400]),
        refused("signed", options("+1"), &[400]),
        refused("a word", options("x"), &[400]),
        refused("empty", options(""), &[400]),
        refused("a list", options("1, 0"), &[400]),
        refused("twice", options("1\r\nMax-Forwards: 0"), &[400]),
        served("GET", get("Max-Forwards: 0\r\n"), &["GET /x"]).with("max-forwards: 0"),
        served("GET, and no number", get("Max-Forwards: x\r\n"), &["GET /x"]).with("max-forwards: x"),
        answered(
            "0, with a body",
            "OPTIONS /x HTTP/1.1\r\nHost: test\r\nMax-Forwards: 0\r\nContent-Length: 3\r\n\r\nabc",
            &[200, 204],
        )
        .or_refused(&[200, 204]),
    ]);
}
