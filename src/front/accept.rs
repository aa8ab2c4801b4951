//! Accepting connections, and sharing them fairly between the workers.
//!
//! The kernel spreads connections over the workers' sockets by a hash, which
//! is blind to how many a worker has. So a worker that has more than its
//! share hands a new connection to the one that has the fewest, before the
//! first byte of it is read.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::front::connection::Connection;
use crate::net::Stream;
use crate::net::descriptors::is_shortage;
use crate::observe::{AccessWriter, Gauge};
use crate::proxy::Client;
use crate::state::{Door, Full, Local, Room, Seat, Snapshot, SocketId, Stage};

/// A worker keeps a connection while it has at most this many more than the emptiest one: handing
/// over costs two system calls and a wake-up, which a difference of one does not repay.
const IMBALANCE: usize = 2;
/// Out of file descriptors: how long accepting pauses. The kernel's queue holds what comes meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// What a worker is sent, in the order in which it was sent.
pub enum Message {
    /// A connection that another worker has accepted.
    Connection(Handed),
    /// Another configuration is in force.
    TakeOver(Box<TakeOver>),
    /// All workers have taken it over.
    Open(Open),
}

/// Another configuration for a worker.
pub struct TakeOver {
    /// It.
    pub snapshot: Arc<Snapshot>,
    /// Where access-log lines go from now on, if that has changed.
    pub access: Option<Option<AccessWriter>>,
    /// Told by being dropped when it is done.
    pub done: mpsc::Sender<Infallible>,
}

/// What comes when no worker hands over connections any more that came by a listener which is gone, and each knows those that
/// are new.
pub struct Open {
    /// To accept on.
    pub sockets: Vec<(SocketId, StdListener)>,
    /// Told by being dropped when it is done.
    pub done: mpsc::Sender<Infallible>,
}

/// A connection on its way to another worker.
pub struct Handed {
    socket: SocketId,
    stream: StdStream,
    peer: SocketAddr,
    seat: Seat,
}

/// Where the workers take messages.
pub type Inboxes = Rc<[mpsc::Sender<Message>]>;

/// Accepts on one of this worker's sockets until the process drains or the listener is gone.
pub async fn accept(local: Rc<Local>, id: SocketId, socket: StdListener, others: Inboxes) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a listening socket cannot be used");
            return;
        }
    };
    let mut stage = local.stage.clone();
    let Some(mut door) = local.door(id) else { return };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stage.wait_for(|s| *s != Stage::Serving) => return,
            () = door.closed() => match local.door(id).filter(|next| !next.is_closed()) {
                // The listener has got another name.
                Some(next) => {
                    door = next;
                    continue;
                }
                None => return accept_last(&local, &door, socket),
            },
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&local, (id, &door), stream, peer, &others),
            Err(error) if is_the_peers(&error) => debug!(%error, "accept"),
            Err(error) => {
                note_pause(&local, &door, &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The listener is gone; what the kernel has taken for it is still served, each with a last response.
fn accept_last(local: &Rc<Local>, door: &Rc<Door>, socket: TcpListener) {
    let Ok(socket) = socket.into_std() else { return };
    loop {
        let (stream, peer) = match socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_the_peers(&error) => continue,
            // There is none left, or no descriptor for it.
            Err(_) => return,
        };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        match (stream, sit(local, door, peer, local.worker)) {
            (Ok(stream), Some(seat)) => start(local, door.clone(), stream, peer, seat),
            (Err(error), _) => debug!(%error, "a last connection was lost"),
            (Ok(_), None) => {}
        }
    }
}

/// Takes connections that other workers hand over, and configurations.
pub async fn take_messages(local: Rc<Local>, mut inbox: mpsc::Receiver<Message>, inboxes: Inboxes) {
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Connection(handed) => take_connection(&local, handed),
            Message::TakeOver(order) => {
                let TakeOver { snapshot, access, done } = *order;
                local.take_over(snapshot);
                if let Some(access) = access {
                    local.access.replace(access);
                }
                drop(done);
            }
            Message::Open(Open { sockets, done }) => {
                local.forget_closed_doors();
                for (id, socket) in sockets {
                    tokio::task::spawn_local(accept(local.clone(), id, socket, inboxes.clone()));
                }
                drop(done);
            }
        }
    }
}

fn take_connection(local: &Rc<Local>, Handed { socket, stream, peer, seat }: Handed) {
    let Some(door) = local.door(socket) else { return debug!("a handed connection came too late") };
    match TcpStream::from_std(stream) {
        Ok(stream) => start(local, door, stream, peer, seat),
        Err(error) => debug!(%error, "a handed connection was lost"),
    }
}

/// Refuses what is over a limit (by closing it: cheap, early), hands over what another should have.
fn admit(
    local: &Rc<Local>,
    (id, door): (SocketId, &Rc<Door>),
    stream: TcpStream,
    peer: SocketAddr,
    others: &Inboxes,
) {
    let target = local.keep.seats.emptiest(local.worker, IMBALANCE);
    let Some(seat) = sit(local, door, peer, target) else { return };
    if target == local.worker {
        return start(local, door.clone(), stream, peer, seat);
    }
    let Ok(stream) = stream.into_std() else { return };
    let handed = Message::Connection(Handed { socket: id, stream, peer, seat });
    if let Err(full) = others[target].try_send(handed)
        && let Message::Connection(Handed { stream, mut seat, .. }) = full.into_inner()
    {
        seat.move_to(local.worker);
        if let Ok(stream) = TcpStream::from_std(stream) {
            start(local, door.clone(), stream, peer, seat);
        }
    }
}

/// A seat with worker `target`, where all limits have room; it is counted either way.
fn sit(local: &Local, door: &Door, peer: SocketAddr, target: usize) -> Option<Seat> {
    let (view, listener) = door.place();
    let state = &view.listeners[listener];
    let (handles, limits, seats) = (&state.handles, &view.config.limits, &local.keep.seats);
    let room = Room {
        process: limits.connections.min(local.keep.descriptors.clients()),
        client: limits.connections_per_client,
        listener: (state.room.0, &state.room.1),
    };
    let seat = seats.sit(target, peer.ip(), &room);
    local.cells.inc(match &seat {
        Ok(_) => handles.accepted,
        Err(Full::Process) => handles.refused_process,
        Err(Full::Listener) => handles.refused_listener,
        Err(Full::Client) => handles.refused_client,
    });
    seat.ok()
}

fn start(local: &Rc<Local>, door: Rc<Door>, stream: TcpStream, peer: SocketAddr, seat: Seat) {
    let accepted = Accepted::new(local.clone(), door, peer, seat);
    tokio::task::spawn_local(Connection::new(Rc::new(accepted), stream));
}

/// Where an open connection came from. It has a seat and is counted until nothing of it is left.
pub struct Accepted {
    /// Whose it is.
    pub local: Rc<Local>,
    /// Its listener.
    pub door: Rc<Door>,
    /// The other end.
    pub peer: SocketAddr,
    gauge: Gauge,
    _seat: Seat,
}

impl Accepted {
    fn new(local: Rc<Local>, door: Rc<Door>, peer: SocketAddr, seat: Seat) -> Self {
        let gauge = door.listener(|own| own.handles.open);
        local.cells.gauge_add(gauge, 1);
        Accepted { local, door, peer, gauge, _seat: seat }
    }

    /// True when nothing new is to begin on it.
    pub fn is_leaving(&self) -> bool {
        self.local.is_leaving(&self.door)
    }

    /// It was closed because it said nothing.
    pub fn count_silence(&self) {
        self.local.cells.inc(self.door.listener(|own| own.handles.refused_silent));
    }

    /// What requests say about it, over `stream`.
    pub fn client(self: &Rc<Self>, stream: &Stream) -> Rc<Client> {
        let is_tls = matches!(stream, Stream::Tls(_));
        let port = stream.socket().local_addr().map_or(0, |address| address.port());
        Rc::new(Client::new(self.door.clone(), self.peer, port, is_tls, self.clone()))
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.local.cells.gauge_add(self.gauge, -1);
    }
}

/// Nothing is lost: the kernel holds what comes, until its queue is full too.
fn note_pause(local: &Local, door: &Door, error: &std::io::Error) {
    let (keep, (view, listener)) = (&local.keep, door.place());
    let state = &view.listeners[listener];
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
