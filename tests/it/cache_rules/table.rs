//! Rows of requests and answers, run one after another through one proxy in front of one server.
//!
//! Text, so that a row reads as a conversation: parts are separated by ` | `, the last may be a body, as
//! in `200 | ETag: "a" | = the body`. `{}` is the row's own path, `@-100` the date of a hundred seconds ago.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use self::Want::*;
use crate::support::{Client, Message, Origin, Proxy, one_route};

/// The server breaks the connection instead of answering.
pub const HANGS_UP: &str = "hangs up";

/// What makes an answer stale on arrival, by 40 seconds.
pub const STALE: &str = "Cache-Control: max-age=60 | Age: 100";

/// One rule: a conversation of which each answer is as it must be.
pub struct Rule {
    id: String,
    steps: Vec<Step>,
}

struct Step {
    /// Method, and if it is not the row's own path the target; fields; body.
    ask: String,
    /// What the server answers if it is asked: interim responses, then status, fields, body.
    answer: String,
    wants: Vec<Want>,
}

/// What must have happened.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    /// The server was asked, and its answer came back.
    Miss,
    /// The server was not asked: an earlier answer came back, with its age.
    Hit,
    /// The server was asked whether an earlier answer is still right, and that one came back.
    Validated,
    /// The server was asked in vain, and an earlier answer came back, with its age.
    Stale,
    /// The server was not asked.
    Unasked,
    Status(u16),
    Body(&'static str),
    /// The lines of this field, joined.
    Field(&'static str, &'static str),
    NoField(&'static str),
    /// `Age` is this, or a little more.
    Age(u64),
    /// The server was asked with this method.
    AskedBy(&'static str),
    /// The server was asked with this value of this field.
    AskedWith(&'static str, &'static str),
    AskedWithout(&'static str),
    /// Statuses of the interim responses that came before.
    Interims(&'static [u16]),
}

pub fn rule(id: impl Into<String>) -> Rule {
    Rule { id: id.into(), steps: Vec::new() }
}

/// The same request twice: what becomes of the second when the first was answered 200 with these fields.
pub fn twice((id, fields, want): (&str, &str, Want)) -> Rule {
    let again = if matches!(want, Validated) { "304" } else { "200" };
    rule(id).then("GET", format!("200 | {fields}"), &[Miss]).then("GET", again, &[want])
}

impl Rule {
    pub fn then(mut self, ask: impl Into<String>, answer: impl Into<String>, wants: &[Want]) -> Rule {
        self.steps.push(Step { ask: ask.into(), answer: answer.into(), wants: wants.to_vec() });
        self
    }
}

/// Holds all rules against a route with `cache = true`, and tells of all that are broken.
#[track_caller]
pub fn check(rules: impl IntoIterator<Item = Rule>) {
    check_with("cache = true", rules);
}

/// The same with other words in the route.
#[track_caller]
pub fn check_with(route: &str, rules: impl IntoIterator<Item = Rule>) {
    let stage = Stage::default();
    let answering = stage.clone();
    let origin = Origin::start(move |request| answering.answer(request));
    // With the usual ejection: its only server must stay, however often it fails here.
    let proxy = Proxy::start(&one_route(route, "", &[&origin]));

    let failures: Vec<String> =
        rules.into_iter().filter_map(|rule| play(&rule, &stage, &proxy).err()).collect();

    assert!(failures.is_empty(), "{} rules are broken:\n{}", failures.len(), failures.join("\n"));
}

fn play(rule: &Rule, stage: &Stage, proxy: &Proxy) -> Result<(), String> {
    let words = Words { path: format!("/{}", rule.id), now: SystemTime::now() };
    // One connection: it stays with one worker, which has stored a response before it reads on.
    let mut client = proxy.client();
    let mut bodies = Vec::new();
    for (n, step) in rule.steps.iter().enumerate() {
        let broken = |why: String| format!("{}, request {}: {why}", rule.id, n + 1);
        let answer = Answer::read(&words.fill(&step.answer), &format!("{} {n}", rule.id));
        stage.set(&rule.id, &answer);
        let request = Request::read(&words.fill(&step.ask), &words.path);
        let (response, interims) =
            request.send(&mut client).map_err(|error| broken(format!("no response: {error}")))?;
        let seen =
            Seen { response, interims, asked: stage.asked(&rule.id), answer, bodies: &bodies, request };
        for want in &step.wants {
            want.check(&seen, &words).map_err(|why| broken(format!("{want:?}: {why}\n{seen}")))?;
        }
        if seen.response.field("connection") == Some("close") {
            client = proxy.client();
        }
        let body = seen.answer.map(|answer| answer.body);
        bodies.extend(body);
    }
    Ok(())
}

/// What the words of a row stand for.
struct Words {
    path: String,
    now: SystemTime,
}

impl Words {
    fn fill(&self, text: &str) -> String {
        let text = text.replace("{}", &self.path);
        let mut pieces = text.split('@');
        let mut filled = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(piece.len());
            let (offset, rest) = piece.split_at(end);
            filled += &offset.parse().map_or("@".to_owned(), |offset| self.date(offset));
            filled += rest;
        }
        filled
    }

    fn date(&self, offset: i64) -> String {
        let span = Duration::from_secs(offset.unsigned_abs());
        httpdate::fmt_http_date(if offset < 0 { self.now - span } else { self.now + span })
    }
}

struct Request {
    method: String,
    head: String,
    body: String,
}

impl Request {
    fn read(text: &str, path: &str) -> Request {
        let (line, fields, body) = parts(text);
        let (method, target) = line.split_once(' ').unwrap_or((&line, path));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|field| field.starts_with("Host:")) {
            head += "Host: test\r\n";
        }
        fields.iter().for_each(|field| head += &format!("{field}\r\n"));
        if let Some(body) = &body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        Request { method: method.to_owned(), head, body: body.unwrap_or_default() }
    }

    /// The final response, and the statuses of those before it.
    fn send(&self, client: &mut Client) -> std::io::Result<(Message, Vec<u16>)> {
        client.send(format!("{}\r\n{}", self.head, self.body));
        if self.method == "HEAD" {
            return Ok((client.head(), Vec::new()));
        }
        let mut interims = Vec::new();
        loop {
            let response = client.try_response()?;
            if response.status() >= 200 {
                return Ok((response, interims));
            }
            interims.push(response.status());
        }
    }
}

/// What the server says to all requests of a step.
#[derive(Clone)]
struct Answer {
    /// Whole, before the final response.
    interims: String,
    status: String,
    fields: Vec<String>,
    body: String,
}

impl Answer {
    /// `None`: it hangs up.
    fn read(text: &str, usual_body: &str) -> Option<Answer> {
        if text == HANGS_UP {
            return None;
        }
        let (before, last) = text.rsplit_once(" || ").unwrap_or(("", text));
        let interims = before.split(" || ").filter(|text| !text.is_empty()).map(|text| {
            let (status, fields, _) = parts(text);
            format!("HTTP/1.1 {status} Interim\r\n{}\r\n", lines(&fields))
        });
        let interims = interims.collect();
        let (status, fields, body) = parts(last);
        let has_none = status.starts_with("204") || status.starts_with("304");
        let body = if has_none { String::new() } else { body.unwrap_or_else(|| usual_body.to_owned()) };
        Some(Answer { interims, status, fields, body })
    }

    fn status(&self) -> u16 {
        self.status[..3].parse().expect("a status in an answer")
    }

    fn to(&self, method: &str) -> Vec<u8> {
        let Answer { interims, status, fields, body } = self;
        let has = |name: &str| fields.iter().any(|field| field.starts_with(name));
        let is_framed = has("Content-Length:") || has("Transfer-Encoding:");
        let length = match self.status() {
            204 | 304 => String::new(),
            _ if is_framed => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let phrase = if status.contains(' ') { "" } else { " Whatever" };
        let body = if method == "HEAD" { "" } else { body };
        format!("{interims}HTTP/1.1 {status}{phrase}\r\n{length}{}\r\n{body}", lines(fields)).into_bytes()
    }
}

/// What the server is to say, and what it was asked, by the first segment of the path.
#[derive(Clone, Default)]
struct Stage(Arc<Mutex<HashMap<String, Scene>>>);

struct Scene {
    answer: Option<Answer>,
    asked: Vec<Message>,
}

impl Stage {
    fn set(&self, id: &str, answer: &Option<Answer>) {
        let scene = Scene { answer: answer.clone(), asked: Vec::new() };
        self.0.lock().unwrap().insert(id.to_owned(), scene);
    }

    fn asked(&self, id: &str) -> Vec<Message> {
        self.0.lock().unwrap()[id].asked.clone()
    }

    fn answer(&self, request: &Message) -> Vec<u8> {
        let mut scenes = self.0.lock().unwrap();
        let id = request.target().split(['/', '?']).nth(1).unwrap_or_default();
        let Some(scene) = scenes.get_mut(id) else { return Vec::new() };
        scene.asked.push(request.clone());
        scene.answer.as_ref().map(|answer| answer.to(request.method())).unwrap_or_default()
    }
}

/// What one step came to.
struct Seen<'a> {
    request: Request,
    response: Message,
    interims: Vec<u16>,
    asked: Vec<Message>,
    answer: Option<Answer>,
    /// Of the answers of the steps before.
    bodies: &'a [String],
}

impl Want {
    fn check(&self, seen: &Seen<'_>, words: &Words) -> Result<(), String> {
        let response = &seen.response;
        let field = |message: &Message, name| {
            let lines = message.all(name);
            if lines.is_empty() { None } else { Some(lines.join(", ")) }
        };
        match *self {
            Miss => seen.is_asked().and(seen.is_answered()),
            Hit => seen.is_unasked().and(seen.has_age()).and(seen.is_stored()),
            Validated => seen.is_asked().and(seen.is_conditional()).and(seen.is_stored()),
            Stale => seen.is_asked().and(seen.has_age()).and(seen.is_stored()),
            Unasked => seen.is_unasked(),
            Status(status) => same(response.status(), status),
            Body(body) => same(response.text(), words.fill(body)),
            Field(name, value) => same(field(response, name), Some(words.fill(value))),
            NoField(name) => same(field(response, name), None),
            Age(least) => {
                let age = response.field("age").and_then(|age| age.parse::<u64>().ok());
                let is_right = age.is_some_and(|age| (least..least + 60).contains(&age));
                if is_right { Ok(()) } else { Err(format!("found {age:?}")) }
            }
            AskedBy(method) => same(seen.last_asked()?.method(), method),
            AskedWith(name, value) => same(field(seen.last_asked()?, name), Some(words.fill(value))),
            AskedWithout(name) => same(field(seen.last_asked()?, name), None),
            Interims(statuses) => same(seen.interims.as_slice(), statuses),
        }
    }
}

impl Seen<'_> {
    fn last_asked(&self) -> Result<&Message, String> {
        self.asked.last().ok_or_else(|| "the server was not asked".to_owned())
    }

    fn is_asked(&self) -> Result<(), String> {
        self.last_asked().map(drop)
    }

    fn is_unasked(&self) -> Result<(), String> {
        if self.asked.is_empty() { Ok(()) } else { Err("the server was asked".to_owned()) }
    }

    fn is_conditional(&self) -> Result<(), String> {
        let asked = self.last_asked()?;
        let has = |name| asked.field(name).is_some();
        let is_conditional = has("if-none-match") || has("if-modified-since");
        if is_conditional { Ok(()) } else { Err("the server was asked for everything".to_owned()) }
    }

    fn has_age(&self) -> Result<(), String> {
        self.response.field("age").map(drop).ok_or_else(|| "no Age".to_owned())
    }

    /// The whole of what the server has just said.
    fn is_answered(&self) -> Result<(), String> {
        let answer = self.answer.as_ref().ok_or("the server hung up")?;
        let body = if self.request.method == "HEAD" { "" } else { &answer.body };
        same((self.response.status(), self.response.text()), (answer.status(), body.to_owned()))
    }

    /// A whole response is one of those that the server gave before.
    fn is_stored(&self) -> Result<(), String> {
        let is_whole =
            self.request.method != "HEAD" && ![204, 206, 304, 416].contains(&self.response.status());
        let is_known = self.bodies.contains(&self.response.text());
        if is_known || !is_whole { Ok(()) } else { Err("the server has not said that before".to_owned()) }
    }
}

impl std::fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let indented = |text: &str| text.replace('\n', "\n      ");
        let told = |message: &Message| {
            let fields = message.fields.iter().map(|(name, value)| format!("\n  {name}: {value}"));
            format!("{}{}", message.first, fields.collect::<String>())
        };
        for asked in &self.asked {
            writeln!(f, "    server was asked {}", indented(&told(asked)))?;
        }
        let body = self.response.text();
        writeln!(f, "    client was told {}\n      {body:?}", indented(&told(&self.response)))
    }
}

fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(found: T, wanted: U) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}, wanted {wanted:?}")) }
}

/// First line, fields and body.
fn parts(text: &str) -> (String, Vec<String>, Option<String>) {
    let mut pieces: Vec<String> = text.split(" | ").map(str::to_owned).collect();
    let body = pieces.last().and_then(|last| last.strip_prefix("= ")).map(str::to_owned);
    if body.is_some() {
        pieces.pop();
    }
    let first = pieces.remove(0);
    (first, pieces, body)
}

fn lines(fields: &[String]) -> String {
    fields.iter().map(|field| format!("{field}\r\n")).collect()
}
