//! `tidegate demo`: three servers, a proxy before them, and a little traffic; one process, no file.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::config::{self, Config, Mistakes};
use crate::upstream::balance::Registry;

/// What the slow server waits before each answer.
const SLOWNESS: Duration = Duration::from_millis(150);
/// Every so many requests, the unsteady server answers 503.
const UNSTEADY: usize = 4;
/// Requests that the demo sends itself.
const REQUESTS: usize = 20;
/// For one of them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request's head that a demo server reads at most.
const HEAD_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy)]
enum Temper {
    Quick,
    Slow,
    Unsteady,
}

/// Starts the three servers and returns the configuration of the proxy before them.
///
/// # Errors
/// No socket is to be had.
pub fn prepare(registry: &Registry) -> io::Result<Result<Config, Mistakes>> {
    let mut servers = Vec::new();
    for (name, temper) in [("quick", Temper::Quick), ("slow", Temper::Slow), ("unsteady", Temper::Unsteady)] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        servers.push(format!("\"{}\"", listener.local_addr()?));
        thread::Builder::new().name(name.into()).spawn(move || serve(&listener, name, temper))?;
    }
    let text = format!(
        r#"
[admin]
bind = "{admin}"

[[listener]]
name = "demo"
bind = "{public}"

[[route]]
name = "site"
path = "/*"
upstream = "servers"

[[route]]
name = "cached"
path = "/cached/*"
upstream = "servers"
cache = true

[upstream.servers]
servers = [{servers}]
balance = "least-connections"
sticky = {{ cookie = "tidegate" }}
health = {{ path = "/healthz", interval = "1s" }}
"#,
        admin = free("127.0.0.1:9900"),
        public = free("127.0.0.1:8080"),
        servers = servers.join(", "),
    );
    Ok(config::parse(&text, "demo.toml".as_ref(), &registry.names().collect::<Vec<_>>()))
}

/// Sends a little traffic, and says where to look.
pub fn tour(addresses: &[(String, SocketAddr)], mut out: impl Write) -> io::Result<()> {
    let address = |name: &str| addresses.iter().find(|(n, _)| n == name).map(|(_, a)| *a);
    let (Some(public), Some(admin)) = (address("demo"), address("admin")) else { return Ok(()) };
    let mut failed = 0;
    for number in 0..REQUESTS {
        let path = if number % 2 == 0 { "/" } else { "/cached/page" };
        failed += usize::from(get(public, path).is_err());
    }
    writeln!(
        out,
        "\nTidegate is up: three servers (one slow, one that fails now and then) behind http://{public}\n\
         {REQUESTS} requests were sent to it, {failed} of them without an answer. Try:\n\n  \
         curl -i http://{public}/                 which server answered: x-served-by\n  \
         curl -i http://{public}/cached/page      the second time from the cache: cache-status\n  \
         curl -ic jar -b jar http://{public}/     with a cookie jar: always the same server\n  \
         curl http://{admin}/api/v1/status   listeners, routes, every server\n  \
         curl http://{admin}/metrics         for Prometheus\n  \
         tidegate purge --all --admin {admin}   empties the cache\n\n\
         Ctrl-C ends it: what is in flight is finished first.\n"
    )?;
    out.flush()
}

/// The usual port where it is free, so that the README's commands work; else any.
fn free(usual: &str) -> String {
    match TcpListener::bind(usual) {
        Ok(_) => usual.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 ") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// One thread per connection: a server of few lines for few requests.
fn serve(listener: &TcpListener, name: &'static str, temper: Temper) {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut stream = stream;
            while let Ok(Some(target)) = read_head(&mut stream) {
                let is_probe = target == "/healthz";
                if matches!(temper, Temper::Slow) && !is_probe {
                    thread::sleep(SLOWNESS);
                }
                let fails = matches!(temper, Temper::Unsteady)
                    && !is_probe
                    && ASKED.fetch_add(1, Relaxed) % UNSTEADY == UNSTEADY - 1;
                let status = if fails { "503 Service Unavailable" } else { "200 OK" };
                let fresh = if target.starts_with("/cached/") && !fails { "max-age=30" } else { "no-store" };
                let body = format!("{name} says: {status}\n");
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
                     cache-control: {fresh}\r\nx-served-by: {name}\r\n\r\n{body}"
                );
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}

/// The target of the next request; `None` when the client has hung up.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES || stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head);
    Ok(line.split(' ').nth(1).map(str::to_owned))
}
