//! A pool of four under a steady rate of requests, while one of its servers fails in each way there is. Every test says how
//! many requests failed, and why each of them had to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::origin::reserve_port;
use crate::support::program::{send_signal, wait};
use crate::support::{Proxy, eventually, get, program};

/// What oha sends in all, and each second.
const REQUESTS: u64 = 300;
const RATE: u64 = 100;

/// `support/server.py` in a process of its own.
struct Server {
    python: PathBuf,
    child: Child,
    address: SocketAddr,
    _reservation: socket2::Socket,
}

impl Server {
    fn start(python: PathBuf) -> Server {
        let (reservation, address) = reserve_port();
        let child = Server::spawn(&python, address);
        Server { python, child, address, _reservation: reservation }
    }

    fn spawn(python: &PathBuf, address: SocketAddr) -> Child {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/server.py");
        let mut command = Command::new(python);
        command.arg(script).arg(address.port().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        eventually("the server accepts", || std::net::TcpStream::connect(address).is_ok());
        child
    }

    fn answers_with(&self, mode: &str) {
        assert_eq!(get(self.address, &format!("/__mode?{mode}")).status(), 200);
    }

    /// How many answers were of one kind: answered, failed or cut.
    fn count(&self, kind: &str) -> u64 {
        let count: serde_json::Value = serde_json::from_slice(&get(self.address, "/__count").body).unwrap();
        count[kind].as_u64().unwrap()
    }

    fn revive(&mut self) {
        wait(&mut self.child);
        self.child = Server::spawn(&self.python, self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Drill {
    servers: Vec<Server>,
    proxy: Proxy,
    oha: PathBuf,
}

/// What became of oha's requests.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    served: u64,
    status_500: u64,
    other_statuses: u64,
    broken_off: u64,
}

impl Drill {
    /// `None` where a program is absent.
    fn prepare() -> Option<Drill> {
        let (oha, python) = (program("oha")?, program("python3")?);
        let servers: Vec<_> = (0..4).map(|_| Server::start(python.clone())).collect();
        let listed: Vec<_> = servers.iter().map(|server| format!("\"{}\"", server.address)).collect();
        let proxy = Proxy::start(&format!(
            "[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{}]\nretries = 3\n\
             retry-on = [\"connect\", \"reset\", \"timeout\"]\ntry-timeout = \"1s\"\n\
             health = {{ path = \"/healthz\", interval = \"100ms\", timeout = \"1s\", rise = 1, fall = 2 }}\n\
             eject = {{ failures = 2, time = \"300ms\" }}\n",
            listed.join(", ")
        ));
        Some(Drill { servers, proxy, oha })
    }

    /// Has `fault` happen in the middle of oha's requests.
    fn run(&mut self, fault: impl FnOnce(&mut Vec<Server>)) -> Outcome {
        let help = Command::new(&self.oha).arg("--help").output().unwrap();
        // The flag for JSON changed its name.
        let is_new = String::from_utf8_lossy(&help.stdout).contains("--output-format");
        let form: &[&str] = if is_new { &["--output-format", "json"] } else { &["-j"] };
        let mut oha = Command::new(&self.oha);
        oha.args(["--no-tui", "-c", "100", "-q", &RATE.to_string(), "-n", &REQUESTS.to_string()]).args(form);
        oha.arg(format!("http://{}/", self.proxy.public()));
        let oha = oha.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let answered = |proxy: &Proxy| proxy.metric("tidegate_requests_total", &[]) as u64;
        eventually("a third is answered", || answered(&self.proxy) >= REQUESTS / 3);
        fault(&mut self.servers);

        let said = oha.wait_with_output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        let mut outcome = Outcome::default();
        for (status, count) in said["statusCodeDistribution"].as_object().unwrap() {
            *match status.as_str() {
                "200" => &mut outcome.served,
                "500" => &mut outcome.status_500,
                _ => &mut outcome.other_statuses,
            } += count.as_u64().unwrap();
        }
        let errors = said["errorDistribution"].as_object().unwrap();
        outcome.broken_off = errors.values().map(|count| count.as_u64().unwrap()).sum();
        outcome
    }
}

const ALL_SERVED: Outcome = Outcome { served: REQUESTS, status_500: 0, other_statuses: 0, broken_off: 0 };

#[test]
fn a_server_that_is_killed_costs_no_request() {
    let Some(mut drill) = Drill::prepare() else { return };

    let outcome = drill.run(|servers| send_signal(&servers[0].child, "KILL"));

    assert_eq!(outcome, ALL_SERVED);
}

#[test]
fn a_server_that_is_stopped_costs_no_request() {
    let Some(mut drill) = Drill::prepare() else { return };

    let outcome = drill.run(|servers| send_signal(&servers[0].child, "STOP"));
    send_signal(&drill.servers[0].child, "CONT");

    assert_eq!(outcome, ALL_SERVED);
}

#[test]
fn a_server_that_is_slow_costs_no_request() {
    let Some(mut drill) = Drill::prepare() else { return };

    let outcome = drill.run(|servers| servers[0].answers_with("delay=200"));

    assert_eq!(outcome, ALL_SERVED);
}

#[test]
fn a_server_that_answers_500_fails_those_whose_answer_that_is() {
    let Some(mut drill) = Drill::prepare() else { return };

    let outcome = drill.run(|servers| servers[0].answers_with("status=500"));

    // It is the application's own word, and not in `retry-on`: each is passed on.
    let said = drill.proxy.metric("tidegate_server_requests_total", &["5xx"]) as u64;
    assert!(said > 0);
    assert_eq!(
        outcome,
        Outcome { served: REQUESTS - said, status_500: said, other_statuses: 0, broken_off: 0 }
    );
}

#[test]
fn a_server_that_breaks_off_in_the_middle_fails_those_whose_head_was_passed_on() {
    let Some(mut drill) = Drill::prepare() else { return };

    let outcome = drill.run(|servers| servers[0].answers_with("cut=1"));

    // Its probes are cut too, and are content with the head; each of the others has its line of the metric.
    let cut = drill.proxy.metric("tidegate_server_requests_total", &[&drill.servers[0].address.to_string()]);
    assert!(outcome.broken_off > 0 && outcome.broken_off <= cut as u64, "{outcome:?}");
    assert!(drill.servers[0].count("cut") >= outcome.broken_off);
    assert_eq!(outcome.served + outcome.broken_off, REQUESTS, "{outcome:?}");
    // Two in a row take it out: it does not go on to break a quarter of all.
    assert!(drill.proxy.metric("tidegate_ejections_total", &[]) >= 1.0);
}

#[test]
fn a_server_that_is_killed_and_revived_serves_again() {
    let Some(mut drill) = Drill::prepare() else { return };

    let outcome = drill.run(|servers| {
        send_signal(&servers[0].child, "KILL");
        servers[0].revive();
    });

    assert_eq!(outcome, ALL_SERVED);
    let address = drill.servers[0].address.to_string();
    let asked = || drill.proxy.metric("tidegate_server_requests_total", &[&address, "2xx"]);
    let before = asked();
    eventually("it serves again", || {
        drill.proxy.get("/");
        asked() > before
    });
}
