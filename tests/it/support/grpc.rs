//! A server that speaks gRPC's health protocol, well or badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::certs::Cert;

/// What it answers; it can be changed while it runs.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub kind: &'static str,
    /// With gRPC's prefix. `None`: the fields of `trailers` stand in the head, and nothing follows.
    pub message: Option<Vec<u8>>,
    pub trailers: &'static [(&'static str, &'static str)],
}

/// It stops when it is dropped.
pub struct Grpc {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    reply: Mutex<Reply>,
    asked: Mutex<Vec<(Parts, Vec<u8>)>>,
    cert: Option<Cert>,
}

impl Reply {
    /// A status of `HealthCheckResponse`.
    pub fn status(status: u8) -> Reply {
        Reply {
            status: 200,
            kind: "application/grpc",
            message: Some(vec![0, 0, 0, 0, 2, 8, status]),
            trailers: &[("grpc-status", "0")],
        }
    }
}

impl Grpc {
    /// In the clear, or under TLS where there is a certificate.
    pub fn start(cert: Option<Cert>, reply: Reply) -> Grpc {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared { reply: Mutex::new(reply), asked: Mutex::default(), cert });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::from_std(socket).unwrap();
                    tokio::select! {
                        () = accept(listener, shared) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Grpc { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub fn reply_from_now_on(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    /// The questions so far: heads and messages.
    pub fn asked(&self) -> Vec<(Parts, Vec<u8>)> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            match &shared.cert {
                None => serve(tcp, &shared).await,
                Some(cert) => {
                    let acceptor = tokio_rustls::TlsAcceptor::from(cert.http2());
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        serve(tls, &shared).await;
                    }
                }
            }
        });
    }
}

/// One connection; whatever breaks it ends it.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let reading = async {
            let mut message = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                message.extend_from_slice(&data);
            }
            message
        };
        tokio::pin!(reading);
        // The connection must be polled for the message to arrive.
        let message = tokio::select! {
            message = &mut reading => message,
            _ = std::future::poll_fn(|cx| connection.poll_closed(cx)) => return,
        };
        shared.asked.lock().unwrap().push((head, message));
        answer(shared.reply.lock().unwrap().clone(), respond);
    }
}

fn answer(reply: Reply, mut respond: h2::server::SendResponse<Bytes>) {
    let fields = reply
        .trailers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let trailers: HeaderMap = fields.collect();
    let mut head =
        Response::builder().status(reply.status).header("content-type", reply.kind).body(()).unwrap();
    match reply.message {
        None => {
            head.headers_mut().extend(trailers);
            let _ = respond.send_response(head, true);
        }
        Some(message) => {
            let Ok(mut sending) = respond.send_response(head, false) else { return };
            let _ = sending.send_data(message.into(), false);
            let _ = sending.send_trailers(trailers);
        }
    }
}
