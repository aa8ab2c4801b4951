//! Out of file descriptors, for real: a small limit from the start, or one that falls while the proxy runs.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::{gated, gated_by, refused};
use crate::support::{Client, Origin, Proxy, eventually, http2, one_route};

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: test\r\n\r\n";

/// What is set aside for a proxy of `workers` with one listener: docs/limits-and-errors.md.
fn set_aside(workers: usize) -> usize {
    64 + workers * (4 + 2)
}

/// A proxy that may have so many descriptors, and is told so as operators tell it: by the hard limit.
fn under(descriptors: usize, toml: &str) -> Proxy {
    Proxy::start_after(&format!("ulimit -Sn 50; ulimit -Hn {descriptors}"), toml)
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count()
}

/// Events that say this.
fn said(proxy: &Proxy, what: &str) -> usize {
    proxy.events().iter().filter(|event| event.contains(what)).count()
}

#[test]
fn descriptors_are_shared_out_so_that_all_who_are_let_in_are_served_and_the_operator_can_look_in() {
    const EACH: usize = 40;
    let (origin, gate) = gated();
    let proxy = under(set_aside(2) + 2 * EACH, &one_route("", "retries = 0", &[&origin]));

    let mut clients: Vec<_> = (0..EACH).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| {
        client.send(SLOW);
    });
    eventually("every server connection is taken", || origin.count() == EACH);
    let beyond = proxy.client().send(SLOW).try_response();
    let (limit, shed) =
        (proxy.metric("tidegate_connections_limit", &[]), refused(&proxy, "limit-connections"));
    let used = descriptors(&proxy);
    assert!(!gate.is_open());
    gate.open();

    assert!(beyond.is_err(), "{beyond:?}");
    assert_eq!((limit, shed), (EACH as f64, 1.0));
    assert!(used >= 2 * EACH && used <= set_aside(2) + 2 * EACH, "{used}");
    for client in &mut clients {
        assert_eq!(client.response().text(), "served");
    }
    assert_eq!(said(&proxy, "too few file descriptors for limits.connections"), 1);
    assert_eq!(said(&proxy, "no file descriptor"), 0);
}

#[test]
fn a_request_without_a_descriptor_for_its_server_is_answered_503_and_no_server_is_blamed() {
    const SERVERS: usize = 5;
    let (origin, gate) = gated();
    // Two, because the last that may serve is never ejected.
    let other = gated_by(&gate);
    let rules = "retries = 0\neject = { failures = 1, max-percent = 100 }";
    let limits = "[runtime]\nworkers = 1\n[limits]\nconnections = 4\n";
    let text = format!("{limits}{}", one_route("", rules, &[&origin, &other]));
    let proxy = under(set_aside(1) + 4 + SERVERS, &text);

    let statuses = http2::talk(proxy.public(), 1 << 16, async |requests, _| {
        let mut first: Vec<_> = (0..SERVERS).map(|_| Box::pin(http2::get(&requests, "/slow"))).collect();
        for begun in &mut first {
            assert!(poll_once(begun).await.is_none(), "the gate is shut");
        }
        while origin.count() + other.count() < SERVERS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let beyond = http2::get(&requests, "/").await.unwrap();
        assert!(!gate.is_open());
        gate.open();
        let mut statuses = vec![beyond.status().as_u16()];
        for begun in first {
            statuses.push(begun.await.unwrap().status().as_u16());
        }
        (statuses, beyond.headers()["proxy-status"].to_str().unwrap().to_owned())
    });

    assert_eq!(statuses.0, [503, 200, 200, 200, 200, 200]);
    assert!(statuses.1.contains("no-descriptor"), "{}", statuses.1);
    assert_eq!(proxy.metric("tidegate_ejections_total", &[]), 0.0);
    assert_eq!(said(&proxy, "no file descriptor for a connection to a server"), 1);
    assert_eq!(proxy.get("/").status(), 200);
}

/// Polls once, so that a request is sent before anybody waits for its answer.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[test]
fn a_connection_at_rest_makes_way_for_one_to_another_server_when_there_is_no_descriptor() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let text = format!(
        "[runtime]\nworkers = 1\n[[route]]\npath = \"/one\"\nupstream = \"one\"\n[[route]]\nupstream = \"two\"\n\
         [upstream.one]\nservers = [{}]\n[upstream.two]\nservers = [{}]\n",
        one.toml(),
        two.toml()
    );
    let proxy = under(set_aside(1) + 2, &text);

    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/one").text(), "one");
        assert_eq!(client.get("/two").text(), "two");
    }

    assert_eq!((one.connections(), two.connections()), (3, 3));
}

#[test]
fn when_descriptors_run_out_accepting_pauses_and_what_is_in_progress_goes_on() {
    let (origin, gate) = gated();
    let rules = "eject = { failures = 1, max-percent = 100 }\n\
        health = { tcp = true, interval = \"50ms\", fall = 1 }";
    let text = format!("[runtime]\nworkers = 1\n{}", one_route("", rules, &[&origin]));
    let mut proxy = Proxy::start(&text);
    let mut operator = Client::connect(proxy.admin());
    operator.get("/livez");
    let mut working = proxy.client();
    working.send(SLOW);
    eventually("the server has it", || origin.count() == 1);
    let mut resting = proxy.client();
    assert_eq!(resting.get("/").status(), 200);
    let mut also_resting = proxy.client();
    assert_eq!(also_resting.get("/").status(), 200);

    let pid = Pid::from_raw(proxy.pid().cast_signed());
    let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(pid, Resource::Nofile, none).unwrap();
    let began = Instant::now();
    let cpu = cpu_ticks(&proxy);
    let mut crowd: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    crowd.iter_mut().for_each(|client| {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    });
    let mut pauses = 0.0;
    eventually("accepting has paused for a while", || {
        pauses = paused(&operator.get("/metrics").text());
        pauses >= 20.0
    });
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_ticks(&proxy) - cpu);
    // There is one connection at rest, for this request; the server would have to be dialled for the next.
    also_resting.send(SLOW);
    eventually("the server has it", || origin.count() == 4);
    let undialled = resting.get("/");
    let status = operator.get("/api/v1/status").text();
    assert!(!gate.is_open());
    gate.open();
    let answers = (working.response().text(), also_resting.response().status());
    let warnings = said(&proxy, "accepting pauses") + said(&proxy, "no file descriptor for a connection");
    let warned_for = began.elapsed().as_secs() as usize;
    prlimit(pid, Resource::Nofile, before).unwrap();

    assert!(pauses <= elapsed / 0.1 + 1.0, "{pauses} pauses in {elapsed} s: it spins");
    assert!(cpu as f64 <= 50.0 * elapsed, "{cpu} hundredths of a second of CPU in {elapsed} s: it spins");
    assert_eq!(undialled.status(), 503);
    assert!(undialled.text().contains("no-descriptor"), "{}", undialled.text());
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let server = &status["upstreams"][0]["servers"][0];
    assert_eq!((&server["state"], &server["ejections"]), (&"healthy".into(), &0.into()), "{server}");
    assert_eq!(answers, ("served".to_owned(), 200));
    assert!((1..=warned_for + 1).contains(&warnings), "{warnings} warnings in {warned_for} s");
    for client in &mut crowd {
        assert_eq!(client.response().status(), 200, "who waited is served when there are descriptors again");
    }
    assert!(proxy.is_running());
}

fn paused(metrics: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with("tidegate_accept_pauses_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// CPU time of the process, user's and system's, in hundredths of a second.
fn cpu_ticks(proxy: &Proxy) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap();
    // Behind the name, which may have spaces in it: state is the first, utime the twelfth, stime the next.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
