//! One attempt: one request to one server, and the head of its answer.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::body::{End, Meter, Room};
use crate::clock::Timers;
use crate::fields::ResponseHead;
use crate::http1::sending::Sending;
use crate::net::Counted;
use crate::net::descriptors::Descriptors;
use crate::net::dial::{self, DialError, DialLimits};
use crate::net::tls::Connector;
use crate::upstream::conns::{BadHead, CallError, Conns, Lease, NoHead, Pace};
use crate::upstream::interim::Interim;
use crate::upstream::limits::Leave;

/// Where an attempt goes, and how long it may take.
pub struct Target<'a> {
    /// The server.
    pub address: SocketAddr,
    /// `None`: in the clear.
    pub tls: Option<&'a Connector>,
    /// This worker's connections to it.
    pub conns: &'a Rc<Conns>,
    /// Not over a kept-alive connection: one has turned out closed, and others may have been closed with it.
    pub afresh: bool,
    /// For a new connection.
    pub dial: DialLimits,
    /// How fast its response is read.
    pub pace: &'a Pace,
    /// The worker's, for what is read and waits.
    pub room: &'a Arc<Room>,
    /// From the last piece of the request to the head of the final response.
    pub first_byte: Duration,
    /// The process's.
    pub descriptors: &'a Arc<Descriptors>,
    /// The worker's.
    pub timers: &'a Rc<Timers>,
    /// Takes the interim responses: they are there when the poll that brought them up returns.
    pub interims: &'a RefCell<Vec<Interim>>,
}

/// The head of a response, and the connection it came on.
pub struct Answer {
    /// As the server sent it.
    pub head: ResponseHead,
    /// Has the body, or is let go for a tunnel.
    pub lease: Lease,
    /// Time it took to connect; `None` on a connection that was open already.
    pub connect: Option<Duration>,
    /// From the request's being ready to the response's head.
    pub first_byte: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AttemptError {
    /// There is no connection, so nothing was sent.
    Dial(DialError),
    /// The connection that was there has gone, and there may be no other one just now. Nothing was sent.
    NoLeave,
    /// A kept-alive connection was closed by the server before it answered, or what came on it answers nothing.
    Stale(io::Error),
    /// The server broke off before its response's head was whole.
    Reset(io::Error),
    /// What came is not HTTP.
    Malformed(BadHead),
    /// Too many interim responses before the final one.
    InterimFlood,
    /// No response in time.
    FirstByteTimedOut {
        /// The limit.
        after: Duration,
    },
    /// The attempt as a whole took too long.
    TryTimedOut {
        /// The limit.
        after: Duration,
        /// What it waited for at last.
        on: Awaited,
    },
    /// The client's side of the request broke: no fault of the server.
    RequestBody(End),
}

/// Whose turn it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// To connect, to take what it is sent, or to answer.
    Server,
    /// To send its body.
    Client,
}

/// Sends `request` over a kept-alive connection, or a new one where there is none, with `leave` where connections are
/// limited. What is left of it when the response comes goes with the lease.
///
/// # Errors
/// There is no answer, or none that can be read.
pub async fn send(
    target: &Target<'_>,
    leave: Option<Leave>,
    request: &mut Option<Sending>,
    meter: &Meter,
) -> Result<Answer, AttemptError> {
    let conns = target.conns;
    let found = match target.afresh {
        true => Err(None),
        false => conns.take(target.timers.now(), target.pace, target.room),
    };
    let spare = match found {
        Ok(lease) => return exchange(target, lease, request, meter, None).await,
        Err(spare) => spare,
    };
    let leave = leave.map_or_else(|| conns.leave_to_dial(spare), |leave| Some(Some(leave)));
    let leave = leave.ok_or(AttemptError::NoLeave)?;
    let began = target.timers.now();
    // Boxed: most requests find a connection, and need not hold what it takes to make one.
    let stream = Box::pin(dial(target)).await.map_err(AttemptError::Dial)?;
    let connect = target.timers.now() - began;
    let lease = conns.open(stream, leave, target.pace, target.room);
    exchange(target, lease, request, meter, Some(connect)).await
}

async fn dial(target: &Target<'_>) -> Result<Counted, DialError> {
    let descriptor = target.descriptors.for_server().map_err(DialError::Shortage)?;
    let stream = dial::dial(target.address, target.tls, target.dial, target.timers).await?;
    Ok(Counted::new(stream, descriptor))
}

async fn exchange(
    target: &Target<'_>,
    mut lease: Lease,
    request: &mut Option<Sending>,
    meter: &Meter,
    connect: Option<Duration>,
) -> Result<Answer, AttemptError> {
    let began = target.timers.now();
    let reused = lease.reused;
    let mut call = lease.call(request);
    let outcome = loop {
        let progress = meter.progress();
        let head = poll_fn(|cx| call.poll(cx, target.interims));
        match target.timers.timeout(target.first_byte, head).await {
            Ok(outcome) => break outcome,
            // The clock runs from the last piece of the request: a slow upload is the client's pace.
            // One that waits for the client has a limit of its own.
            Err(_) if meter.progress() != progress || meter.is_awaited() => {}
            Err(_) => return Err(AttemptError::FirstByteTimedOut { after: target.first_byte }),
        }
    };
    match outcome {
        Ok(head) => {
            call.answered();
            Ok(Answer { head, lease, connect, first_byte: target.timers.now() - began })
        }
        Err(error) => {
            let may_be_stale = reused && !call.was_heard();
            Err(judge(error, may_be_stale, meter))
        }
    }
}

/// Whose fault it was. The order matters: a request body that failed ends the connection too.
fn judge(error: CallError, may_be_stale: bool, meter: &Meter) -> AttemptError {
    if let Some(end @ (End::Cut | End::TooSlow { .. } | End::TooLarge { .. })) = meter.end() {
        return AttemptError::RequestBody(end);
    }
    match error {
        CallError::RequestCut => AttemptError::RequestBody(End::Cut),
        CallError::InterimFlood => AttemptError::InterimFlood,
        // More of the response before, sent behind its end. A server that always speaks so does it on a new connection too.
        CallError::NoHead(NoHead::Malformed(bad @ BadHead::StatusLine)) if may_be_stale => {
            AttemptError::Stale(io::Error::new(io::ErrorKind::InvalidData, bad))
        }
        CallError::NoHead(NoHead::Malformed(bad)) => AttemptError::Malformed(bad),
        CallError::NoHead(NoHead::Broken { error, amid }) if may_be_stale && !amid => {
            AttemptError::Stale(error)
        }
        CallError::NoHead(NoHead::Broken { error, .. }) => AttemptError::Reset(error),
    }
}

impl AttemptError {
    /// True when the server is to blame: such failures eject it.
    pub fn blames_server(&self) -> bool {
        match self {
            AttemptError::Dial(DialError::Shortage(_)) => false,
            AttemptError::Dial(_)
            | AttemptError::Reset(_)
            | AttemptError::Malformed(_)
            | AttemptError::InterimFlood
            | AttemptError::TryTimedOut { on: Awaited::Server, .. }
            | AttemptError::FirstByteTimedOut { .. } => true,
            // A server may close an idle connection whenever it likes.
            AttemptError::Stale(_)
            | AttemptError::NoLeave
            | AttemptError::TryTimedOut { on: Awaited::Client, .. }
            | AttemptError::RequestBody(_) => false,
        }
    }

    /// True when not one byte of the request was sent.
    pub fn is_unsent(&self) -> bool {
        matches!(self, AttemptError::Dial(_) | AttemptError::NoLeave)
    }

    /// A word for the log and the metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            AttemptError::Dial(DialError::Connect(_)) => "connect-failed",
            AttemptError::Dial(DialError::Shortage(_)) => "no-descriptor",
            AttemptError::Dial(DialError::ConnectTimedOut { .. }) => "connect-timed-out",
            AttemptError::Dial(DialError::Tls(_)) => "tls-failed",
            AttemptError::Dial(DialError::TlsTimedOut { .. }) => "tls-timed-out",
            AttemptError::NoLeave => "connection-limit",
            AttemptError::Stale(_) => "stale-connection",
            AttemptError::Reset(_) => "reset",
            AttemptError::Malformed(_) => "malformed-response",
            AttemptError::InterimFlood => "response-interim-flood",
            AttemptError::FirstByteTimedOut { .. } => "first-byte-timed-out",
            AttemptError::TryTimedOut { .. } => "try-timed-out",
            AttemptError::RequestBody(_) => "request-body",
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptError::Dial(error) => error.fmt(f),
            AttemptError::NoLeave => f.write_str("no connection is to be had: the limit is reached"),
            AttemptError::Stale(_) => f.write_str("a kept-alive connection had come to its end"),
            AttemptError::Reset(_) => f.write_str("the server broke off before its response"),
            AttemptError::Malformed(_) => f.write_str("the server's response is not HTTP"),
            AttemptError::InterimFlood => f.write_str("too many interim responses"),
            AttemptError::TryTimedOut { after, on: Awaited::Server } => {
                write!(f, "the attempt took longer than {after:?}")
            }
            AttemptError::TryTimedOut { after, on: Awaited::Client } => {
                write!(f, "the attempt took longer than {after:?}, waiting for the client's body")
            }
            AttemptError::FirstByteTimedOut { after } => write!(f, "no response within {after:?}"),
            AttemptError::RequestBody(end) => write!(f, "the request's body: {end}"),
        }
    }
}

impl std::error::Error for AttemptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AttemptError::Dial(error) => error.source(),
            AttemptError::Stale(error) | AttemptError::Reset(error) => Some(error),
            AttemptError::Malformed(bad) => Some(bad),
            AttemptError::NoLeave
            | AttemptError::InterimFlood
            | AttemptError::TryTimedOut { .. }
            | AttemptError::FirstByteTimedOut { .. }
            | AttemptError::RequestBody(_) => None,
        }
    }
}
