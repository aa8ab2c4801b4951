//! Cases, and what is looked at in each.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::UNTIL_OUR_OWN_PARSER;
use crate::support::strict::{self, Exact, Stop, latin1};
use crate::support::{Proxy, Recorder, client};

/// The longest body that is let through, in the tables.
pub const BODY_MAX: usize = 64 * 1024;

/// One thing a client sends.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    bytes: Vec<u8>,
    /// Any of these is right.
    pub wants: Vec<Want>,
    /// `name: value`, in the first request that the server gets.
    with: Vec<String>,
    /// Names of fields that no request has that reaches the server, also not as trailers.
    without: Vec<String>,
    /// Values that no field of theirs has.
    without_values: Vec<String>,
    /// The trailers of the first, each `name: value`; `None` is whatever they are.
    trailers: Option<Vec<String>>,
    /// Nothing is sent behind it, and the client says that it has no more to say.
    is_last: bool,
    /// In how large pieces it is sent.
    piece: usize,
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Requests that reach the server and are answered, as [`Exact::summary`] says them.
    pub served: Vec<String>,
    pub then: Then,
}

/// What comes behind the last of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The canary is answered: the connection went on, and began where it should.
    Canary,
    /// One answer of Tidegate's own, with one of these statuses, and the end.
    Refused(Vec<u16>),
    /// One answer of Tidegate's own with one of these statuses, and the canary is answered.
    Answered(Vec<u16>),
    /// The end.
    Closed,
}

/// Refused with one of these statuses: the server gets no request, and nothing behind it is answered.
pub fn refused(name: impl Into<String>, bytes: impl AsRef<str>, statuses: &[u16]) -> Case {
    case(name, bytes, vec![want(&[], Then::Refused(statuses.to_vec()))])
}

/// These requests reach the server, and the connection goes on.
pub fn served(name: impl Into<String>, bytes: impl AsRef<str>, requests: &[&str]) -> Case {
    case(name, bytes, vec![want(requests, Then::Canary)])
}

/// These requests reach the server, and the connection ends.
pub fn served_last(name: impl Into<String>, bytes: impl AsRef<str>, requests: &[&str]) -> Case {
    case(name, bytes, vec![want(requests, Then::Closed)])
}

/// These requests reach the server, and what is behind them is refused.
pub fn served_then_refused(
    name: impl Into<String>,
    bytes: impl AsRef<str>,
    requests: &[&str],
    statuses: &[u16],
) -> Case {
    case(name, bytes, vec![want(requests, Then::Refused(statuses.to_vec()))])
}

/// Answered by Tidegate itself, and the connection goes on.
pub fn answered(name: impl Into<String>, bytes: impl AsRef<str>, statuses: &[u16]) -> Case {
    case(name, bytes, vec![want(&[], Then::Answered(statuses.to_vec()))])
}

fn case(name: impl Into<String>, bytes: impl AsRef<str>, wants: Vec<Want>) -> Case {
    Case {
        name: name.into(),
        bytes: strict::bytes(bytes.as_ref()),
        wants,
        with: Vec::new(),
        without: Vec::new(),
        without_values: Vec::new(),
        trailers: None,
        is_last: false,
        piece: usize::MAX,
    }
}

fn want(served: &[&str], then: Then) -> Want {
    Want { served: served.iter().map(|&text| text.to_owned()).collect(), then }
}

impl Case {
    /// A second thing that may come of it: where RFCs leave it open, or time decides.
    pub fn or(mut self, other: Case) -> Case {
        self.wants.extend(other.wants);
        self
    }

    pub fn or_refused(mut self, statuses: &[u16]) -> Case {
        self.wants.push(want(&[], Then::Refused(statuses.to_vec())));
        self
    }

    pub fn or_closed(mut self) -> Case {
        self.wants.push(want(&[], Then::Closed));
        self
    }

    /// The first request that reaches the server has this field, once: `name: value`.
    pub fn with(mut self, field: &str) -> Case {
        self.with.push(field.to_owned());
        self
    }

    /// No request that reaches the server has this field.
    pub fn without(mut self, name: &str) -> Case {
        self.without.push(name.to_owned());
        self
    }

    /// No request that reaches the server has a field with this value.
    pub fn without_value(mut self, value: &str) -> Case {
        self.without_values.push(value.to_owned());
        self
    }

    /// The first request that reaches the server has this trailer, `name: value`, and no more than are named so.
    pub fn with_trailer(mut self, trailer: &str) -> Case {
        self.trailers.get_or_insert_default().push(trailer.to_owned());
        self
    }

    pub fn without_trailers(mut self) -> Case {
        self.trailers = Some(Vec::new());
        self
    }

    /// Sent byte by byte: where a reader stops for more must make no difference.
    pub fn byte_by_byte(mut self) -> Case {
        self.name.push_str(", byte by byte");
        self.piece = 1;
        self
    }

    /// What a client gets that sends it, and the canary behind it, until its connection ends.
    pub fn send(&self, socket: &mut TcpStream, canary: &str) -> (Vec<u8>, io::Result<usize>) {
        let mut bytes = self.bytes.clone();
        if !self.is_last {
            bytes.extend(format!("GET {canary} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").bytes());
        }
        // The proxy may have hung up before it has all.
        let _ = bytes.chunks(self.piece).try_for_each(|piece| socket.write_all(piece));
        if self.is_last {
            let _ = socket.shutdown(Shutdown::Write);
        }
        let mut got = Vec::new();
        let end = socket.read_to_end(&mut got);
        (got, end)
    }

    /// Enough of its bytes to know it again.
    pub fn shown(&self) -> String {
        cut(&self.bytes)
    }

    /// Nothing follows, and the client ends its side.
    pub fn last(mut self) -> Case {
        self.is_last = true;
        self
    }
}

/// `GET /x` with these fields besides `Host: test`, each ending in CR LF.
pub fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

/// `POST /x` with these fields and this body.
pub fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}")
}

/// `POST /x`, chunked, with this body.
pub fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A whole request that must never be answered, for the insides of others.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// Holds all cases against a proxy with one route to a recorder, and tells of all that went wrong.
#[track_caller]
pub fn check(cases: impl IntoIterator<Item = Case>) {
    check_with("", cases);
}

/// The same with further text before the route.
#[track_caller]
pub fn check_with(toml: &str, cases: impl IntoIterator<Item = Case>) {
    let cases: Vec<Case> = cases.into_iter().collect();
    let Some(cases) = unless_gathered(toml, cases) else { return };
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases of one name");
    let rig = Rig::start(toml);

    let wrong: Vec<String> =
        cases.iter().enumerate().filter_map(|(n, case)| rig.play(n, case).err()).collect();

    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    rig.check_end();
}

thread_local! {
    /// Cases that are gathered and not played.
    static GATHERED: RefCell<Option<Vec<Case>>> = const { RefCell::new(None) };
}

/// The cases of a table, for another stage than its own. Those for a proxy of another configuration are left out.
pub fn cases_of(table: fn()) -> Vec<Case> {
    GATHERED.set(Some(Vec::new()));
    table();
    GATHERED.take().unwrap_or_default()
}

/// The cases, unless this thread gathers them.
fn unless_gathered(toml: &str, cases: Vec<Case>) -> Option<Vec<Case>> {
    GATHERED.with_borrow_mut(|gathered| match gathered {
        None => Some(cases),
        Some(_) if !toml.is_empty() => None,
        Some(gathered) => {
            gathered.extend(cases);
            None
        }
    })
}

struct Rig {
    recorder: Recorder,
    proxy: Proxy,
    /// Requests that must have reached the server when all is over.
    expected: std::cell::Cell<usize>,
}

/// What came of a case.
struct Outcome {
    /// What the client got.
    answers: Vec<Exact>,
    /// Bytes behind the last whole answer, or why they are none.
    rest: String,
    /// What reached the server.
    requests: Vec<Exact>,
    faults: Vec<String>,
    canary: String,
}

impl Rig {
    /// One worker: so every request may come by the connection to the server that the one before has used.
    fn start(toml: &str) -> Rig {
        let recorder = Recorder::start();
        let proxy = Proxy::start(&format!(
            "[runtime]\nworkers = 1\n[limits]\nkeep-alive = \"2s\"\n{toml}\n[[route]]\nupstream = \"app\"\nmax-body = \"{BODY_MAX}B\"\n\
             [upstream.app]\nservers = [{}]\neject = false\n",
            recorder.origin.toml()
        ));
        Rig { recorder, proxy, expected: Default::default() }
    }

    fn play(&self, n: usize, case: &Case) -> Result<(), String> {
        let outcome = self.run(n, case);
        self.expected.set(self.expected.get() + outcome.requests.len());
        let verdict = outcome.verdict(case);
        let is_listed = UNTIL_OUR_OWN_PARSER.contains(&case.name.as_str());
        let verdict = match (is_listed, verdict) {
            (true, Ok(())) => Err("passes: take it off UNTIL_OUR_OWN_PARSER".to_owned()),
            (true, Err(_)) => outcome.is_unambiguous(),
            (false, verdict) => verdict,
        };
        let verdict = verdict.and_then(|()| self.serve_a_stranger(n));
        verdict
            .map_err(|why| format!("- {}: {why}\n    sent {:?}\n    {outcome}", case.name, cut(&case.bytes)))
    }

    fn run(&self, n: usize, case: &Case) -> Outcome {
        let before = self.recorder.log();
        let canary = format!("/canary-{n}");
        let mut socket = client::dial(self.proxy.public());
        let (got, end) = case.send(&mut socket, &canary);
        let methods = methods(case, &canary);
        let (answers, rest) = read_answers(&got, &methods);
        let rest = match end {
            Err(error) => format!("{rest} ({error})"),
            Ok(_) => rest,
        };
        let after = self.recorder.log();
        Outcome {
            answers,
            rest,
            requests: after.requests[before.requests.len()..].to_vec(),
            faults: after.faults[before.faults.len()..].to_vec(),
            canary,
        }
    }

    /// Whoever comes next by the connection to the server gets his own answer.
    fn serve_a_stranger(&self, n: usize) -> Result<(), String> {
        let own = format!("/own-{n}");
        let answer = self.proxy.get(&own);
        self.expected.set(self.expected.get() + 1);
        let expected = format!("GET {own}");
        if answer.status() == 200 && answer.text() == expected {
            return Ok(());
        }
        Err(format!("a stranger got {:?} {:?}", answer.first, answer.text()))
    }

    /// Nothing came late.
    #[track_caller]
    fn check_end(&self) {
        let log = self.recorder.log();
        assert_eq!(log.faults, [""; 0]);
        assert_eq!(log.requests.len(), self.expected.get(), "requests came later than their answers");
        assert!(!self.proxy.events().iter().any(|line| line.contains("panicked")));
    }
}

/// The methods of the requests that may be answered: an answer to HEAD has no body.
pub fn methods(case: &Case, canary: &str) -> Vec<String> {
    let most = case.wants.iter().max_by_key(|want| want.served.len());
    let served = most.into_iter().flat_map(|want| &want.served);
    let method = |text: &String| text.split(' ').next().unwrap_or_default().to_owned();
    let mut methods: Vec<String> = served.chain([&format!("GET {canary}")]).map(method).collect();
    if methods.len() == 1 && case.bytes.starts_with(b"HEAD ") {
        // It is refused: also that answer has no body.
        methods.insert(0, "HEAD".to_owned());
    }
    methods
}

/// Whole answers, without interim ones, and what is behind them.
pub fn read_answers(got: &[u8], methods: &[String]) -> (Vec<Exact>, String) {
    let (mut answers, mut at) = (Vec::new(), 0);
    while at < got.len() {
        let method = methods.get(answers.len()).map_or("GET", String::as_str);
        match strict::response(&got[at..], method, true) {
            Ok((answer, length)) => {
                at += length;
                if answer.status() >= 200 {
                    answers.push(answer);
                }
            }
            Err(Stop::More) => return (answers, format!("half an answer: {:?}", cut(&got[at..]))),
            Err(Stop::Fault(why)) => return (answers, format!("{why}, in {:?}", cut(&got[at..]))),
        }
    }
    (answers, String::new())
}

impl Outcome {
    fn verdict(&self, case: &Case) -> Result<(), String> {
        if !self.faults.is_empty() || !self.rest.is_empty() {
            return Err("it was not understood".to_owned());
        }
        let found = self.found();
        if !case.wants.iter().any(|want| want.is_met_by(&found)) {
            return Err(format!("{found:?}, wanted {:?}", case.wants));
        }
        match self.requests.first().filter(|_| !found.served.is_empty()) {
            Some(first) => self.check_fields(case, first),
            None => Ok(()),
        }
    }

    fn check_fields(&self, case: &Case, first: &Exact) -> Result<(), String> {
        for field in &case.with {
            let (name, value) = field.split_once(": ").expect("name: value");
            let values = first.all(name);
            if values != [value] {
                return Err(format!("{name} reached the server as {values:?}, not {value:?}"));
            }
        }
        let trailers: Vec<String> =
            first.trailers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        if case.trailers.as_ref().is_some_and(|wanted| *wanted != trailers) {
            return Err(format!("trailers {trailers:?} reached the server"));
        }
        let mut all = self.requests.iter().flat_map(|request| request.fields.iter().chain(&request.trailers));
        let is_unwanted = |(name, value): &&(String, String)| {
            case.without.iter().any(|unwanted| unwanted.eq_ignore_ascii_case(name))
                || case.without_values.contains(value)
        };
        match all.find(is_unwanted) {
            Some((name, value)) => Err(format!("{name}: {value} reached the server")),
            None => Ok(()),
        }
    }

    /// In the words of a [`Want`].
    fn found(&self) -> Want {
        let summaries: Vec<String> = self.requests.iter().map(Exact::summary).collect();
        let canary = format!("GET {}", self.canary);
        let has_canary = summaries.last() == Some(&canary);
        let served = summaries[..summaries.len() - usize::from(has_canary)].to_vec();
        let is_own = |answer: &&Exact| answer.all("proxy-status").is_empty() && answer.status() == 200;
        let own: Vec<u16> = self.answers.iter().filter(|a| !is_own(a)).map(Exact::status).collect();
        let then = match (has_canary, own.is_empty()) {
            (true, true) => Then::Canary,
            (true, false) => Then::Answered(own),
            (false, true) => Then::Closed,
            (false, false) => Then::Refused(own),
        };
        Want { served, then }.checked_against(&self.answers, has_canary.then_some(canary))
    }

    /// What must hold even where hyper has mended what it should have refused.
    fn is_unambiguous(&self) -> Result<(), String> {
        let is_smuggled = self.requests.iter().any(|request| request.target().contains("smuggled"));
        let found = self.found();
        if self.faults.is_empty() && self.rest.is_empty() && !is_smuggled && !found.is_confused() {
            return Ok(());
        }
        Err(format!("not even unambiguous: {found:?}"))
    }
}

/// In place of the requests served, where answers and requests do not belong together.
const CONFUSED: &str = "(answers are not those of the requests)";

impl Want {
    /// Every request that reached the server was answered to this client, in order, by its own answer; what is ours
    /// stands behind those, but for an answer before the canary's.
    fn checked_against(mut self, answers: &[Exact], canary: Option<String>) -> Want {
        let of_server: Vec<&str> =
            answers.iter().filter(|a| a.all("proxy-status").is_empty()).map(|a| a.body.as_str()).collect();
        let asked: Vec<&str> = self.served.iter().chain(&canary).map(String::as_str).collect();
        let is_same = |(answer, asked): (&&str, &&str)| {
            answer == asked || (answer.is_empty() && asked.starts_with("HEAD "))
        };
        let is_each_own = of_server.len() == asked.len() && of_server.iter().zip(&asked).all(is_same);
        let ours = answers.len() - of_server.len();
        let ours_is_last = ours == 0
            || matches!(self.then, Then::Answered(_))
            || answers
                .last()
                .is_some_and(|a| !a.all("proxy-status").is_empty() && a.all("connection") == ["close"]);
        if !is_each_own || ours > 1 || !ours_is_last {
            self.served = vec![CONFUSED.to_owned()];
        }
        self
    }

    fn is_confused(&self) -> bool {
        self.served == [CONFUSED]
    }

    fn is_met_by(&self, found: &Want) -> bool {
        let same_end = match (&self.then, &found.then) {
            (Then::Refused(allowed), Then::Refused(status))
            | (Then::Answered(allowed), Then::Answered(status)) => {
                status.iter().all(|status| allowed.contains(status))
            }
            (wanted, found) => wanted == found,
        };
        same_end && self.served == found.served
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answers: Vec<String> = self
            .answers
            .iter()
            .map(|answer| format!("{} {:?}", answer.first, cut(answer.body.as_bytes())))
            .collect();
        let requests: Vec<String> =
            self.requests.iter().map(|request| format!("{} {:?}", request.first, request.fields)).collect();
        write!(f, "client: {answers:?} {}\n    server: {requests:?} {:?}", self.rest, self.faults)
    }
}

/// Enough of it to know it again.
pub fn cut(bytes: &[u8]) -> String {
    let text = latin1(&bytes[..bytes.len().min(300)]);
    if bytes.len() > 300 { format!("{text}…") } else { text }
}

#[test]
fn every_name_on_the_list_is_a_cases() {
    let sources = [
        include_str!("chunks.rs"),
        include_str!("connection.rs"),
        include_str!("fields.rs"),
        include_str!("host.rs"),
        include_str!("length.rs"),
        include_str!("lines.rs"),
        include_str!("request_line.rs"),
        include_str!("sequence.rs"),
        include_str!("transfer_encoding.rs"),
    ]
    .concat();
    for name in UNTIL_OUR_OWN_PARSER {
        // Some are made of a theme and a value.
        let text = name.find('"').map_or(format!("\"{name}\""), |at| name[at..].to_owned());
        assert!(sources.contains(&text), "{name:?} is nowhere");
    }
}

#[test]
fn every_table_is_played_in_pairs_too() {
    for source in [
        include_str!("chunks.rs"),
        include_str!("connection.rs"),
        include_str!("fields.rs"),
        include_str!("host.rs"),
        include_str!("identity.rs"),
        include_str!("length.rs"),
        include_str!("lines.rs"),
        include_str!("paths.rs"),
        include_str!("request_line.rs"),
        include_str!("sequence.rs"),
        include_str!("transfer_encoding.rs"),
        include_str!("../pairs/cases.rs"),
    ] {
        let (_, rest) = source.split_once("pub const TABLES").expect("a list of tables");
        let (listed, tests) = rest.split_once("];").expect("its end");
        for test in tests.split("#[test]\nfn ").skip(1) {
            let body = test.split("\n}\n").next().unwrap_or_default();
            let (name, _) = test.split_once('(').expect("a name");
            let is_listed = listed.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
            assert!(!body.contains("    check(") || is_listed, "{name} is not among the tables of its file");
        }
    }
}
