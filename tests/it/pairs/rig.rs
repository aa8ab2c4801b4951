//! Two proxies and a server, and what is looked at in each case.

use std::net::SocketAddr;

use super::cases;
use crate::strict;
use crate::strict::table::{Case, cases_of, cut, methods, read_answers};
use crate::support::haproxy::Haproxy;
use crate::support::nginx::Nginx;
use crate::support::recorder::{Log, echo};
use crate::support::strict::Exact;
use crate::support::{Client, Proxy, Recorder, client, eventually};

/// The other proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    Nginx,
    Haproxy,
    /// With `option accept-invalid-http-request`.
    ForgivingHaproxy,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Before,
    Behind,
}

pub struct Stage {
    recorder: Recorder,
    tidegate: Proxy,
    _other: Process,
    place: Place,
    /// Where clients come in.
    entry: SocketAddr,
}

pub enum Process {
    Nginx(Nginx),
    Haproxy(Haproxy),
}

/// The mark of answers that are the server's and no proxy's.
const OF_SERVER: &str = "x-of-server";
/// The other proxy's mark of what it has read as a request.
const OF_OTHER: &str = "x-of-other";
/// Tidegate's.
const OF_TIDEGATE: &str = "x-request-id";

impl Stage {
    /// `None` where the other proxy is absent. It listens with these parameters, if it is the first.
    #[track_caller]
    pub fn start(other: Other, place: Place, parameters: &str) -> Option<Stage> {
        let recorder = Recorder::answering(marked);
        let (process, tidegate, entry);
        match place {
            Place::Before => {
                tidegate = tidegate_before(recorder.address());
                process = other.before(tidegate.public(), parameters)?;
                entry = process.address();
            }
            Place::Behind => {
                process = other.before(recorder.address(), "")?;
                tidegate = tidegate_before(process.address());
                entry = tidegate.public();
            }
        }
        Some(Stage { recorder, tidegate, _other: process, place, entry })
    }

    pub fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// Plays all cases of HTTP/1.1, and says at the end what went wrong in which.
    #[track_caller]
    pub fn play(&self) {
        let tables = strict::TABLES.iter().copied().flatten().chain(cases::TABLES);
        let cases: Vec<Case> = tables.flat_map(|table| cases_of(*table)).collect();
        assert!(cases.len() > 1000, "{} cases", cases.len());
        let wrong: Vec<String> =
            cases.iter().enumerate().filter_map(|(n, case)| self.play_one(n, case).err()).collect();

        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        self.check_end(cases.len());
    }

    fn play_one(&self, n: usize, case: &Case) -> Result<(), String> {
        let canary = format!("/canary-{n}");
        let (got, end) = case.send(&mut client::dial(self.entry), &canary);
        let own = self.serve_a_stranger(n);
        let mut log = self.recorder.news();
        let verdict = own.and_then(|own| {
            end.map_err(|error| format!("it hangs: {error}"))?;
            let last = log.requests.pop().map(|request| request.summary());
            if last.as_ref() != Some(&own) {
                return Err(format!("a stranger's request came to the server as {last:?}"));
            }
            self.judge(case, &canary, &got, &log)
        });
        let shown = || {
            let requests: Vec<String> =
                log.requests.iter().map(|r| format!("{} {:?}", r.summary(), r.fields)).collect();
            format!("client: {:?}\n    server: {requests:?} {:?}", cut(&got), log.faults)
        };
        verdict.map_err(|why| format!("- {}: {why}\n    sent {:?}\n    {}", case.name, case.shown(), shown()))
    }

    /// Whoever comes next gets his own answer, whatever connections between the proxies are used again.
    fn serve_a_stranger(&self, n: usize) -> Result<String, String> {
        let own = format!("GET /own-{n}");
        let mut answer = None;
        eventually("a stranger is answered in time", || {
            let request = format!("{own} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            answer = Client::connect(self.entry).send(request).try_response().ok();
            // On a machine that stands still, the other proxy may have waited long enough.
            answer.as_ref().is_some_and(|answer| answer.status() != 408)
        });
        match answer {
            Some(answer) if answer.status() == 200 && answer.text() == own => Ok(own),
            answer => Err(format!("a stranger got {:?}", answer.map(|a| (a.first.clone(), a.text())))),
        }
    }

    fn judge(&self, case: &Case, canary: &str, got: &[u8], log: &Log) -> Result<(), String> {
        self.check_log(log)?;
        let summaries: Vec<String> = log.requests.iter().map(Exact::summary).collect();
        // To what it takes for HTTP/0.9, nginx gives a body alone; such a request has no Host, so Tidegate refuses it.
        let is_old = self.place == Place::Before && summaries.is_empty() && !got.starts_with(b"HTTP/");
        if is_old {
            return Ok(());
        }
        let (answers, rest) = read_answers(got, &methods(case, canary));
        if !rest.is_empty() {
            return Err(format!("the client cannot read it: {rest}"));
        }
        let (of_server, own): (Vec<&Exact>, Vec<&Exact>) =
            answers.iter().partition(|answer| !answer.all(OF_SERVER).is_empty());
        let is_its = |(answer, asked): (&&Exact, &String)| {
            answer.body == *asked || (answer.body.is_empty() && asked.starts_with("HEAD "))
        };
        if of_server.len() != summaries.len() || !of_server.iter().zip(&summaries).all(is_its) {
            return Err("answers and requests do not belong together".to_owned());
        }
        if self.place == Place::Behind && !is_as_it_should(case, canary, &summaries, !own.is_empty()) {
            return Err(format!("wanted {:?}", case.wants));
        }
        Ok(())
    }

    /// What reached the server is by the letter, and whoever stands in front has read it as a request: what was hidden
    /// in another has no mark.
    pub fn check_log(&self, log: &Log) -> Result<(), String> {
        if !log.faults.is_empty() {
            return Err(format!("the server was sent what it must not be: {:?}", log.faults));
        }
        let mark = match self.place {
            Place::Before => OF_OTHER,
            Place::Behind => OF_TIDEGATE,
        };
        match log.requests.iter().find(|request| request.all(mark).len() != 1) {
            Some(request) => Err(format!("{:?} was smuggled", request.summary())),
            None => Ok(()),
        }
    }

    /// What has come to the server since this was asked last.
    pub fn news(&self) -> Log {
        self.recorder.news()
    }

    /// All this went over connections that were used again, or it shows nothing.
    #[track_caller]
    pub fn check_end(&self, cases: usize) {
        let connections = match self.place {
            Place::Before => self.tidegate.metric("tidegate_connections_total", &["public"]) as usize,
            Place::Behind => self.recorder.log().connections.len(),
        };
        assert!(
            connections > 0 && connections < cases * 3 / 4,
            "{connections} connections for {cases} cases"
        );
        assert!(!self.tidegate.events().iter().any(|line| line.contains("panicked")));
    }
}

/// What Tidegate lets through is what it lets through alone, as far as the one behind it does not refuse.
fn is_as_it_should(case: &Case, canary: &str, summaries: &[String], is_refused: bool) -> bool {
    let canary = format!("GET {canary}");
    let served: Vec<&String> = summaries.iter().filter(|summary| **summary != canary).collect();
    case.wants.iter().any(|want| {
        let wanted: Vec<&String> = want.served.iter().collect();
        served == wanted || (is_refused && wanted.starts_with(&served))
    })
}

impl Other {
    /// Started before `server`, with further parameters of where it listens.
    #[track_caller]
    pub fn before(self, server: SocketAddr, parameters: &str) -> Option<Process> {
        match self {
            Other::Nginx => nginx_before(server, parameters).map(Process::Nginx),
            Other::Haproxy => Haproxy::before(server, parameters, HAPROXY).map(Process::Haproxy),
            Other::ForgivingHaproxy => {
                let lines = format!("{HAPROXY}\n  option accept-invalid-http-request");
                Haproxy::before(server, parameters, &lines).map(Process::Haproxy)
            }
        }
    }
}

impl Process {
    pub fn address(&self) -> SocketAddr {
        match self {
            Process::Nginx(nginx) => nginx.address(),
            Process::Haproxy(haproxy) => haproxy.address(),
        }
    }
}

/// What is not whole is waited for: not for long, since many cases are not.
const HAPROXY: &str = "  timeout client 500ms\n  timeout http-request 500ms\n  timeout http-keep-alive 500ms\n  \
                       http-request set-header x-of-other %[method]";

/// As open as its documents allow: it streams bodies, keeps odd names, passes `Host` as it came, and knows WebSockets.
fn nginx_before(server: SocketAddr, parameters: &str) -> Option<Nginx> {
    let http = format!(
        "client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; lingering_timeout 1s;
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
         upstream app {{ server {server}; keepalive 16; }}"
    );
    Nginx::listening(
        parameters,
        &http,
        "ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
         location / {
           proxy_pass http://app; proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
           proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;
           proxy_set_header Connection $connection_upgrade; proxy_set_header X-Of-Other $request_method;
         }",
    )
}

/// One worker: so every request may come by the connection that the one before has used.
#[track_caller]
pub fn tidegate_before(server: SocketAddr) -> Proxy {
    let body_max = strict::table::BODY_MAX;
    Proxy::start(&format!(
        "[runtime]\nworkers = 1\n[limits]\nkeep-alive = \"2s\"\n[[route]]\nupstream = \"app\"\nmax-body = \"{body_max}B\"\n\
         [upstream.app]\nservers = [\"{server}\"]\neject = false\n"
    ))
}

pub fn marked(request: &Exact) -> Vec<u8> {
    let answer = echo(request);
    let line = b"HTTP/1.1 200 OK\r\n";
    [line, format!("{OF_SERVER}: 1\r\n").as_bytes(), &answer[line.len()..]].concat()
}
