//! `POST /reload`, also `/api/v1/reload`: the configuration is read again.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{read, refusal, typed};

const NO_FILE: &str = "this process has no configuration file to read again";
const BUSY: &str = "too many reloads are waiting";
const GONE: &str = "the process ends";

/// What came of a reload: a report, or why nothing has changed.
pub type ReloadAnswer = Result<Value, (StatusCode, Value)>;

/// Someone wants the configuration to be read again.
pub struct ReloadOrder {
    /// Who, for the log.
    pub cause: &'static str,
    /// Who waits for what comes of it; a signal does not.
    pub answer: Option<oneshot::Sender<ReloadAnswer>>,
}

/// What is asked for: there is nothing to choose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {}

/// Has the configuration read again, and waits until it is in force or refused.
pub async fn reload(
    orders: Option<&mpsc::Sender<ReloadOrder>>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if let Err(refused) = understood(request).await {
        return refusal(refused);
    }
    let Some(orders) = orders else { return refusal((StatusCode::CONFLICT, NO_FILE.to_owned())) };
    let (answer, answered) = oneshot::channel();
    if orders.try_send(ReloadOrder { cause: "admin", answer: Some(answer) }).is_err() {
        return refusal((StatusCode::SERVICE_UNAVAILABLE, BUSY.to_owned()));
    }
    match answered.await {
        Ok(Ok(report)) => typed("application/json", format!("{report}\n")),
        Ok(Err((status, why))) => {
            let mut response = typed("application/json", format!("{why}\n"));
            *response.status_mut() = status;
            response
        }
        Err(_) => refusal((StatusCode::SERVICE_UNAVAILABLE, GONE.to_owned())),
    }
}

async fn understood(request: Request<Incoming>) -> Result<(), (StatusCode, String)> {
    let has = |name| request.headers().contains_key(name);
    // `curl -X POST`. A page in a browser cannot send it without its Origin (Fetch, section 3.2).
    if request.body().is_end_stream() && !has(header::CONTENT_TYPE) && !has(header::ORIGIN) {
        return Ok(());
    }
    let body = read(request).await?;
    let asked = serde_json::from_slice(&body).map(|Asked {}| ());
    asked.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}
