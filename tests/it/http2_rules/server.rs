//! A server of HTTP/1.1 that forgives nothing, and remembers what it was sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::{DEADLINE, Gate, Message};

/// Bytes of the answer for `/big`: more than the windows that a client begins with.
pub const BIG: usize = 200_000;

/// A listening server. Each request gets 200 and `ok`; one for `/wait` not before the gate is open.
pub struct Recorder {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    gate: Gate,
}

/// What it was sent so far.
#[derive(Default, Clone)]
pub struct Record {
    /// Requests that came whole.
    pub whole: Vec<Message>,
    /// Requests whose connection ended before their body did.
    pub cut: Vec<Message>,
    /// What was no request, or more than one.
    pub broken: Vec<String>,
}

impl Recorder {
    pub fn start() -> Recorder {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let recorder = Recorder {
            address: listener.local_addr().unwrap(),
            record: Arc::default(),
            gate: Gate::default(),
        };
        let (record, gate) = (recorder.record.clone(), recorder.gate.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (record, gate) = (record.clone(), gate.clone());
                std::thread::spawn(move || serve(stream, &record, &gate));
            }
        });
        recorder
    }

    pub fn toml(&self) -> String {
        format!("\"{}\"", self.address)
    }

    pub fn record(&self) -> Record {
        self.record.lock().unwrap().clone()
    }

    /// Forgets what it was sent.
    pub fn forget(&self) {
        *self.record.lock().unwrap() = Record::default();
    }

    /// The only request that came whole.
    #[track_caller]
    pub fn only(&self) -> Message {
        let record = self.record();
        assert!(record.broken.is_empty(), "{:?}", record.broken);
        assert_eq!(record.whole.len(), 1, "{:?}", record.whole);
        record.whole[0].clone()
    }

    /// What waits is answered.
    pub fn open(&self) {
        self.gate.open();
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// Why there is no whole request.
enum Bad {
    Ended,
    Cut(Message),
    Broken(String),
}

impl From<io::Error> for Bad {
    fn from(_: io::Error) -> Bad {
        Bad::Ended
    }
}

fn serve(mut stream: TcpStream, record: &Mutex<Record>, gate: &Gate) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(DEADLINE * 4));
    let mut conn = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (is_big, is_head) = match read_request(&mut conn) {
            Ok(request) => {
                let (waits, is_big) = (request.target() == "/wait", request.target() == "/big");
                let is_head = request.method() == "HEAD";
                record.lock().unwrap().whole.push(request);
                if waits {
                    gate.wait();
                }
                (is_big, is_head)
            }
            Err(Bad::Ended) => return,
            Err(Bad::Cut(request)) => return record.lock().unwrap().cut.push(request),
            Err(Bad::Broken(why)) => return record.lock().unwrap().broken.push(why),
        };
        // A proxy that waits for this answer has sent nothing after its request.
        if !conn.buffer().is_empty() {
            let extra = String::from_utf8_lossy(conn.buffer()).into_owned();
            return record.lock().unwrap().broken.push(format!("behind a request: {extra:?}"));
        }
        let body = if is_big { "x".repeat(BIG) } else { "ok".to_owned() };
        let follows = if is_head { "" } else { &body };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{follows}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// RFC 9112, and nothing that it lets a recipient forgive.
fn read_request(conn: &mut BufReader<TcpStream>) -> Result<Message, Bad> {
    let first = read_line(conn)?;
    let words: Vec<&str> = first.split(' ').collect();
    let is_target = |target: &str| {
        // Clients send more than the grammar has, and mean no harm: `|` and `"` in a query, for instance.
        let plain = target.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#');
        plain && (target.starts_with('/') || target == "*")
    };
    match words[..] {
        [method, target, "HTTP/1.1"] if is_token(method) && is_target(target) => {}
        _ => return Err(Bad::Broken(format!("request line {first:?}"))),
    }
    let mut request = Message { fields: read_fields(conn)?, first, ..Message::default() };
    if request.all("host").len() != 1 {
        return Err(Bad::Broken(format!("hosts {:?}", request.all("host"))));
    }
    match read_body(conn, &mut request) {
        Err(Bad::Ended) => Err(Bad::Cut(request)),
        Err(bad) => Err(bad),
        Ok(()) => Ok(request),
    }
}

fn read_body(conn: &mut BufReader<TcpStream>, request: &mut Message) -> Result<(), Bad> {
    let framings = [request.all("content-length"), request.all("transfer-encoding")];
    let broken = || Err(Bad::Broken(format!("framings {framings:?}")));
    let length = match (&framings[0][..], &framings[1][..]) {
        ([], []) => return Ok(()),
        ([], ["chunked"]) => return read_chunked(conn, request),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => length.parse::<u64>(),
        _ => return broken(),
    };
    let Ok(length) = length else { return broken() };
    conn.take(length).read_to_end(&mut request.body)?;
    if request.body.len() as u64 == length { Ok(()) } else { Err(Bad::Ended) }
}

fn read_chunked(conn: &mut BufReader<TcpStream>, request: &mut Message) -> Result<(), Bad> {
    loop {
        let line = read_line(conn)?;
        let Ok(size) = u64::from_str_radix(&line, 16) else {
            return Err(Bad::Broken(format!("chunk size {line:?}")));
        };
        if size == 0 {
            request.trailers = read_fields(conn)?;
            return Ok(());
        }
        let whole = request.body.len() as u64 + size;
        conn.take(size).read_to_end(&mut request.body)?;
        if (request.body.len() as u64) < whole {
            return Err(Bad::Ended);
        }
        let end = read_line(conn)?;
        if !end.is_empty() {
            return Err(Bad::Broken(format!("behind a chunk: {end:?}")));
        }
    }
}

fn read_fields(conn: &mut BufReader<TcpStream>) -> Result<Vec<(String, String)>, Bad> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(conn)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let is_plain = |value: &str| value.chars().all(|c| c == '\t' || !c.is_control());
        match line.split_once(':') {
            Some((name, value)) if is_token(name) && is_plain(value) => {
                fields.push((name.to_owned(), value.trim().to_owned()));
            }
            _ => return Err(Bad::Broken(format!("field {line:?}"))),
        }
    }
}

/// A line without its CR LF; no other CR, LF or NUL stands in it.
fn read_line(conn: &mut BufReader<TcpStream>) -> Result<String, Bad> {
    let mut line = Vec::new();
    conn.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(Bad::Ended);
    }
    let text = String::from_utf8_lossy(&line).into_owned();
    let broken = Err(Bad::Broken(format!("line {text:?}")));
    let Some(line) = text.strip_suffix("\r\n") else { return broken };
    if line.contains(['\r', '\n', '\0']) { broken } else { Ok(line.to_owned()) }
}

fn is_token(text: &str) -> bool {
    let is_mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || is_mark(b))
}
