//! nginx, as Debian ships it, behind the proxy.

use std::fs;

use crate::support::nginx::Nginx;
use crate::support::{Proxy, eventually};

fn before(nginx: &Nginx, route: &str) -> Proxy {
    let server = nginx.address();
    Proxy::start(&format!(
        "[runtime]\nworkers = 1\n[[route]]\nupstream = \"app\"\n{route}\n[upstream.app]\nservers = [\"{server}\"]\n"
    ))
}

#[test]
fn a_big_file_arrives_whole() {
    let Some(nginx) = Nginx::start("") else { return };
    let body: Vec<u8> = (0..10_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(nginx.www().join("big.bin"), &body).unwrap();
    let proxy = before(&nginx, "");

    let answer = proxy.get("/big.bin");

    assert_eq!(answer.status(), 200);
    assert!(answer.body == body, "the bytes differ");
}

#[test]
fn a_range_of_a_file_is_passed_on() {
    let Some(nginx) = Nginx::start("") else { return };
    fs::write(nginx.www().join("file.txt"), "0123456789").unwrap();
    let proxy = before(&nginx, "");

    let answer = proxy.client().get_with("/file.txt", "Range: bytes=2-4\r\n");

    assert_eq!((answer.status(), answer.text()), (206, "234".to_owned()));
    assert_eq!(answer.field("content-range"), Some("bytes 2-4/10"));
}

#[test]
fn connections_are_kept_alive_and_its_limit_on_them_is_honoured() {
    let Some(nginx) = Nginx::start("keepalive_requests 10; location = /n { return 200 $connection; }") else {
        return;
    };
    let proxy = before(&nginx, "");

    let mut client = proxy.client();
    let connections: Vec<String> = (0..50)
        .map(|_| {
            let answer = client.get("/n");
            assert_eq!(answer.status(), 200);
            answer.text()
        })
        .collect();

    let distinct: std::collections::HashSet<_> = connections.iter().collect();
    assert!((5..=10).contains(&distinct.len()), "{} connections for 50 requests", distinct.len());
}

#[test]
fn compressed_answers_pass_as_they_are() {
    let Some(nginx) =
        Nginx::start("gzip on; gzip_types text/plain; gzip_min_length 1; gzip_vary on; gzip_proxied any;")
    else {
        return;
    };
    fs::write(nginx.www().join("text.txt"), "compress me ".repeat(1000)).unwrap();
    let proxy = before(&nginx, "");

    let plain = proxy.get("/text.txt");
    let packed = proxy.client().get_with("/text.txt", "Accept-Encoding: gzip\r\n");

    assert_eq!(plain.body.len(), 12_000);
    assert_eq!(packed.field("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < 2_000 && packed.body.starts_with(&[0x1f, 0x8b]));
}

#[test]
fn what_it_allows_to_be_cached_is_cached_by_encoding() {
    let directives = "gzip on; gzip_types text/plain; gzip_min_length 1; gzip_vary on; gzip_proxied any; add_header Cache-Control max-age=60;";
    let Some(nginx) = Nginx::start(directives) else { return };
    fs::write(nginx.www().join("text.txt"), "compress me ".repeat(100)).unwrap();
    let proxy = before(&nginx, "cache = true");

    for _ in 0..2 {
        let plain = proxy.get("/text.txt");
        let packed = proxy.client().get_with("/text.txt", "Accept-Encoding: gzip\r\n");
        assert_eq!(plain.body.len(), 1_200);
        assert_eq!(packed.field("content-encoding"), Some("gzip"));
    }
    let again = proxy.get("/text.txt");

    assert!(again.field("cache-status").is_some_and(|value| value.contains("hit")), "{again:?}");
}

#[test]
fn a_body_reaches_it_and_its_errors_reach_the_client() {
    let Some(nginx) = Nginx::start("client_max_body_size 1k; location = /teapot { return 418; }") else {
        return;
    };
    let proxy = before(&nginx, "");

    let big = format!("POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000));
    let too_big = proxy.client().send(big).response();

    assert_eq!(too_big.status(), 413);
    assert_eq!(proxy.get("/teapot").status(), 418);
    assert_eq!(proxy.get("/absent").status(), 404);
}

#[test]
fn it_is_probed_and_its_end_is_seen() {
    let Some(nginx) = Nginx::start("location = /healthz { return 204; }") else { return };
    let server = nginx.address();
    let proxy = Proxy::start(&format!(
        "[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [\"{server}\"]\n\
         health = {{ path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }}\n"
    ));
    let state = || proxy.status()["upstreams"][0]["servers"][0]["state"].as_str().unwrap().to_owned();

    eventually("it is healthy", || state() == "healthy");
    drop(nginx);

    eventually("it is unhealthy", || state() == "unhealthy");
}
