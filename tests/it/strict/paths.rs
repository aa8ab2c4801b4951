//! Paths that servers read in several ways: what is matched, what is forwarded, what is refused.

use super::table::{check, refused, served};
use crate::support::strict;
use crate::support::{Client, Proxy, Recorder};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] =
    &[a_path_that_can_be_read_in_two_ways_is_refused, any_other_path_travels_byte_for_byte];

fn line(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[test]
fn a_path_that_can_be_read_in_two_ways_is_refused() {
    let paths = [
        "/%00",
        "/x%00",
        "/x%00.png",
        "/x/%00/y",
        "/..",
        "/../",
        "/../x",
        "/x/../..",
        "/x/../../y",
        "/./..",
        "//..",
        "/%2e%2e",
        "/%2E%2E/x",
        "/.%2e/x",
        "/%2e./x",
        "/x/%2e%2e/%2e%2e/y",
        "/x/..%2fy",
        "/x/..%2Fy",
        "/x/%2e%2e%2fy",
        "/x/..%5cy",
        "/x/..%5Cy",
        "/x%2f..",
        "/x%2f../y",
        "/x%2f..%2fy",
        "/x%5c..%5cy",
        "/..%2f",
        "/..%5c",
        "/%2f..",
        "/.%2fx",
        "/x/.%2f",
        "/x/..;/y",
        "/x/..;a=b/y",
        "/x/.;/y",
        "/x/;..",
        "/..;/x",
        "/x/%2e%2e;/y",
        "/x/..%3b/y",
        "/x/..%3B/y",
        "/x;/../..",
        "/%",
        "/x%",
        "/%2",
        "/x%2",
        "/%zz",
        "/%2g",
        "/%g2",
        "/%%",
        "/%%32e",
        "/x%2%66",
        "/%u002e",
        "/%u002e%u002e/",
        "/% 2e",
        "/%+2e",
        "/%-1",
        "/%0x",
        "/%c0%ae",
        "/%c0%ae%c0%ae/",
        "/x%c0%afy",
        "/x%C0%AFy",
        "/%c1%9c",
        "/%c0%80",
        "/%e0%80%ae",
        "/%e0%80%af",
        "/%E0%9F%BF",
        "/%f0%80%80%ae",
        "/%f0%80%80%af",
        "/%F0%8F%BF%BF",
        "/%f8%80%80%80%ae",
        "/%fc%80%80%80%80%ae",
    ];
    check(paths.iter().map(|path| refused(format!("path {path:?}"), line(path), &[400])));
}

#[test]
fn any_other_path_travels_byte_for_byte() {
    let paths = [
        "/x/./y",
        "/x/../y",
        "/x//y",
        "//x",
        "/x/.",
        "/x/..",
        "/x/%2e/y",
        "/x/%2e%2e/y",
        "/%78",
        "/x%2fy",
        "/x%2Fy",
        "/x%5cy",
        "/x%252fy",
        "/x%252e%252e%252fy",
        "/x%2500",
        "/x;y",
        "/x;y=z/w",
        "/;",
        "/x;",
        "/x%3by",
        "/x%3fy",
        "/x%23y",
        "/x%20y",
        "/x%09y",
        "/x%0ay",
        "/x%0d%0ay",
        "/x%7f",
        "/caf%c3%a9",
        "/caf%e9",
        "/%ff",
        "/%80",
        "/%e2%82%ac",
        "/%f0%9f%98%80",
        "/%ed%a0%80",
        "/...",
        "/.../x",
        "/..x",
        "/x..",
        "/.x",
        "/x.",
        "/x/...",
        "/x?/../..",
        "/x?%00",
        "/x?%",
        "/x?..%2f",
        "/x?%c0%ae",
        "/x?;..",
    ];
    check(paths.map(|path| served(format!("path {path:?}"), line(path), &[format!("GET {path}").as_str()])));
}

/// Who of the servers gets a path, or the status.
fn taken_by(proxy: &Proxy, servers: &[(&str, &Recorder)], path: &str) -> String {
    let before: Vec<usize> = servers.iter().map(|(_, server)| server.log().requests.len()).collect();
    let status = Client::connect(proxy.public()).send(strict::bytes(&line(path))).response().status();
    let mut taken =
        servers.iter().zip(&before).filter(|((_, server), before)| server.log().requests.len() > **before);
    match taken.next() {
        Some(((name, server), _)) if status == 200 => {
            assert_eq!(server.log().requests.last().unwrap().target(), path, "the path as it was sent");
            (*name).to_owned()
        }
        _ => status.to_string(),
    }
}

#[test]
fn no_spelling_of_a_path_walks_around_its_route() {
    let (admin, exact, users, rest) =
        (Recorder::start(), Recorder::start(), Recorder::start(), Recorder::start());
    let servers = [("admin", &admin), ("exact", &exact), ("users", &users), ("rest", &rest)];
    let routes =
        [("/admin/*", "admin"), ("/api/login", "exact"), ("/users/*/photos", "users"), ("/*", "rest")];
    let mut text = String::new();
    for (path, upstream) in routes {
        text += &format!("[[route]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n");
    }
    for (name, server) in servers {
        text += &format!("[upstream.{name}]\nservers = [{}]\n", server.origin.toml());
    }
    let proxy = Proxy::start(&text);

    let rows = [
        ("/admin", "admin"),
        ("/admin/", "admin"),
        ("/admin/x", "admin"),
        ("//admin", "admin"),
        ("///admin//x", "admin"),
        ("/./admin", "admin"),
        ("/x/../admin", "admin"),
        ("/x/%2e%2e/admin", "admin"),
        ("/%61dmin", "admin"),
        ("/%61%64%6d%69%6e/x", "admin"),
        ("/admin%2e", "rest"),
        ("/admin/../x", "rest"),
        ("/admin/x%2fy", "admin"),
        ("/admin/x;y", "admin"),
        ("/admin/x%3fy", "admin"),
        ("/ADMIN", "rest"),
        ("/adminx", "rest"),
        ("/administrator", "rest"),
        ("/x/admin", "rest"),
        ("/x%2fy", "rest"),
        ("/x;y", "rest"),
        ("/?/admin", "rest"),
        ("/x?/../admin", "rest"),
        ("/api/login", "exact"),
        ("/api//login", "exact"),
        ("/api/login/", "rest"),
        ("/api/%6cogin", "exact"),
        ("/users/me/photos", "users"),
        ("/users/a%20b/photos", "users"),
        ("/users/me;a/photos", "users"),
        // Some server takes what is encoded here for what it stands for, and some route differs then.
        ("/admin%2fx", "400"),
        ("/admin%2Fx", "400"),
        ("/admin%5cx", "400"),
        ("/%2fadmin", "400"),
        ("/%2f%2fadmin%2fx", "400"),
        ("/%5cadmin", "400"),
        ("/admin;x", "400"),
        ("/admin;/x", "400"),
        ("/admin;a=b/x", "400"),
        ("/;/admin", "400"),
        ("/;a=b/admin/x", "400"),
        ("/admin%3bx", "400"),
        ("/admin%3fx", "400"),
        ("/admin%23x", "400"),
        ("/admin%3f", "400"),
        ("/api/login;x", "400"),
        ("/api/login;jsessionid=1", "400"),
        ("/api%2flogin", "400"),
        ("/api;x/login", "400"),
        ("/api/login%3f", "400"),
        ("/api/login%23", "400"),
        ("/users/a%2fb/photos", "400"),
        ("/users%2fme%2fphotos", "400"),
        ("/users/me/photos;x", "400"),
        ("/x;/../admin%2fy", "400"),
        ("/x/..%2fadmin", "400"),
        ("/x/..;/admin", "400"),
        ("/x/..%5cadmin", "400"),
        ("/x%2f..%2fadmin", "400"),
        ("/%c0%afadmin", "400"),
        ("/admin%00", "400"),
        ("/admin%", "400"),
        ("/adm%%69n", "400"),
        ("/admin\\x", "400"),
        ("\\admin", "400"),
    ];
    let mut wrong = Vec::new();
    for (path, wanted) in rows {
        let found = taken_by(&proxy, &servers, path);
        if found != wanted {
            wrong.push(format!("{path:?}: {found}, wanted {wanted}"));
        }
    }

    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    for (name, server) in servers {
        assert_eq!(server.log().faults, [""; 0], "{name}");
    }
}

#[test]
fn no_spelling_of_a_host_walks_around_its_route() {
    let (private, rest) = (Recorder::start(), Recorder::start());
    let proxy = Proxy::start(&format!(
        "[[route]]\nhost = \"private.test\"\nupstream = \"private\"\n[[route]]\nhost = \"*.private.test\"\nupstream = \"private\"\n\
         [[route]]\nupstream = \"rest\"\n[upstream.private]\nservers = [{}]\n[upstream.rest]\nservers = [{}]\n",
        private.origin.toml(),
        rest.origin.toml()
    ));
    let status = |target: &str, host: &str| {
        let mut client = Client::connect(proxy.public());
        client
            .send(strict::bytes(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")))
            .response()
            .status()
    };

    for (target, host) in [
        ("/", "private.test"),
        ("/", "PRIVATE.Test"),
        ("/", "private.test."),
        ("/", "private.test:80"),
        ("/", "private.test.:8080"),
        ("/", "private.test:"),
        ("/", "a.private.test"),
        ("/", "a.b.Private.TEST."),
        ("http://private.test/", "other"),
        ("HTTP://PRIVATE.test./", "other"),
    ] {
        assert_eq!(status(target, host), 200, "{target} {host}");
    }
    assert_eq!((private.log().requests.len(), rest.log().requests.len()), (10, 0));

    for host in ["private%2etest", "%70rivate.test", "private.test%2e", "private.test..", "private..test"] {
        assert_eq!(status("/", host), 400, "{host}");
    }
    assert_eq!(rest.log().requests.len(), 0);
}
