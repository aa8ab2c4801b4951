//! Connections to servers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::clock::Timers;
use crate::net::Stream;
use crate::net::descriptors::is_shortage;
use crate::net::tls::Connector;

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    /// The kernel said no: refused, unreachable.
    Connect(io::Error),
    /// There is no file descriptor to spare, or no memory in the kernel: no fault of the server.
    Shortage(io::Error),
    /// No answer in time.
    ConnectTimedOut {
        /// The limit.
        after: Duration,
    },
    /// The handshake failed: a certificate that does not verify, a protocol error.
    Tls(io::Error),
    /// The handshake took too long.
    TlsTimedOut {
        /// The limit.
        after: Duration,
    },
}

/// Time limits of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialLimits {
    /// To establish TCP.
    pub connect: Duration,
    /// For the TLS handshake.
    pub tls: Duration,
}

/// Connects to `address`, and through `tls` where there is one.
pub async fn dial(
    address: SocketAddr,
    tls: Option<&Connector>,
    limits: DialLimits,
    timers: &Rc<Timers>,
) -> Result<Stream, DialError> {
    let tcp = timers
        .timeout(limits.connect, TcpStream::connect(address))
        .await
        .map_err(|_| DialError::ConnectTimedOut { after: limits.connect })?
        .map_err(DialError::of)?;
    tcp.set_nodelay(true).map_err(DialError::Connect)?;
    let Some(connector) = tls else { return Ok(Stream::Plain(tcp)) };
    timers
        .timeout(limits.tls, connector.handshake(tcp))
        .await
        .map_err(|_| DialError::TlsTimedOut { after: limits.tls })?
        .map_err(DialError::Tls)
}

impl DialError {
    fn of(error: io::Error) -> Self {
        if is_shortage(&error) { DialError::Shortage(error) } else { DialError::Connect(error) }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Connect(_) => f.write_str("connect"),
            DialError::Shortage(_) => f.write_str("connect: no file descriptor to spare"),
            DialError::ConnectTimedOut { after } => write!(f, "connect: no answer within {after:?}"),
            DialError::Tls(_) => f.write_str("tls handshake"),
            DialError::TlsTimedOut { after } => write!(f, "tls handshake: not done within {after:?}"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DialError::Connect(error) | DialError::Shortage(error) | DialError::Tls(error) => Some(error),
            DialError::ConnectTimedOut { .. } | DialError::TlsTimedOut { .. } => None,
        }
    }
}
