//! A websocket: after the 101 the proxy only copies bytes.

use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::oneshot;
use tracing::debug;

use crate::clock::Timers;
use crate::net::{Counted, Stream};
use crate::proxy::exchange::Exchange;
use crate::proxy::origin::Tunnel;

/// Bytes on their way, in each direction.
const BUFFER: usize = 16 * 1024;

/// The client's end of a tunnel.
pub struct ClientSide {
    /// The socket, once the 101 has gone out.
    pub stream: Stream,
    /// What the client has sent behind its request.
    pub unread: Bytes,
}

/// Where a connection hands over its socket if the response is a 101.
pub type Offer = oneshot::Receiver<ClientSide>;

/// Joins both ends when the client's has changed too; the server's is busy until the tunnel ends.
pub fn start(x: &Exchange, offer: Offer, server: Tunnel) {
    // The connection counts as one, and a drain waits for it, as long as the tunnel lives.
    let connection = x.client.clone();
    let (timers, idle) = (x.local.timers.clone(), x.view.config.limits.tunnel_idle);
    tokio::task::spawn_local(x.local.timers.in_time(async move {
        // Bound first, so dropped last: after the sockets.
        let _busy = (server.in_flight, server.leave, connection);
        let Ok(client) = offer.await else { return debug!("the client of a tunnel has gone") };
        join(client, (server.stream, server.unread), &timers, idle).await;
    }));
}

/// Until both ways have ended, one has failed, or both have been silent for `idle`.
async fn join(
    client: ClientSide,
    (server, unread): (Counted, Bytes),
    timers: &Rc<Timers>,
    idle: std::time::Duration,
) {
    let (client_in, client_out) = split(client.stream);
    let client_in = std::io::Cursor::new(client.unread).chain(client_in);
    let (server_in, server_out) = split(server);
    let server_in = std::io::Cursor::new(unread).chain(server_in);
    let moved = std::cell::Cell::new(0u64);
    let both = async {
        tokio::join!(copy(client_in, server_out, &moved), copy(server_in, client_out, &moved));
    };
    let mut both = std::pin::pin!(both);
    loop {
        let before = moved.get();
        match timers.timeout(idle, both.as_mut()).await {
            Ok(()) => return,
            Err(_) if moved.get() != before => {}
            Err(_) => return debug!("a silent tunnel was closed"),
        }
    }
}

/// One way; its end is passed on.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &std::cell::Cell<u64>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                moved.set(moved.get() + n as u64);
                // Flushed: TLS may hold back what the socket did not take at once.
                if to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}
