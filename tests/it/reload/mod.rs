//! The configuration changes and nothing is lost: whole or not at all, on all workers, while everything goes on.

mod listeners;
mod load;
mod refused;
mod requests;
mod state;

use crate::support::{Client, Message, Origin, Proxy};

/// One route to each of these upstreams, by its path, `/NAME`; all of them may have further keys.
fn routes(upstreams: &[(&str, &[&Origin], &str)]) -> String {
    let one = |(name, servers, keys): &(&str, &[&Origin], &str)| {
        let servers: Vec<_> = servers.iter().map(|server| server.toml()).collect();
        let servers = servers.join(", ");
        format!(
            "[[route]]\npath = \"/{name}/*\"\nupstream = \"{name}\"\n\
             [upstream.{name}]\nservers = [{servers}]\n{keys}\n"
        )
    };
    upstreams.iter().map(one).collect()
}

/// Connections enough that each worker has some; each has been used.
fn connected(proxy: &Proxy, path: &str) -> Vec<Client> {
    let one = |_| {
        let mut client = proxy.client();
        assert_eq!(client.get(path).status(), 200);
        client
    };
    (0..8).map(one).collect()
}

fn json(answer: &Message) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("no JSON: {}", answer.text()))
}
