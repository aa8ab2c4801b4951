//! The admin listener: numbers for Prometheus, answers for orchestrators, a status for people.
//!
//! Reads state and changes none. It runs on the control thread.

mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::debug;

use crate::observe::{Family, Losses};
use crate::state::{Keep, Snapshot, Stage};

/// From a connection's first byte to the end of a head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Out of file descriptors: how long accepting pauses.
const PAUSE: Duration = Duration::from_millis(100);

/// What the admin listener reads.
pub struct Admin {
    /// Numbers, health.
    pub keep: Arc<Keep>,
    /// Names.
    pub snapshot: Arc<Snapshot>,
    /// What is bound, by listener.
    pub addresses: Vec<(String, SocketAddr)>,
    /// Whether the process is on its way out.
    pub stage: watch::Receiver<Stage>,
    /// Access-log lines that were lost; `None` without an access log.
    pub lost: Option<Losses>,
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
            async move { Ok::<_, Infallible>(admin.answer(&request)) }
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
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => plain(StatusCode::OK, "alive\n"),
            "/readyz" => self.ready(),
            "/api/v1/status" => self.status(),
            "/" => plain(StatusCode::OK, "Tidegate. Here are: /metrics /livez /readyz /api/v1/status\n"),
            _ => plain(StatusCode::NOT_FOUND, "here are: /metrics /livez /readyz /api/v1/status\n"),
        }
    }

    /// Not ready while draining, or while an upstream has no server that may serve.
    fn ready(&self) -> Response<Full<Bytes>> {
        if *self.stage.borrow() == Stage::Draining {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let now = self.keep.now();
        let down = self.snapshot.upstreams.iter().filter(|u| !u.is_ready(now));
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
        if let Some(lost) = &self.lost {
            metrics.set_total(metrics.counter(Family::AccessLogLost, &[]), lost.total());
        }
        for server in self.snapshot.upstreams.iter().flat_map(|u| &u.servers) {
            metrics.set(server.handles.healthy, i64::from(server.state.may_serve(now)));
            metrics.set(server.handles.in_flight, i64::from(server.state.in_flight()));
        }
        typed("text/plain; version=0.0.4; charset=utf-8", metrics.render())
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let text = serde_json::to_string_pretty(&status::of(self)).unwrap_or_default();
        typed("application/json", text + "\n")
    }
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
