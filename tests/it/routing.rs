//! Which route takes a request.

use crate::support::{Origin, Proxy};

/// A proxy whose every route leads to a server that says the route's name.
fn routes(patterns: &[(&'static str, &str)]) -> (Proxy, Vec<Origin>) {
    let mut toml = String::new();
    let mut origins = Vec::new();
    for (name, keys) in patterns {
        let origin = Origin::saying(name);
        toml += &format!("[[route]]\nname = \"{name}\"\nupstream = \"{name}\"\n{keys}\n");
        toml += &format!("[upstream.{name}]\nservers = [{}]\n", origin.toml());
        origins.push(origin);
    }
    (Proxy::start(&toml), origins)
}

#[track_caller]
fn taken_by(proxy: &Proxy, host: &str, path: &str) -> String {
    let answer = proxy.client().send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
    if answer.status() == 200 { answer.text() } else { answer.status().to_string() }
}

#[test]
fn the_most_specific_host_wins() {
    let (proxy, _origins) = routes(&[
        ("any", ""),
        ("wild", "host = \"*.example.com\""),
        ("deeper", "host = \"*.api.example.com\""),
        ("exact", "host = \"www.example.com\""),
    ]);

    for (host, route) in [
        ("www.example.com", "exact"),
        ("WWW.Example.COM", "exact"),
        ("www.example.com:8080", "exact"),
        ("www.example.com.", "exact"),
        ("a.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("v1.api.example.com", "deeper"),
        ("example.com", "any"),
        ("notexample.com", "any"),
        ("[::1]:80", "any"),
    ] {
        assert_eq!(taken_by(&proxy, host, "/"), route, "{host}");
    }
}

#[test]
fn the_most_specific_path_wins() {
    let (proxy, _origins) = routes(&[
        ("rest", "path = \"/*\""),
        ("api", "path = \"/api/*\""),
        ("v1", "path = \"/api/v1/*\""),
        ("about", "path = \"/about\""),
        ("photos", "path = \"/users/*/photos\""),
    ]);

    for (path, route) in [
        ("/", "rest"),
        ("/about", "about"),
        ("/about?x=1", "about"),
        ("/about/", "rest"),
        ("/aboutness", "rest"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/v2/x", "api"),
        ("/api/v1/x", "v1"),
        ("/apis", "rest"),
        ("/users/7/photos", "photos"),
        ("/users/7/8/photos", "rest"),
    ] {
        assert_eq!(taken_by(&proxy, "test", path), route, "{path}");
    }
}

#[test]
fn the_host_counts_before_the_path() {
    let (proxy, _origins) =
        routes(&[("by_path", "path = \"/a/b/c\""), ("by_host", "host = \"www.example.com\"\npath = \"/*\"")]);

    assert_eq!(taken_by(&proxy, "www.example.com", "/a/b/c"), "by_host");
    assert_eq!(taken_by(&proxy, "other.example.com", "/a/b/c"), "by_path");
}

#[test]
fn a_request_without_a_route_is_answered_404() {
    let (proxy, _origins) = routes(&[("only", "host = \"www.example.com\"\npath = \"/here/*\"")]);

    assert_eq!(taken_by(&proxy, "www.example.com", "/here/x"), "only");
    assert_eq!(taken_by(&proxy, "www.example.com", "/there"), "404");
    assert_eq!(taken_by(&proxy, "example.com", "/here/x"), "404");
}

#[test]
fn the_target_reaches_the_server_as_it_was_received() {
    let origin = Origin::start(|request| crate::support::ok(request.target()));
    let proxy = Proxy::before(&origin);

    for target in ["/a%20b?q=%2F&q=2", "/caf%C3%A9", "/?", "/a;b=c/d", "/x?y=a/b?c"] {
        assert_eq!(proxy.get(target).text(), target);
    }
}
