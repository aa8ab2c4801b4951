//! The command line and the life of the process.

use std::process::Child;

use crate::support::program::{send_signal, wait};
use crate::support::proxy::{Lines, tidegate};
use crate::support::{Client, Gate, Origin, Proxy, eventually, get, ok, one_route};

/// A `tidegate` whose output is collected; killed when it is dropped.
struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = tidegate(arguments).spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    /// Every address of this machine that it printed, as text.
    fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let text = [self.stdout.so_far(), self.stderr.so_far()].concat().join("\n");
        let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
        let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("127.0.0.1:"));
        words.filter_map(|word| word.trim_end_matches(['.', ':']).parse().ok()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.stdout.so_far().join("\n"), self.stderr.so_far().join("\n"));
        }
    }
}

#[test]
fn demo_comes_up_and_serves_without_any_file() {
    let mut demo = Running::start(&["demo"]);

    // Which of the addresses that it prints is the door is for its reader to see; one of them is.
    let answers = |path: &str, word: &str| {
        demo.addresses().into_iter().any(|address| {
            std::net::TcpStream::connect(address).is_ok() && {
                // The demo's admin listener is asked as it tells its reader to: under its address.
                let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
                let answer = Client::connect(address).send(request).response();
                answer.status() == 200 && answer.text().contains(word)
            }
        })
    };
    eventually("the demo serves", || answers("/", ""));
    eventually("the demo has metrics", || answers("/metrics", "tidegate_requests_total"));
    send_signal(&demo.child, "TERM");

    assert_eq!(wait(&mut demo.child).code(), Some(0));
    assert!(demo.stdout.so_far().join("\n").contains("curl"), "it says what to try");
}

#[test]
fn proxy_needs_no_file() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let to = [a.address().to_string(), b.address().to_string()];
    let mut proxy =
        Running::start(&["proxy", "--from", "127.0.0.1:0", "--to", to[0].as_str(), "--to", to[1].as_str()]);

    let servers = [a.address(), b.address()];
    let from =
        || proxy.addresses().into_iter().find(|address| address.port() != 0 && !servers.contains(address));
    eventually("it listens", || from().is_some());
    let said: Vec<String> = (0..4).map(|_| get(from().unwrap(), "/").text()).collect();
    send_signal(&proxy.child, "INT");

    assert!(said.iter().any(|text| text == "a") && said.iter().any(|text| text == "b"), "{said:?}");
    assert_eq!(wait(&mut proxy.child).code(), Some(0));
}

#[test]
fn an_idle_proxy_ends_at_once_and_well() {
    let origin = Origin::saying("x");
    let mut proxy = Proxy::start(&one_route("", "", &[&origin]));
    let mut idle = proxy.client();
    idle.get("/");

    proxy.terminate();

    assert_eq!(proxy.wait().code(), Some(0));
    assert!(idle.is_closed());
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |_| {
        opened.wait();
        ok("finished")
    });
    let mut proxy = Proxy::before(&origin);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is in flight", || origin.count() == 1);

    let address = proxy.public();
    proxy.terminate();
    eventually("new connections are refused", || std::net::TcpStream::connect(address).is_err());
    assert!(proxy.is_running());
    gate.open();
    let answer = client.response();

    assert_eq!((answer.status(), answer.text()), (200, "finished".to_owned()));
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_drain_ends_at_its_limit() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |_| {
        opened.wait();
        ok("too late")
    });
    let text =
        format!("[runtime]\nworkers = 2\ndrain-timeout = \"200ms\"\n{}", one_route("", "", &[&origin]));
    let mut proxy = Proxy::start(&text);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is in flight", || origin.count() == 1);

    proxy.terminate();
    let status = proxy.wait();
    gate.open();

    assert!(status.code().is_some(), "it ends by itself: {status}");
    assert!(client.try_response().is_err());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |_| {
        opened.wait();
        ok("never")
    });
    let text = format!("[runtime]\nworkers = 2\ndrain-timeout = \"1h\"\n{}", one_route("", "", &[&origin]));
    let mut proxy = Proxy::start(&text);
    let address = proxy.public();
    proxy.client().send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is in flight", || origin.count() >= 1);

    proxy.terminate();
    eventually("it drains", || std::net::TcpStream::connect(address).is_err());
    assert!(proxy.is_running());
    proxy.terminate();
    proxy.wait();
    gate.open();
}

#[test]
fn an_address_in_use_is_a_failure_that_says_which() {
    let origin = Origin::saying("x");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.toml");
    let text = format!("[[listener]]\nbind = \"{address}\"\n{}", one_route("", "", &[&origin]));
    std::fs::write(&file, text).unwrap();

    let mut run = Running::start(&["run", "--config", file.to_str().unwrap()]);
    let status = wait(&mut run.child);

    assert_eq!(status.code(), Some(1));
    run.stderr.until(|line| line.contains(&address)).expect("the address in the message");
}

#[test]
fn help_and_version_are_there() {
    for (arguments, word) in [(&["--help"][..], "proxy"), (&["--version"], env!("CARGO_PKG_VERSION"))] {
        let output = tidegate(arguments).output().unwrap();

        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(word));
    }
}
