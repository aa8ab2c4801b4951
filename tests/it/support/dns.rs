//! A name server for tests: it answers for the names it is given, as the test says, and remembers what it was asked.
//!
//! Messages are put together by hand (RFC 1035 section 4), so that the proxy's library has nobody to agree with.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::DEADLINE;

/// A name server on UDP and TCP; it stops when it is dropped.
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Vec<JoinHandle<()>>,
}

/// What a name has, without its TTL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(&'static str),
    Srv { priority: u16, weight: u16, port: u16, target: &'static str },
}

/// How questions are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// From the zone; what is not in it does not exist.
    Well,
    /// SERVFAIL.
    Failing,
    /// REFUSED.
    Refusing,
    /// NXDOMAIN, whatever the zone says.
    Empty,
    /// Not at all.
    Silent,
}

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
const CNAME: u16 = 5;

struct Shared {
    zone: Mutex<HashMap<String, (u32, Vec<Record>)>>,
    mood: Mutex<Mood>,
    /// Come before the mood.
    moods: Mutex<HashMap<(String, u16), Mood>>,
    questions: Mutex<Vec<(String, u16)>>,
    is_truncating: AtomicBool,
    is_up: AtomicBool,
}

/// A question, as it stands in a message.
struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    bytes: Vec<u8>,
}

impl Dns {
    /// On a free port, without any names.
    pub fn start() -> Dns {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared {
            zone: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            moods: Mutex::default(),
            questions: Mutex::default(),
            is_truncating: AtomicBool::new(false),
            is_up: AtomicBool::new(true),
        });
        let (for_udp, for_tcp) = (shared.clone(), shared.clone());
        let serving = vec![
            std::thread::spawn(move || serve_udp(&udp, &for_udp)),
            std::thread::spawn(move || serve_tcp(&tcp, &for_tcp)),
        ];
        Dns { address, shared, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `[dns]` that asks nobody else, quickly. More keys may follow.
    pub fn toml(&self) -> String {
        format!(
            "[dns]\nservers = [\"{}\"]\ntimeout = \"200ms\"\nattempts = 1\nmin-ttl = \"50ms\"\n",
            self.address
        )
    }

    /// Gives a name these records, in place of those it had. A TTL of 0 is asked for again after `min-ttl`.
    pub fn set(&self, name: &str, ttl: u32, records: &[Record]) {
        self.shared.zone.lock().unwrap().insert(name.to_owned(), (ttl, records.to_vec()));
    }

    /// The same for IPv4 addresses, without a TTL.
    pub fn set_addresses(&self, name: &str, addresses: &[SocketAddr]) {
        let record = |address: &SocketAddr| match address {
            SocketAddr::V4(v4) => Record::A(*v4.ip()),
            SocketAddr::V6(v6) => Record::Aaaa(*v6.ip()),
        };
        self.set(name, 0, &addresses.iter().map(record).collect::<Vec<_>>());
    }

    /// From now on the name does not exist.
    pub fn remove(&self, name: &str) {
        self.shared.zone.lock().unwrap().remove(name);
    }

    /// How all questions are answered from now on.
    pub fn turn(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// How one question is answered from now on.
    pub fn turn_for(&self, name: &str, kind: u16, mood: Mood) {
        self.shared.moods.lock().unwrap().insert((name.to_owned(), kind), mood);
    }

    /// From now on no answer fits into UDP.
    pub fn truncate(&self) {
        self.shared.is_truncating.store(true, Ordering::SeqCst);
    }

    /// What it was asked so far, in order.
    pub fn questions(&self) -> Vec<(String, u16)> {
        self.shared.questions.lock().unwrap().clone()
    }

    /// How often it was asked about a name.
    pub fn count(&self, name: &str) -> usize {
        self.questions().iter().filter(|(asked, _)| asked == name).count()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.is_up.store(false, Ordering::SeqCst);
        // Something for each thread to wake up for.
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.address));
        let _ = TcpStream::connect(self.address);
        self.serving.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// UDP and TCP on one port; whoever has the port of the one may lack that of the other.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if !shared.is_up.load(Ordering::SeqCst) {
            return;
        }
        let Some(mut answer) = answer(&buffer[..length], shared) else { continue };
        if shared.is_truncating.load(Ordering::SeqCst) {
            truncate(&mut answer);
        }
        let _ = socket.send_to(&answer, from);
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if !shared.is_up.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
        std::thread::spawn(move || serve_stream(stream, &shared));
    }
}

/// Each message has its length before it (RFC 1035 section 4.2.2).
fn serve_stream(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message).ok()?;
        let answer = answer(&message, shared)?;
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &answer].concat()).ok()?;
    }
}

/// The bytes of an answer; `None`: there is none.
fn answer(message: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let question = read(message)?;
    let key = (question.name.clone(), question.kind);
    shared.questions.lock().unwrap().push(key.clone());
    let mood = shared.moods.lock().unwrap().get(&key).copied();
    match mood.unwrap_or(*shared.mood.lock().unwrap()) {
        Mood::Silent => None,
        Mood::Failing => Some(write(&question, 2, &[])),
        Mood::Empty => Some(write(&question, 3, &[])),
        Mood::Refusing => Some(write(&question, 5, &[])),
        Mood::Well => {
            let zone = shared.zone.lock().unwrap();
            let code = if zone.contains_key(&question.name) { 0 } else { 3 };
            Some(write(&question, code, &records(&zone, &question.name, question.kind)))
        }
    }
}

/// The records of a kind that a name has, and those of the name that it is an alias of.
fn records(zone: &HashMap<String, (u32, Vec<Record>)>, name: &str, kind: u16) -> Vec<(String, u32, Record)> {
    let Some((ttl, own)) = zone.get(name) else { return Vec::new() };
    let mut found = Vec::new();
    for record in own.iter().filter(|record| [kind, CNAME].contains(&record.kind())) {
        found.push((name.to_owned(), *ttl, record.clone()));
        if let Record::Cname(target) = record {
            found.extend(records(zone, target, kind));
        }
    }
    found
}

/// The one question of a message. Names in questions are not compressed.
fn read(message: &[u8]) -> Option<Question> {
    let id = message.get(..2)?.try_into().ok()?;
    let (mut labels, mut place) = (Vec::new(), 12);
    loop {
        let length = usize::from(*message.get(place)?);
        place += 1;
        if length == 0 {
            break;
        }
        let label = message.get(place..place + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        place += length;
    }
    let kind = u16::from_be_bytes(message.get(place..place + 2)?.try_into().ok()?);
    Some(Question { id, name: labels.join("."), kind, bytes: message.get(12..place + 4)?.to_vec() })
}

fn write(question: &Question, code: u8, records: &[(String, u32, Record)]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    let mut bytes = question.id.to_vec();
    // A response, authoritative, with recursion; then one question, the answers, and nothing else.
    bytes.extend([0x85, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    bytes.extend(&question.bytes);
    for (owner, ttl, record) in records {
        let data = record.data();
        bytes.extend(name_bytes(owner));
        bytes.extend(record.kind().to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

/// Header and question alone, with the mark that there is more.
fn truncate(answer: &mut Vec<u8>) {
    let question = read(answer).unwrap();
    answer[2] |= 0x02;
    answer[6..8].fill(0);
    answer.truncate(12 + question.bytes.len());
}

fn name_bytes(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    labels.flat_map(label).chain([0]).collect()
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Record::A(_) => A,
            Record::Aaaa(_) => AAAA,
            Record::Cname(_) => CNAME,
            Record::Srv { .. } => SRV,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Record::A(address) => address.octets().to_vec(),
            Record::Aaaa(address) => address.octets().to_vec(),
            Record::Cname(target) => name_bytes(target),
            Record::Srv { priority, weight, port, target } => {
                let numbers = [priority, weight, port].map(|number| number.to_be_bytes()).concat();
                [numbers, name_bytes(target)].concat()
            }
        }
    }
}
