//! Active health checks: one prober for the process, on the control thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{info, warn};

use crate::clock::Timers;
use crate::config::{Health, Probe};
use crate::net::dial::{DialLimits, dial};
use crate::upstream::health_state::{Outcome, ProbeChange};
use crate::upstream::pool::Upstream;
use crate::upstream::server::Server;

/// Bytes of a probe's answer that are read: enough for its status line and fields, the rest is not looked at.
const ANSWER_BYTES: usize = 16 * 1024;
/// A wait is 90 to 110 % of the interval, so that many probers do not align.
const JITTER: f64 = 0.1;

/// Probes one server for ever.
pub async fn watch(upstream: Arc<Upstream>, server: usize, timers: Rc<Timers>, mut rng: fastrand::Rng) {
    let Some(health) = upstream.config.health.clone() else { return };
    // The first probe comes at once; the later ones spread out.
    let mut last = String::new();
    loop {
        let server = &upstream.servers[server];
        let failure = match timers.timeout(health.timeout, ask(server, &upstream, &health, &timers)).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no answer within {:?}", health.timeout)),
        };
        let outcome = if failure.is_none() { Outcome::Success } else { Outcome::Failure };
        last = failure.unwrap_or(last);
        let name = &upstream.config.name;
        match server.state.probed(outcome, health.rise, health.fall) {
            Some(ProbeChange::Fell) => {
                warn!(upstream = name, server = server.name, cause = last, "server is unhealthy");
            }
            Some(ProbeChange::Rose) => info!(upstream = name, server = server.name, "server is healthy"),
            None => {}
        }
        tokio::time::sleep(wait(health.interval, rng.f64())).await;
    }
}

fn wait(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

async fn ask(
    server: &Server,
    upstream: &Upstream,
    health: &Health,
    timers: &Rc<Timers>,
) -> Result<(), String> {
    let limits = DialLimits { connect: upstream.config.connect_timeout, tls: upstream.config.tls_timeout };
    let mut stream =
        dial(server.address, server.tls.as_ref(), limits, timers).await.map_err(|e| with_cause(&e))?;
    let Probe::Http { path, host, expect } = &health.probe else { return Ok(()) };
    let host = host.as_deref().unwrap_or(&server.name);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: tidegate-probe\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let status = status(&mut stream).await?;
    if expect.iter().any(|(low, high)| (*low..=*high).contains(&status)) {
        Ok(())
    } else {
        Err(format!("status {status}"))
    }
}

async fn status(stream: &mut crate::net::Stream) -> Result<u16, String> {
    let mut answer = Vec::with_capacity(1024);
    loop {
        let n = stream.read_buf(&mut answer).await.map_err(|e| e.to_string())?;
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&answer) {
            Ok(_) if response.code.is_some_and(|code| code >= 200) => {
                return Ok(response.code.unwrap_or_default());
            }
            Ok(_) if n > 0 && answer.len() < ANSWER_BYTES => {}
            Ok(_) => return Err("the answer broke off".into()),
            Err(error) => return Err(format!("the answer is not HTTP: {error}")),
        }
    }
}

/// An error and what was behind it, on one line.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
