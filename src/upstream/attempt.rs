//! One attempt: one request to one server, and the head of its answer.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::body::Incoming;

use crate::body::{Body, End, Meter, Room};
use crate::clock::Timers;
use crate::net::Counted;
use crate::net::descriptors::Descriptors;
use crate::net::dial::{self, DialError, DialLimits};
use crate::net::tls::Connector;
use crate::upstream::conns::{self, Conns, Lease};
use crate::upstream::interim::{Flood, Interim, Mailbox};
use crate::upstream::limits::Leave;
use crate::upstream::tap::Pace;

/// Header fields of one response; more is the server's fault. The same default as for requests.
const RESPONSE_HEADERS: usize = 100;

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
    pub pace: Pace<'a>,
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
    pub response: http::Response<Incoming>,
    /// Must go into a [`crate::upstream::conns::LeasedBody`], or be let go for a tunnel.
    pub lease: Lease,
    /// Time it took to connect; `None` on a connection that was open already.
    pub connect: Option<Duration>,
    /// From the request's being ready to the response's head.
    pub first_byte: Duration,
}

/// An attempt that came to nothing.
pub struct Failed {
    /// Why.
    pub error: AttemptError,
    /// The request's body, when not one byte of it was sent.
    pub body: Option<Body>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AttemptError {
    /// There is no connection, so nothing was sent.
    Dial(DialError),
    /// The connection that was there has gone, and there may be no other one just now. Nothing was sent.
    NoLeave,
    /// A kept-alive connection was closed by the server before it answered.
    Stale(hyper::Error),
    /// The server broke off before its response's head was whole.
    Reset(hyper::Error),
    /// What came is not HTTP.
    Malformed(hyper::Error),
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
/// limited.
pub async fn send(
    target: &Target<'_>,
    leave: Option<Leave>,
    request: http::Request<Body>,
    meter: &Meter,
) -> Result<Answer, Failed> {
    let mut request = request;
    // Kept-alive ones first; one that turns out closed gives the request back unsent.
    let spare = loop {
        let found = if target.afresh { Err(None) } else { target.conns.take(Instant::now()) };
        let lease = match found {
            Ok(lease) => lease,
            Err(spare) => break spare,
        };
        match exchange(target, lease, request, meter, None).await {
            Err(Unanswered { unsent: Some(unsent), error: AttemptError::Stale(_) }) => request = unsent,
            Err(unanswered) => return Err(unanswered.into()),
            Ok(answer) => return Ok(answer),
        }
    };
    let leave = match leave {
        None => match target.conns.leave_to_dial(spare).await {
            Some(leave) => leave,
            None => return Err(Failed { error: AttemptError::NoLeave, body: Some(request.into_body()) }),
        },
        leave => leave.map(Rc::new),
    };
    let began = Instant::now();
    let stream = match dial(target).await {
        Ok(stream) => stream,
        Err(error) => {
            return Err(Failed { error: AttemptError::Dial(error), body: Some(request.into_body()) });
        }
    };
    let connect = began.elapsed();
    match target.conns.open(stream, RESPONSE_HEADERS, leave, target.room).await {
        Ok(lease) => exchange(target, lease, request, meter, Some(connect)).await.map_err(Failed::from),
        Err(error) => Err(Failed { error: AttemptError::Reset(error), body: Some(request.into_body()) }),
    }
}

async fn dial(target: &Target<'_>) -> Result<Counted, DialError> {
    let descriptor = target.descriptors.for_server().map_err(DialError::Shortage)?;
    let stream = dial::dial(target.address, target.tls, target.dial, target.timers).await?;
    Ok(Counted::new(stream, descriptor))
}

struct Unanswered {
    error: AttemptError,
    unsent: Option<http::Request<Body>>,
}

async fn exchange(
    target: &Target<'_>,
    mut lease: Lease,
    request: http::Request<Body>,
    meter: &Meter,
    connect: Option<Duration>,
) -> Result<Answer, Unanswered> {
    let began = Instant::now();
    let reused = lease.reused;
    let outcome = {
        let interims = lease.interims();
        let mut sending = pin!(lease.send(request, target.pace));
        loop {
            let progress = meter.progress();
            let head = final_head(&interims, target.interims, sending.as_mut());
            match target.timers.timeout(target.first_byte, head).await {
                Ok(outcome) => break Some(outcome),
                // The clock runs from the last piece of the request: a slow upload is the client's pace.
                // One that waits for the client has a limit of its own.
                Err(_) if meter.progress() != progress || meter.is_awaited() => {}
                Err(_) => break None,
            }
        }
    };
    match outcome {
        Some(Err(Flood)) => Err(Unanswered { error: AttemptError::InterimFlood, unsent: None }),
        Some(Ok(Ok(response))) => Ok(Answer { response, lease, connect, first_byte: began.elapsed() }),
        Some(Ok(Err(mut failed))) => {
            let unsent = failed.take_message();
            Err(Unanswered { error: judge(failed.into_error(), reused, meter), unsent })
        }
        None => Err(Unanswered {
            error: AttemptError::FirstByteTimedOut { after: target.first_byte },
            unsent: None,
        }),
    }
}

/// What `sending` comes to. Interim responses go into `out` as they come; they are no first byte, so the limit for that
/// runs on.
fn final_head<F: Future>(
    interims: &Mailbox,
    out: &RefCell<Vec<Interim>>,
    mut sending: Pin<&mut F>,
) -> impl Future<Output = Result<F::Output, Flood>> {
    poll_fn(move |cx| {
        let outcome = sending.as_mut().poll(cx);
        match interims.take(out, outcome.is_pending().then(|| cx.waker())) {
            Ok(()) => outcome.map(Ok),
            Err(flood) => Poll::Ready(Err(flood)),
        }
    })
}

/// Whose fault it was. The order matters: a request body that failed ends the connection too.
fn judge(error: hyper::Error, reused: bool, meter: &Meter) -> AttemptError {
    match meter.end() {
        Some(end @ (End::Cut | End::TooSlow { .. } | End::TooLarge { .. })) => AttemptError::RequestBody(end),
        _ if error.is_parse() || error.is_parse_too_large() || conns::is_bad_line(&error) => {
            AttemptError::Malformed(error)
        }
        _ if reused => AttemptError::Stale(error),
        _ => AttemptError::Reset(error),
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

impl From<Unanswered> for Failed {
    fn from(unanswered: Unanswered) -> Self {
        Failed { error: unanswered.error, body: unanswered.unsent.map(http::Request::into_body) }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptError::Dial(error) => error.fmt(f),
            AttemptError::NoLeave => f.write_str("no connection is to be had: the limit is reached"),
            AttemptError::Stale(_) => f.write_str("the server closed a kept-alive connection"),
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
            AttemptError::Stale(e) | AttemptError::Reset(e) | AttemptError::Malformed(e) => Some(e),
            AttemptError::NoLeave
            | AttemptError::InterimFlood
            | AttemptError::TryTimedOut { .. }
            | AttemptError::FirstByteTimedOut { .. }
            | AttemptError::RequestBody(_) => None,
        }
    }
}
