//! The life of a request, step by step. [`steps`] is its table of contents.

mod cached;
mod exchange;
mod origin;
mod reply;
mod tunnel;

use std::any::Any;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::body::{Body, Meter};
use crate::cache::RequestPlan;
use crate::filter::forward::Peer;
use crate::proxy::exchange::Exchange;
use crate::proxy::origin::Fetched;
use crate::proxy::reply::Failure;
use crate::state::Local;

pub use reply::{raw_reason, raw_refusal};

/// The connection that a request came by: the same for all requests of it.
pub struct Client {
    /// Index of the listener.
    pub listener: usize,
    /// Under TLS.
    pub is_tls: bool,
    /// What its requests say about where they came from.
    pub peer: Peer,
    /// Held until the last request or tunnel of the connection has ended.
    _seat: Box<dyn Any>,
}

impl Client {
    /// A client at `peer`, connected to our port `port`. `seat` is dropped with the last that is left of it.
    pub fn new(
        local: &Local,
        listener: usize,
        peer: SocketAddr,
        port: u16,
        is_tls: bool,
        seat: Box<dyn Any>,
    ) -> Self {
        let ip = peer.ip().to_canonical();
        let trusted = &local.snapshot().config.listeners[listener].trusted_proxies;
        let is_trusted = trusted.iter().any(|net| net.contains(&ip));
        let scheme = if is_tls { "https" } else { "http" };
        Client { listener, is_tls, peer: Peer::new(ip, is_trusted, scheme, port), _seat: seat }
    }
}

/// A request's turn on its connection. It is dropped when the response has ended, however it ends.
pub trait Turn {
    /// Sends an interim response, whole and in the form of HTTP/1.1, before the final one. It is left out where it
    /// cannot be sent.
    fn interim(&self, bytes: &[u8]);
}

/// Answers one request. Never fails: a failure is an answer too. `sent` tells how much of the response
/// has been taken.
pub async fn serve(
    local: Rc<Local>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
    sent: Rc<Meter>,
    turn: Box<dyn Turn>,
) -> Response<Body> {
    let upgrade = tunnel::offered(&mut request);
    let (head, incoming) = request.into_parts();
    let mut x = Exchange::begin(local, client, head, sent, turn);
    let response = match steps(&mut x, incoming, upgrade).await {
        Ok(response) => response,
        Err(failure) => reply::answer(&mut x, &failure),
    };
    x.finish(response)
}

async fn steps(
    x: &mut Exchange,
    incoming: Incoming,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
) -> Result<Response<Body>, Failure> {
    let asked = x.check()?;
    x.find_route(&asked.host)?;
    let out = x.outgoing(incoming, asked)?;
    let response = match x.cache_plan(&out) {
        RequestPlan::Lookup => cached::serve(x, out).await?,
        RequestPlan::Bypass(reason) => {
            x.note_bypass(reason);
            let fetched = origin::fetch(x, out, origin::Conditions::AsSent).await?;
            pass(x, fetched, upgrade).await?
        }
    };
    Ok(response)
}

/// A response that the cache has no part in.
async fn pass(
    x: &mut Exchange,
    mut fetched: Fetched,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
) -> Result<Response<Body>, Failure> {
    if let Some(server_side) = fetched.tunnel.take() {
        let client_side = upgrade.ok_or(Failure::Upgrade)?;
        tunnel::start(x, client_side, server_side);
    }
    if matches!(x.head.method, Method::GET | Method::HEAD) {
        return Ok(x.to_client(fetched));
    }
    x.invalidate(&fetched.parts).await;
    Ok(cached::answer_to_post(x, fetched))
}
