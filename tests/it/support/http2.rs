//! A client that speaks HTTP/2 with prior knowledge, and decides itself when it takes what is sent.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request, Response};

use super::DEADLINE;

/// Runs `test` over one connection whose streams start with a window of `window` bytes.
#[track_caller]
pub fn talk<T>(
    address: SocketAddr,
    window: u32,
    test: impl AsyncFnOnce(SendRequest<Bytes>, h2::PingPong) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talk = async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 24);
        let (requests, mut connection) = builder.handshake(tcp).await.unwrap();
        let ping = connection.ping_pong().unwrap();
        let connection = tokio::spawn(connection);
        let outcome = test(requests, ping).await;
        connection.abort();
        outcome
    };
    runtime.block_on(async { tokio::time::timeout(DEADLINE, talk).await.expect("it took too long") })
}

/// A request for `path` without a body; the response's body is not read.
pub async fn get(requests: &SendRequest<Bytes>, path: &str) -> Result<Response<h2::RecvStream>, h2::Error> {
    let request = Request::get(format!("http://test{path}")).body(()).unwrap();
    let mut ready = requests.clone().ready().await?;
    ready.send_request(request, true)?.0.await
}

/// The rest of a body, taken as fast as it comes, and its trailers.
pub async fn rest(body: &mut h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}
