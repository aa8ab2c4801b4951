//! A proxy that passes requests on, as pingora's own guide makes one.
//!
//! `pingora-peer SERVER PLAIN H2C TLS CHURN CERTIFICATE KEY`, where SERVER to CHURN are ports of 127.0.0.1. The last one's
//! connections to the server are used once.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::ProxyHttp;
use pingora_proxy::Session;
use pingora_proxy::http_proxy_service;

enum Connections {
    Kept,
    UsedOnce,
}

struct Forward {
    server: u16,
    connections: Connections,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(("127.0.0.1", self.server), false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        if let Connections::UsedOnce = self.connections {
            request.insert_header("Connection", "close")?;
        }
        Ok(())
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [server, plain, h2c, tls, churn, certificate, key] = &words[..] else {
        panic!("SERVER PLAIN H2C TLS CHURN CERTIFICATE KEY")
    };
    let server: u16 = server.parse().expect("a port");
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 1024,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut process = Server::new_with_opt_and_conf(None, conf);
    process.bootstrap();
    let conf = Arc::clone(&process.configuration);

    let forward = |connections| Forward { server, connections };
    let address = |port: &String| format!("127.0.0.1:{port}");
    let mut clear = http_proxy_service(&conf, forward(Connections::Kept));
    clear.add_tcp(&address(plain));
    process.add_service(clear);

    let mut clear_h2 = http_proxy_service(&conf, forward(Connections::Kept));
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    clear_h2.app_logic_mut().expect("a new service").server_options = Some(options);
    clear_h2.add_tcp(&address(h2c));
    process.add_service(clear_h2);

    let mut secure = http_proxy_service(&conf, forward(Connections::Kept));
    let mut settings = TlsSettings::intermediate(certificate, key).expect("a certificate");
    settings.enable_h2();
    secure.add_tls_with_settings(&address(tls), None, settings);
    process.add_service(secure);

    let mut once = http_proxy_service(&conf, forward(Connections::UsedOnce));
    once.add_tcp(&address(churn));
    process.add_service(once);

    process.run_forever();
}
