//! The life of a request, step by step. [`steps`] is its table of contents; [`passed`] and [`cached::fetch`] are what waits.

mod cached;
mod exchange;
mod origin;
mod outgoing;
mod reply;
mod session;
mod tunnel;

use std::any::Any;
use std::cell::OnceCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;

use crate::answer::Answer;
use crate::body::{Body, Meter, Room};
use crate::cache::RequestPlan;
use crate::fields::{Fields, RequestHead};
use crate::filter::forward::Peer;
use crate::proxy::exchange::Exchange;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::reply::Failure;
use crate::state::{Door, Local};

pub use reply::{early_refusal, raw_reason, raw_refusal};
pub use tunnel::{ClientSide, Offer};

/// The connection that a request came by: the same for all requests of it.
pub struct Client {
    /// The listener that it came by.
    pub door: Rc<Door>,
    /// Under TLS.
    pub is_tls: bool,
    /// What its requests say about where they came from.
    pub peer: Peer,
    /// For response bytes that wait for it, made when it is first needed.
    room: OnceCell<Arc<Room>>,
    /// Held until the last request or tunnel of the connection has ended.
    _seat: Rc<dyn Any>,
}

impl Client {
    /// A client at `peer`, connected to our port `port`. `seat` is dropped with the last that is left of it.
    pub fn new(door: Rc<Door>, peer: SocketAddr, port: u16, is_tls: bool, seat: Rc<dyn Any>) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        let peer = Peer::new(peer.ip(), scheme, port);
        Client { door, is_tls, peer, room: OnceCell::new(), _seat: seat }
    }
}

/// A request's turn on its connection.
pub trait Turn {
    /// Sends an interim response with these fields before the final one. It is left out where it cannot be sent.
    fn interim(&self, status: StatusCode, fields: &Fields);

    /// The response has ended, however it has.
    fn ended(&self);
}

/// The answer to one request: there at once, or when a server has answered.
///
/// What is known at once (a hit, a refusal) costs no state machine: that of a fetch is thousands of bytes, so it
/// is made, on the heap, only for a request that needs it.
pub enum Serving {
    /// Here it is; `None` once it has been taken.
    Done(Option<Answer>),
    /// A server is asked.
    Fetching(Pin<Box<dyn Future<Output = Answer>>>),
}

/// What a request comes to before any server is asked.
enum Step {
    Answer(Answer),
    /// A server is asked on behalf of the client alone.
    Pass(Outgoing),
    /// And for the cache too.
    Fill(Outgoing, cached::Miss),
}

/// Answers one request. Never fails: a failure is an answer too. `sent` tells how much of the response
/// has been taken; `offer` is there when the connection could become a tunnel.
pub fn serve(
    local: Rc<Local>,
    client: Rc<Client>,
    head: RequestHead,
    body: Body,
    sent: Rc<Meter>,
    turn: Rc<dyn Turn>,
    offer: Option<Offer>,
) -> Serving {
    let mut x = Exchange::begin(local, client, head, sent, turn);
    match steps(&mut x, body) {
        Ok(Step::Answer(response)) => Serving::Done(Some(x.finish(response))),
        // Each of its own size: what passes by the cache need not have room for what goes through it.
        Ok(Step::Pass(out)) => Serving::Fetching(Box::pin(async move {
            let outcome = passed(&mut x, out, offer).await;
            x.conclude(outcome)
        })),
        Ok(Step::Fill(out, miss)) => Serving::Fetching(Box::pin(async move {
            let outcome = cached::fetch(&mut x, out, miss).await;
            x.conclude(outcome)
        })),
        Err(failure) => Serving::Done(Some(x.fail(&failure))),
    }
}

fn steps(x: &mut Exchange, body: Body) -> Result<Step, Failure> {
    let asked = x.check()?;
    x.find_route()?;
    if asked.ends_here {
        return Ok(Step::Answer(reply::options(x)));
    }
    let out = x.outgoing(body, asked)?;
    match x.cache_plan(&out) {
        RequestPlan::Lookup => cached::look_up(x, out),
        RequestPlan::Bypass(reason) => {
            x.note_bypass(reason);
            Ok(Step::Pass(out))
        }
    }
}

impl Future for Serving {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Serving::Done(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            Serving::Fetching(fetching) => fetching.as_mut().poll(cx),
        }
    }
}

/// A request that the cache has no part in.
async fn passed(x: &mut Exchange, out: Outgoing, offer: Option<Offer>) -> Result<Answer, Failure> {
    let epoch = x.epoch_of_change();
    let mut fetched = origin::fetch(x, out, origin::Conditions::AsSent).await?;
    if let Some(server_side) = fetched.tunnel.take() {
        tunnel::start(x, offer.ok_or(Failure::Upgrade)?, server_side);
    }
    let epoch = x.invalidate(&fetched.parts, epoch);
    Ok(cached::answer_to_post(x, fetched, epoch))
}
