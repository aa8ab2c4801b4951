//! How much at once, who waits, and for how long.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::timeouts::{AGREED, WEBSOCKET};
use super::{alone, asking, await_queued, is_left_alone, proxy, reason, say, sized};
use crate::support::{Client, Gate, Origin, Proxy, Then, eventually, get, ok, one_route};

/// So many requests by so many clients at once; all must be answered with 200.
#[track_caller]
fn crowd(proxy: &Proxy, clients: usize, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..requests {
                    let answer = client.get("/");
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                }
            });
        }
    });
}

/// Counts how many requests it has at once.
fn counting(now: Arc<AtomicUsize>, most: Arc<AtomicUsize>) -> Origin {
    Origin::start(move |_| {
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        // Time for others to come, were they let.
        std::thread::park_timeout(Duration::from_millis(2));
        now.fetch_sub(1, SeqCst);
        ok("")
    })
}

#[test]
fn a_server_never_has_more_requests_at_once_than_it_may() {
    let [most_a, most_b] = [Arc::<AtomicUsize>::default(), Arc::default()];
    let (a, b) = (counting(Arc::default(), most_a.clone()), counting(Arc::default(), most_b.clone()));
    let proxy = Proxy::start(&format!(
        "[[route]]\nupstream = \"app\"\n[upstream.app]\nqueue = {{ timeout = \"1m\" }}\n\
         servers = [{{ address = {}, max-requests = 2 }}, {{ address = {}, max-requests = 3 }}]\n",
        a.toml(),
        b.toml()
    ));

    crowd(&proxy, 12, 25);

    assert_eq!((most_a.load(SeqCst), most_b.load(SeqCst)), (2, 3));
    assert_eq!(a.count() + b.count(), 300);
}

#[test]
fn an_upstream_never_has_more_requests_at_once_than_it_may() {
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let servers: [Origin; 3] = std::array::from_fn(|_| counting(now.clone(), most.clone()));
    let proxy = proxy("max-requests = 4\nqueue = { timeout = \"1m\" }", &servers.each_ref());

    crowd(&proxy, 12, 25);

    assert_eq!(most.load(SeqCst), 4);
}

#[test]
fn requests_that_wait_are_served_in_the_order_of_their_coming() {
    const COUNT: usize = 40;
    let (origin, hands) = Origin::holding();
    let proxy = proxy("max-requests = 1\nqueue = { timeout = \"1m\" }", &[&origin]);

    let mut clients = vec![asking(&proxy, "/held")];
    eventually("the server is busy", || origin.count() == 1);
    for n in 0..COUNT {
        clients.push(asking(&proxy, &format!("/{n}")));
        await_queued(&proxy, n + 1);
    }
    assert!(!hands.go.is_open());
    hands.go.open();
    for mut client in clients {
        assert_eq!(client.response().status(), 200);
    }

    let order: Vec<_> = origin.requests().iter().skip(1).map(|request| request.target().to_owned()).collect();
    assert_eq!(order, (0..COUNT).map(|n| format!("/{n}")).collect::<Vec<_>>());
    await_queued(&proxy, 0);
}

#[test]
fn a_queue_that_is_full_refuses_at_once() {
    for size in [0, 2] {
        let (origin, hands) = Origin::holding();
        let rules = format!("max-requests = 1\nqueue = {{ size = {size}, timeout = \"1m\" }}");
        let proxy = proxy(&rules, &[&origin]);
        let mut held = asking(&proxy, "/held");
        eventually("the server is busy", || origin.count() == 1);
        let mut waiting: Vec<_> = (0..size).map(|_| asking(&proxy, "/waits")).collect();
        await_queued(&proxy, size);
        assert_eq!(proxy.status()["upstreams"][0]["queued"], size);

        let answer = proxy.get("/refused");

        assert!(!hands.go.is_open());
        hands.go.open();
        assert_eq!((answer.status(), reason(&answer)), (503, "queue-full"));
        assert!(answer.field("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
        assert_eq!(held.response().status(), 200);
        waiting.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
        await_queued(&proxy, 0);
        assert_eq!(proxy.get("/").status(), 200);
        assert_eq!(origin.requests().iter().filter(|request| request.target() == "/refused").count(), 0);
    }
}

#[test]
fn a_request_that_waits_too_long_is_refused() {
    let (origin, hands) = Origin::holding();
    let proxy = proxy("max-requests = 1\nqueue = { timeout = \"300ms\" }", &[&origin]);
    let _held = asking(&proxy, "/held");
    eventually("the server is busy", || origin.count() == 1);

    let answer = proxy.get("/late");

    assert!(!hands.go.is_open());
    hands.go.open();
    assert_eq!((answer.status(), reason(&answer)), (503, "queue-timed-out"));
    assert!(answer.field("retry-after").is_some());
    await_queued(&proxy, 0);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.requests().iter().filter(|request| request.target() == "/late").count(), 0);
}

#[test]
fn the_time_in_the_queue_is_part_of_the_whole_request_s() {
    // A tunnel has no end of its own.
    let origin = Origin::raw(|_, conn| {
        say(conn, AGREED.as_bytes());
        is_left_alone(conn);
        Then::Close
    });
    let rules = "max-requests = 1\nqueue = { timeout = \"1m\" }\ntotal-timeout = \"400ms\"";
    let proxy = proxy(rules, &[&origin]);
    let mut tunnel = proxy.client();
    assert_eq!(tunnel.send(WEBSOCKET).head().status(), 101);

    let answer = proxy.get("/late");

    assert_eq!((answer.status(), reason(&answer)), (504, "total-timed-out"));
    assert_eq!(origin.count(), 1);
    await_queued(&proxy, 0);
}

#[test]
fn a_client_that_leaves_the_queue_leaves_its_place_to_others() {
    let (origin, hands) = Origin::holding();
    let proxy = proxy("max-requests = 1\nqueue = { size = 1, timeout = \"1m\" }", &[&origin]);
    let mut held = asking(&proxy, "/held");
    eventually("the server is busy", || origin.count() == 1);
    let gone = asking(&proxy, "/gone");
    await_queued(&proxy, 1);

    drop(gone);
    await_queued(&proxy, 0);
    let mut next = asking(&proxy, "/next");
    await_queued(&proxy, 1);
    assert!(!hands.go.is_open());
    hands.go.open();

    assert_eq!((held.response().status(), next.response().status()), (200, 200));
    assert!(origin.requests().iter().all(|request| request.target() != "/gone"));
}

#[test]
fn a_client_that_leaves_the_queue_with_a_body_leaves_its_place_too() {
    let (origin, hands) = Origin::holding();
    let proxy = proxy("max-requests = 1\nqueue = { timeout = \"1m\" }", &[&origin]);
    let mut held = asking(&proxy, "/held");
    eventually("the server is busy", || origin.count() == 1);
    let mut gone = proxy.client();
    gone.send(sized("POST", "/gone", b"all of it"));
    await_queued(&proxy, 1);

    drop(gone);

    await_queued(&proxy, 0);
    assert!(!hands.go.is_open());
    hands.go.open();
    assert_eq!(held.response().status(), 200);
    assert!(origin.requests().iter().all(|request| request.target() != "/gone"));
}

#[test]
fn a_client_that_leaves_while_its_server_works_leaves_its_place_too() {
    let closed = Gate::default();
    let tell = closed.clone();
    let origin = Origin::raw(move |request, conn| {
        if request.target() == "/gone" {
            if is_left_alone(conn) {
                tell.open();
            }
            return Then::Close;
        }
        say(conn, &ok(""))
    });
    let proxy = proxy("max-requests = 1\nmax-connections = 1\nqueue = { timeout = \"1m\" }", &[&origin]);
    let gone = asking(&proxy, "/gone");
    eventually("the server works", || origin.count() == 1);
    let mut next = asking(&proxy, "/next");
    await_queued(&proxy, 1);

    assert!(!closed.is_open());
    drop(gone);

    assert_eq!(next.response().status(), 200);
    eventually("the server sees that nobody waits", || closed.is_open());
    eventually("nothing is in flight", || proxy.status()["upstreams"][0]["servers"][0]["in_flight"] == 0);
}

#[test]
fn a_post_that_waits_keeps_every_byte_of_its_body() {
    let (origin, hands) = Origin::holding();
    let proxy = proxy("max-requests = 1\nqueue = { timeout = \"1m\" }", &[&origin]);
    let mut held = asking(&proxy, "/held");
    eventually("the server is busy", || origin.count() == 1);
    let body = super::noise(100_000);
    let mut client = proxy.client();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| client.send(sized("POST", "/waits", &body)).response());
        await_queued(&proxy, 1);
        assert!(!hands.go.is_open());
        hands.go.open();
        assert_eq!(answer.join().unwrap().status(), 200);
    });

    assert_eq!(held.response().status(), 200);
    assert!(origin.last().body == body);
}

#[test]
fn requests_that_wait_go_on_when_a_server_comes_back() {
    let (a, hands) = Origin::holding();
    let is_well = Arc::new(AtomicBool::new(false));
    let flag = is_well.clone();
    let b = Origin::start(move |request| match request.target() {
        "/healthz" if !flag.load(SeqCst) => crate::support::reply("500 Unwell", "", ""),
        target => ok(target),
    });
    let address = (a.toml(), b.toml());
    let text = format!(
        "[[route]]\nupstream = \"app\"\n[upstream.app]\nqueue = {{ timeout = \"1m\" }}\nslow-start = \"0s\"\n\
         health = {{ path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }}\n\
         servers = [{{ address = {}, max-requests = 1 }}, {{ address = {}, max-requests = 1 }}]\n",
        address.0, address.1
    );
    let proxy = Proxy::start(&text);
    eventually("b is unhealthy", || proxy.state_of(&b) == "unhealthy");
    let mut held = asking(&proxy, "/held");
    eventually("a is busy", || a.requests().iter().any(|request| request.target() == "/held"));
    let mut waiting: Vec<_> = (0..3).map(|_| asking(&proxy, "/waits")).collect();
    await_queued(&proxy, 3);

    is_well.store(true, SeqCst);

    waiting.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert!(!hands.go.is_open(), "they did not wait for a");
    hands.go.open();
    assert_eq!(held.response().status(), 200);
}

/// Servers that look, with each connection they are given, at how many of those before are still open. One thread, as
/// what it does in between must not hide the end of a connection.
struct Narrow {
    addresses: Vec<SocketAddr>,
    most: Arc<AtomicUsize>,
    count: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Narrow {
    /// A server for each name, which it answers everything with.
    fn saying(names: &'static [&'static str]) -> Narrow {
        let listeners: Vec<_> = names.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let narrow = Narrow {
            addresses: listeners.iter().map(|listener| listener.local_addr().unwrap()).collect(),
            most: Arc::default(),
            count: Arc::default(),
            is_over: Arc::default(),
        };
        let (most, count, is_over) = (narrow.most.clone(), narrow.count.clone(), narrow.is_over.clone());
        std::thread::spawn(move || {
            let mut open: Vec<(TcpStream, Vec<u8>, &str)> = Vec::new();
            listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
            while !is_over.load(SeqCst) {
                for (listener, name) in listeners.iter().zip(names) {
                    while let Ok((stream, _)) = listener.accept() {
                        // One that was closed before this one began has its end here already.
                        open.retain(|(stream, ..)| !matches!(stream.peek(&mut [0]), Ok(0)));
                        stream.set_nonblocking(true).unwrap();
                        open.push((stream, Vec::new(), name));
                        most.fetch_max(open.len(), SeqCst);
                        count.fetch_add(1, SeqCst);
                    }
                }
                open.retain_mut(|(stream, heard, name)| listen(stream, heard, name));
                std::thread::park_timeout(Duration::from_micros(500));
            }
        });
        narrow
    }

    /// As elements of `servers`, each with further keys.
    fn toml(&self, rules: &str) -> String {
        let server = |address: &SocketAddr| format!("{{ address = \"{address}\", {rules} }}");
        self.addresses.iter().map(server).collect::<Vec<_>>().join(", ")
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    fn connections(&self) -> usize {
        self.count.load(SeqCst)
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
    }
}

/// Reads what there is, and answers what is whole; false when the connection has ended.
fn listen(stream: &mut TcpStream, heard: &mut Vec<u8>, name: &str) -> bool {
    let mut piece = [0; 4096];
    match stream.read(&mut piece) {
        Ok(0) => return false,
        Ok(count) => heard.extend(&piece[..count]),
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    }
    if heard.ends_with(b"\r\n\r\n") {
        heard.clear();
        return stream.write_all(&ok(name)).is_ok();
    }
    true
}

fn narrow_proxy(workers: usize, rules: &str, servers: &str) -> Proxy {
    Proxy::start(&format!(
        "[runtime]\nworkers = {workers}\n[[route]]\nupstream = \"app\"\n[upstream.app]\n\
         queue = {{ timeout = \"1m\" }}\nservers = [{servers}]\n{rules}\n",
    ))
}

#[test]
fn a_server_never_has_more_connections_at_once_than_it_may() {
    let server = Narrow::saying(&[""]);
    let proxy = narrow_proxy(2, "", &server.toml("max-connections = 2"));

    // Several clients, so that both workers want one, and each worker's idle ones are in the other's way.
    crowd(&proxy, 6, 30);

    assert!((1..=2).contains(&server.most()), "{} at once", server.most());
}

#[test]
fn an_upstream_never_has_more_connections_at_once_than_it_may() {
    let servers = Narrow::saying(&["a", "b", "c"]);
    let proxy = narrow_proxy(2, "max-connections = 2", &servers.toml("weight = 1"));

    crowd(&proxy, 6, 30);

    assert!((1..=2).contains(&servers.most()), "{} at once", servers.most());
}

#[test]
fn a_connection_at_rest_with_one_server_makes_way_for_one_to_another() {
    for workers in [1, 2] {
        let servers = Narrow::saying(&["a", "b"]);
        let rules = "max-connections = 1\nsticky = {}\nidle-timeout = \"1h\"";
        let proxy = narrow_proxy(workers, rules, &servers.toml("weight = 1"));
        let addresses: Vec<_> = servers.addresses.iter().map(SocketAddr::to_string).collect();
        // Who finds the other server draining belongs to this one.
        let cookies = [0, 1].map(|own: usize| {
            super::drain::drain(&proxy, "app", &addresses[1 - own], true);
            let answer = proxy.get("/");
            super::drain::drain(&proxy, "app", &addresses[1 - own], false);
            answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned()
        });

        // Each session wants its own server, whoever has the only connection. One that waited for the end of the queue's
        // time would not be answered.
        let ask = |n: usize| proxy.client().get_with("/", &format!("Cookie: {}\r\n", cookies[n % 2])).text();
        let texts: Vec<_> = (0..12).map(ask).collect();

        assert_eq!(texts.concat(), "ab".repeat(6));
        assert_eq!(servers.most(), 1);
    }
}

#[test]
fn a_connection_that_has_been_at_rest_for_too_long_is_closed_before_another_is_opened() {
    let server = Narrow::saying(&[""]);
    let proxy = narrow_proxy(1, "idle-timeout = \"20ms\"", &server.toml("max-connections = 1"));

    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 200);
        let began = Instant::now();
        eventually("its time is over", || began.elapsed() > Duration::from_millis(30));
    }

    assert!(server.connections() > 10, "{}", server.connections());
    assert_eq!(server.most(), 1);
}

#[test]
fn idle_connections_of_one_worker_are_given_up_for_another() {
    let server = Narrow::saying(&[""]);
    let proxy = narrow_proxy(2, "idle-timeout = \"1h\"", &server.toml("max-connections = 1"));

    // Clients that stay, until both workers have some.
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for _ in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").status(), 200);
        }
    }

    assert_eq!(server.most(), 1);
    let workers = proxy.status()["workers"].clone();
    let both = workers.as_array().unwrap().iter().filter(|worker| worker["connections"] != 0).count();
    assert_eq!(both, 2, "{workers}");
    assert!(server.connections() > 1, "it was never given up");
}

#[test]
fn a_tunnel_holds_its_places_until_it_ends() {
    for limit in ["max-requests", "max-connections"] {
        let origin = Origin::raw(|request, conn| {
            if request.target() == "/held" {
                say(conn, AGREED.as_bytes());
                is_left_alone(conn);
                return Then::Close;
            }
            say(conn, &ok(""))
        });
        let proxy = proxy(&format!("{limit} = 1\nqueue = {{ timeout = \"1m\" }}"), &[&origin]);
        let mut tunnel = proxy.client();
        assert_eq!(tunnel.send(WEBSOCKET).head().status(), 101);

        let mut next = asking(&proxy, "/next");
        await_queued(&proxy, 1);
        // A round through all that there is to do: it stays where it is.
        assert_eq!(get(proxy.admin(), "/livez").status(), 200);
        await_queued(&proxy, 1);
        assert_eq!(origin.count(), 1, "{limit}");
        drop(tunnel);

        assert_eq!(next.response().status(), 200, "{limit}");
    }
}

#[test]
fn a_retry_waits_in_the_queue_as_any_other_request() {
    let (held, hands) = Origin::holding();
    let dying = Origin::start(|_| Vec::new());
    let text = format!(
        "[runtime]\nworkers = 1\n[[route]]\nupstream = \"app\"\n[upstream.app]\neject = false\n\
         queue = {{ timeout = \"1m\" }}\nservers = [{{ address = {}, max-requests = 1 }}, {}]\n",
        held.toml(),
        dying.toml()
    );
    let proxy = Proxy::start(&text);
    // The first goes to either; one of the two holds the only place.
    let mut first = asking(&proxy, "/held/1");
    eventually("it is held", || held.count() == 1);

    let mut second = asking(&proxy, "/second");
    await_queued(&proxy, 1);
    assert_eq!(dying.requests().iter().filter(|request| request.target() == "/second").count(), 1);
    assert!(!hands.go.is_open());
    hands.go.open();

    assert_eq!((first.response().status(), second.response().status()), (200, 200));
}

#[test]
fn a_body_that_is_read_slowly_keeps_its_place() {
    // The head is there, and the body is not: the server is still busy.
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |request, conn| {
        if request.target() == "/held" {
            say(conn, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            opened.wait();
            return say(conn, b"body");
        }
        say(conn, &ok(""))
    });
    let text = one_route("", "max-requests = 1\nqueue = { timeout = \"1m\" }", &[&origin]);
    let proxy = Proxy::start(&text);
    let mut held = asking(&proxy, "/held");
    let mut message = held.head();

    let mut next = asking(&proxy, "/next");
    await_queued(&proxy, 1);
    assert_eq!(origin.count(), 1);
    assert!(!gate.is_open());
    gate.open();

    held.body(&mut message).unwrap();
    assert_eq!((message.text().as_str(), next.response().status()), ("body", 200));
}

#[test]
fn without_limits_nobody_waits() {
    let (origin, hands) = Origin::holding();
    let proxy = alone("", &[&origin]);

    let mut clients: Vec<_> = (0..20).map(|n| asking(&proxy, &format!("/held/{n}"))).collect();
    eventually("all are there at once", || origin.count() == 20);

    assert!(!hands.go.is_open());
    hands.go.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
}
