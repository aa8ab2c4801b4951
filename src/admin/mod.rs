//! The admin listener: numbers for Prometheus, answers for orchestrators, a status for people.
//!
//! It runs on the control thread, and changes two things by itself: what is in the cache, and which servers drain. To reload
//! the configuration, it asks whoever can.

pub mod client;
mod drain;
mod host;
mod purge;
mod reload;
mod status;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::observe::Family;
use crate::state::{InForce, Keep, Stage};
use crate::upstream::server::Condition;

pub use reload::{ReloadAnswer, ReloadOrder};

/// From a connection's first byte to the end of a head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Out of file descriptors: how long accepting pauses.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of one command: a thousand long addresses.
const BODY_BYTES_MAX: usize = 1 << 20;

const NOT_OURS: &str = "Host is neither an IP address nor localhost, and not in admin.hosts\n";

/// What the admin listener reads.
pub struct Admin {
    /// Numbers, health.
    pub keep: Arc<Keep>,
    /// Names.
    pub in_force: Rc<InForce>,
    /// Whether the process is on its way out.
    pub stage: watch::Receiver<Stage>,
    /// Who reloads the configuration; `None` where it came from no file.
    pub reloads: Option<mpsc::Sender<ReloadOrder>>,
}

/// Serves until the process ends.
pub async fn serve(admin: Rc<Admin>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let admin = admin.clone();
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            if let Err(error) = conn.await {
                debug!(%error, "admin connection");
            }
        });
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let snapshot = self.in_force.snapshot();
        let hosts = snapshot.config.admin.as_ref().map_or(&[][..], |admin| &admin.hosts);
        if !host::is_ours(&head, hosts) {
            debug!(host = ?head.headers.get(header::HOST), "admin request for a host that is not in admin.hosts");
            return plain(StatusCode::MISDIRECTED_REQUEST, NOT_OURS);
        }
        self.dispatch(Request::from_parts(head, body)).await
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        const HERE: &str = "/metrics /livez /readyz /api/v1/status, and POST /api/v1/cache/purge /api/v1/drain /api/v1/reload\n";
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/api/v1/cache/purge" | "/api/v1/drain" | "/api/v1/reload" | "/reload"
                if request.method() != Method::POST =>
            {
                not_allowed("POST")
            }
            "/api/v1/reload" | "/reload" => reload::reload(self.reloads.as_ref(), request).await,
            "/api/v1/cache/purge" => match read(request).await {
                Ok(body) => self.purge(&body).await,
                Err(refused) => refusal(refused),
            },
            "/api/v1/drain" => match read(request).await {
                Ok(body) => json(drain::drain(&self.keep, &self.in_force.snapshot(), &body)),
                Err(refused) => refusal(refused),
            },
            _ if !is_read => not_allowed("GET, HEAD"),
            "/metrics" => self.metrics(),
            "/livez" => plain(StatusCode::OK, "alive\n"),
            "/readyz" => self.ready(),
            "/api/v1/status" => self.status(),
            "/" => plain(StatusCode::OK, format!("Tidegate. Here are: {HERE}")),
            _ => plain(StatusCode::NOT_FOUND, format!("here are: {HERE}")),
        }
    }

    async fn purge(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let done = purge::purge(self.keep.clone(), &self.in_force.snapshot(), body).await;
        if let Ok(done) = &done {
            let (metrics, control) = (&self.keep.metrics, self.keep.workers());
            let kind = if done.soft { "soft" } else { "hard" };
            metrics.cells(control).add(metrics.counter(Family::CachePurged, &[kind]), done.purged);
        }
        json(done)
    }

    /// Not ready while draining, or while an upstream has no server that may serve.
    fn ready(&self) -> Response<Full<Bytes>> {
        if *self.stage.borrow() == Stage::Draining {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let now = self.keep.now();
        let snapshot = self.in_force.snapshot();
        let down = snapshot.upstreams.iter().filter(|u| !u.is_ready(now));
        let down: Vec<_> = down.map(|u| u.config.name.as_str()).collect();
        if down.is_empty() {
            plain(StatusCode::OK, "ready\n")
        } else {
            let text = format!("no server may serve: upstream {}\n", down.join(", "));
            plain(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let (metrics, cache, now) = (&self.keep.metrics, &self.keep.cache, self.keep.now());
        metrics.set(metrics.gauge(Family::CacheBytes, &[]), cache.bytes() as i64);
        metrics.set(metrics.gauge(Family::CacheEntries, &[]), cache.len() as i64);
        let evicted = metrics.counter(Family::CacheEvicted, &[]);
        // An estimate may go back a little, which a counter must not.
        metrics.set_total(evicted, cache.evicted().max(metrics.total(evicted)));
        for kind in ["hard", "soft"] {
            metrics.counter(Family::CachePurged, &[kind]);
        }
        if let Some(lost) = self.in_force.lost() {
            metrics.set_total(metrics.counter(Family::AccessLogLost, &[]), lost);
        }
        for upstream in &self.in_force.snapshot().upstreams {
            let (members, handles) = (upstream.members(), &upstream.handles);
            metrics.set(handles.queued, upstream.state.queue.len() as i64);
            metrics.set(handles.sessions, upstream.state.sessions.len() as i64);
            metrics.set(handles.panic, i64::from(upstream.roster(now).is_panicking));
            // Several addresses of one name share their series.
            for server in &members.servers {
                metrics.set(server.entry.handles.healthy, 0);
                metrics.set(server.entry.handles.in_flight, 0);
            }
            for server in &members.servers {
                let is_well = server.state.condition(now) == Condition::Healthy;
                let (healthy, in_flight) = (server.entry.handles.healthy, server.entry.handles.in_flight);
                metrics.set(healthy, metrics.level(healthy) + i64::from(is_well));
                metrics.set(in_flight, metrics.level(in_flight) + i64::from(server.state.in_flight()));
            }
        }
        typed("text/plain; version=0.0.4; charset=utf-8", metrics.render())
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let text =
            serde_json::to_string_pretty(&status::of(self, &self.in_force.snapshot())).unwrap_or_default();
        typed("application/json", text + "\n")
    }
}

/// Why nothing was done.
type Refused = (StatusCode, String);

/// The body of a command.
async fn read(request: Request<Incoming>) -> Result<Bytes, Refused> {
    let (head, body) = request.into_parts();
    // A page in a browser can send anything else to a listener on loopback without asking first.
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if !kind.to_ascii_lowercase().starts_with(b"application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it as application/json".to_owned()));
    }
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(HEAD_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off".to_owned())),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body is too slow".to_owned())),
    }
}

fn json(done: Result<impl Serialize, Refused>) -> Response<Full<Bytes>> {
    match done {
        Ok(done) => typed("application/json", serde_json::to_string(&done).unwrap_or_default() + "\n"),
        Err(refused) => refusal(refused),
    }
}

fn refusal((status, mistake): Refused) -> Response<Full<Bytes>> {
    let text = serde_json::json!({ "error": mistake }).to_string();
    let mut response = typed("application/json", text + "\n");
    *response.status_mut() = status;
    response
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods} is answered here\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn typed(kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::OK, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
