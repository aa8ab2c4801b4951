//! The proxy as an operator runs it: the real binary, a real file, real signals.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use super::program::{send_signal, wait};
use super::{Client, DEADLINE, Message, get};

/// A running `tidegate run`. It is killed when it is dropped.
pub struct Proxy {
    child: Child,
    events: Lines,
    stdout: Lines,
    addresses: HashMap<String, SocketAddr>,
    dir: tempfile::TempDir,
}

/// Lines that a thread collects from a pipe.
#[derive(Clone)]
pub struct Lines(Arc<(Mutex<Collected>, Condvar)>);

/// The lines, and whether the pipe has ended.
type Collected = (Vec<String>, bool);

impl Proxy {
    /// Starts it and waits until it is ready. Every table that the text leaves out and every test
    /// needs is put in front of it: see [`complete`].
    #[track_caller]
    pub fn start(toml: &str) -> Proxy {
        Proxy::launch(toml, |_| {})
    }

    /// The same by a shell that has done something first, such as setting a limit.
    #[track_caller]
    pub fn start_after(shell: &str, toml: &str) -> Proxy {
        Proxy::launch(toml, |command| {
            let mut wrapped = Command::new("sh");
            wrapped.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]);
            wrapped.arg(command.get_program()).args(command.get_args());
            wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *command = wrapped;
        })
    }

    #[track_caller]
    fn launch(toml: &str, change: impl FnOnce(&mut Command)) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, complete(toml)).unwrap();
        let mut command = tidegate(&["run", "--config", file.to_str().unwrap()]);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let events = Lines::of(child.stderr.take().unwrap());
        let stdout: ChildStdout = child.stdout.take().unwrap();
        let stdout = Lines::of(stdout);
        let mut proxy = Proxy { child, events, stdout, addresses: HashMap::new(), dir };
        proxy.await_ready();
        proxy
    }

    /// One route to these servers, and nothing else.
    #[track_caller]
    pub fn before(origin: &super::Origin) -> Proxy {
        Proxy::start(&format!(
            "[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{}]\n",
            origin.toml()
        ))
    }

    #[track_caller]
    fn await_ready(&mut self) {
        let is_ready = |line: &str| word(line, "message").as_deref() == Some("ready");
        let lines = self
            .events
            .until(is_ready)
            .unwrap_or_else(|lines| panic!("tidegate did not become ready; it said:\n{}", lines.join("\n")));
        for line in lines.iter().filter(|line| word(line, "message").as_deref() == Some("listening")) {
            let name = word(line, "listener").expect("a name in the event");
            let address = word(line, "address").expect("an address in the event");
            self.addresses.insert(name, address.parse().expect("an address"));
        }
    }

    /// Where the listener of this name can be reached.
    #[track_caller]
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).unwrap_or_else(|| panic!("no listener {listener:?}"))
    }

    #[track_caller]
    pub fn public(&self) -> SocketAddr {
        self.address("public")
    }

    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    /// A connection to the listener `public`.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.public())
    }

    /// One GET through the listener `public`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Message {
        get(self.public(), path)
    }

    /// The directory of its file, removed with it.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// `/api/v1/status`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let answer = get(self.admin(), "/api/v1/status");
        serde_json::from_slice(&answer.body).expect("JSON from /api/v1/status")
    }

    /// The state of one server, as the status page says it.
    #[track_caller]
    pub fn state_of(&self, server: &super::Origin) -> String {
        let status = self.status();
        let upstreams = status["upstreams"].as_array().expect("upstreams");
        let mut servers = upstreams.iter().flat_map(|upstream| upstream["servers"].as_array().unwrap());
        let address = server.address().to_string();
        let found =
            servers.find(|entry| entry["address"].as_str().is_some_and(|text| text.contains(&address)));
        found.unwrap_or_else(|| panic!("no server {address} in {status}"))["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> String {
        get(self.admin(), "/metrics").text()
    }

    /// The sum of the samples of one metric whose line has all these pieces of text.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        let samples =
            text.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Writes another text into its file, completed as at the start.
    pub fn rewrite(&self, toml: &str) {
        std::fs::write(self.dir.path().join("tidegate.toml"), complete(toml)).unwrap();
    }

    /// Has it read its file again.
    #[track_caller]
    pub fn try_reload(&self) -> Message {
        let request = "POST /reload HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        Client::connect(self.admin()).send(request).response()
    }

    /// Puts another text in force; the report.
    #[track_caller]
    pub fn reload(&self, toml: &str) -> serde_json::Value {
        self.rewrite(toml);
        let answer = self.try_reload();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON from /reload")
    }

    /// Where a listener can be reached now, after reloads too.
    pub fn address_now(&self, listener: &str) -> Option<SocketAddr> {
        let status = self.status();
        let found = status["listeners"].as_array().unwrap().iter().find(|one| one["name"] == listener)?;
        Some(found["address"].as_str().unwrap().parse().unwrap())
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        send_signal(&self.child, "HUP");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        send_signal(&self.child, "TERM");
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Its number, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its events so far.
    pub fn events(&self) -> Vec<String> {
        self.events.so_far()
    }

    /// Its access log, when that goes to standard output.
    pub fn access_lines(&self) -> Lines {
        self.stdout.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- tidegate said:\n{}", self.events().join("\n"));
        }
    }
}

impl Lines {
    pub fn of(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::new((Mutex::new((Vec::new(), false)), Condvar::new())));
        let collected = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                collected.0.0.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                collected.0.1.notify_all();
            }
            collected.0.0.lock().unwrap().1 = true;
            collected.0.1.notify_all();
        });
        lines
    }

    pub fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap().0.clone()
    }

    /// All lines up to now, once one of them is as wanted; otherwise, at the end of the pipe or at
    /// the deadline, what there was instead.
    pub fn until(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Vec<String>> {
        let has = |lines: &[String]| lines.iter().any(|line| is_wanted(line));
        let guard = self.0.0.lock().unwrap();
        let wait_on = |state: &mut Collected| !state.1 && !has(&state.0);
        let (guard, _) = self.0.1.wait_timeout_while(guard, DEADLINE, wait_on).unwrap();
        let lines = guard.0.clone();
        if has(&lines) { Ok(lines) } else { Err(lines) }
    }
}

/// The binary, with its output in pipes and no say from the environment.
pub fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The text with what every test needs: two workers (so that what must be shared is), a listener
/// called `public` and the admin listener, both on a free port and asked as `test`, and events that can be read.
fn complete(toml: &str) -> String {
    let mut text = String::new();
    for (table, lines) in [
        ("[runtime]", "workers = 2\ndrain-timeout = \"5s\""),
        ("[admin]", "bind = \"127.0.0.1:0\"\nhosts = [\"test\"]"),
        ("[log]", "events = \"json\""),
        ("[[listener]]", "name = \"public\"\nbind = \"127.0.0.1:0\""),
    ] {
        if !toml.contains(table) {
            text.push_str(&format!("{table}\n{lines}\n"));
        }
    }
    text + toml
}

/// A field of a JSON event.
pub fn word(line: &str, field: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = event.get("fields").unwrap_or(&event);
    Some(fields[field].as_str()?.to_owned())
}

/// The text for one route to one upstream: further keys of the route, of the upstream, its servers.
pub fn one_route(route: &str, upstream: &str, servers: &[&super::Origin]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| server.toml()).collect();
    let servers = servers.join(", ");
    format!("[[route]]\nupstream = \"app\"\n{route}\n[upstream.app]\nservers = [{servers}]\n{upstream}\n")
}
