//! The other end of the admin listener, for the command line.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// To connect, and between two pieces of the answer. A purge may look at millions of responses.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer; it is a line of JSON.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody answers.
    Io(SocketAddr, io::Error),
    /// What answers is no admin listener.
    NoAdmin(SocketAddr),
    /// It refuses: its status, and why.
    Refused(u16, String),
}

/// Sends `json` to `path` of the admin listener at `address`; the answer's body.
///
/// # Errors
/// Nobody answers there, or something else does, or the admin listener refuses.
pub fn post(address: SocketAddr, path: &str, json: &str) -> Result<String, ClientError> {
    let answer = exchange(address, path, json).map_err(|error| ClientError::Io(address, error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ClientError::NoAdmin(address))?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    // Whatever else listens there may answer 200 to anything.
    let is_ours = head.to_ascii_lowercase().contains("\r\ncontent-type: application/json");
    match status.filter(|_| is_ours).ok_or(ClientError::NoAdmin(address))? {
        200 => Ok(body.to_owned()),
        status => Err(ClientError::Refused(status, body.trim_end().to_owned())),
    }
}

fn exchange(address: SocketAddr, path: &str, json: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = json.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{json}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Io(address, error) => {
                write!(
                    f,
                    "admin listener {address}: {error}; is the proxy running, and is this its [admin] bind?"
                )
            }
            ClientError::NoAdmin(address) => write!(f, "{address} is no admin listener of Tidegate"),
            ClientError::Refused(status, why) => write!(f, "refused with {status}: {why}"),
        }
    }
}

impl std::error::Error for ClientError {}
