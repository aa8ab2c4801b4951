//! Accepting connections, and sharing them fairly between the workers.
//!
//! The kernel spreads connections over the workers' sockets by a hash, which
//! is blind to how many a worker has. So a worker that has more than its
//! share hands a new connection to the one that has the fewest, before the
//! first byte of it is read.

use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::front::connection::Connection;
use crate::net::Stream;
use crate::net::descriptors::is_shortage;
use crate::observe::Gauge;
use crate::proxy::Client;
use crate::state::{Full, Local, Room, Seat, Stage};

/// A worker keeps a connection while it has at most this many more than the emptiest one: handing
/// over costs two system calls and a wake-up, which a difference of one does not repay.
const IMBALANCE: usize = 2;
/// Out of file descriptors: how long accepting pauses. The kernel's queue holds what comes meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection on its way to another worker.
pub struct Handed {
    listener: usize,
    stream: StdStream,
    peer: SocketAddr,
    seat: Seat,
}

/// Where the other workers take connections.
pub type Handovers = Rc<[mpsc::Sender<Handed>]>;

/// Accepts on one of this worker's sockets until the process drains.
pub async fn accept(local: Rc<Local>, listener: usize, socket: StdListener, others: Handovers) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a listening socket cannot be used");
            return;
        }
    };
    let mut stage = local.stage.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stage.wait_for(|s| *s != Stage::Serving) => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&local, listener, stream, peer, &others),
            Err(error) if is_the_peers(&error) => debug!(%error, "accept"),
            Err(error) => {
                note_pause(&local, listener, &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Takes connections that other workers hand over.
pub async fn take_over(local: Rc<Local>, mut inbox: mpsc::Receiver<Handed>) {
    while let Some(Handed { listener, stream, peer, seat }) = inbox.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => start(&local, listener, stream, peer, seat),
            Err(error) => debug!(%error, "a handed connection was lost"),
        }
    }
}

/// Refuses what is over a limit (by closing it: cheap, early), hands over what another should have.
fn admit(local: &Rc<Local>, listener: usize, stream: TcpStream, peer: SocketAddr, others: &Handovers) {
    let snapshot = local.snapshot();
    let state = &snapshot.listeners[listener];
    let (handles, limits, seats) = (&state.handles, &snapshot.config.limits, &local.keep.seats);
    let room = Room {
        process: limits.connections.min(local.keep.descriptors.clients()),
        client: limits.connections_per_client,
        listener: (state.room.0, &state.room.1),
    };
    let target = seats.emptiest(local.worker, IMBALANCE);
    let seat = match seats.sit(target, peer.ip(), &room) {
        Ok(seat) => seat,
        Err(Full::Process) => return local.cells.inc(handles.refused_process),
        Err(Full::Listener) => return local.cells.inc(handles.refused_listener),
        Err(Full::Client) => return local.cells.inc(handles.refused_client),
    };
    local.cells.inc(handles.accepted);
    if target == local.worker {
        return start(local, listener, stream, peer, seat);
    }
    let Ok(stream) = stream.into_std() else { return };
    let handed = Handed { listener, stream, peer, seat };
    if let Err(full) = others[target].try_send(handed) {
        let Handed { stream, mut seat, .. } = full.into_inner();
        seat.move_to(local.worker);
        if let Ok(stream) = TcpStream::from_std(stream) {
            start(local, listener, stream, peer, seat);
        }
    }
}

fn start(local: &Rc<Local>, listener: usize, stream: TcpStream, peer: SocketAddr, seat: Seat) {
    let accepted = Accepted::new(local.clone(), listener, peer, seat);
    tokio::task::spawn_local(Connection::new(Rc::new(accepted), stream));
}

/// Where an open connection came from. It has a seat and is counted until nothing of it is left.
pub struct Accepted {
    /// Whose it is.
    pub local: Rc<Local>,
    /// Index of its listener.
    pub listener: usize,
    /// The other end.
    pub peer: SocketAddr,
    gauge: Gauge,
    _seat: Seat,
}

impl Accepted {
    fn new(local: Rc<Local>, listener: usize, peer: SocketAddr, seat: Seat) -> Self {
        let gauge = local.snapshot().listeners[listener].handles.open;
        local.cells.gauge_add(gauge, 1);
        Accepted { local, listener, peer, gauge, _seat: seat }
    }

    /// What requests say about it, over `stream`.
    pub fn client(self: &Rc<Self>, stream: &Stream) -> Rc<Client> {
        let is_tls = matches!(stream, Stream::Tls(_));
        let port = stream.socket().local_addr().map_or(0, |address| address.port());
        Rc::new(Client::new(&self.local, self.listener, self.peer, port, is_tls, self.clone()))
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.local.cells.gauge_add(self.gauge, -1);
    }
}

/// Nothing is lost: the kernel holds what comes, until its queue is full too.
fn note_pause(local: &Local, listener: usize, error: &std::io::Error) {
    let (keep, snapshot) = (&local.keep, local.snapshot());
    let state = &snapshot.listeners[listener];
    local.cells.inc(state.handles.paused);
    if !keep.descriptors.may_warn(keep.now()) {
        return;
    }
    let (listener, limit) = (&state.name, keep.descriptors.limit());
    if is_shortage(error) {
        warn!(%error, listener, limit, "accepting pauses: no file descriptor; raise the limit (ulimit -n)");
    } else {
        warn!(%error, listener, "accepting pauses");
    }
}

/// The peer changed its mind between SYN and accept: nothing of ours is short.
fn is_the_peers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
