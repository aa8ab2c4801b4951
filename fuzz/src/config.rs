//! Any text is a configuration or a list of mistakes that can be put right; and a configuration can be used.

use std::collections::HashSet;
use std::path::Path;

use tidegate::config::{Config, HostHeader, Mistakes, parse};
use tidegate::filter::authority::Authority;
use tidegate::router::Router;

const STRATEGIES: [&str; 10] = [
    "round-robin",
    "weighted-round-robin",
    "least-connections",
    "power-of-two",
    "peak-ewma",
    "random",
    "consistent-hash",
    "maglev",
    "rendezvous",
    "ip-hash",
];

pub fn holds(data: &[u8]) {
    // What is no UTF-8 is no configuration: it ends at reading the file.
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Nothing is in that folder, so no file of this machine is read for a key or a certificate by a relative path.
    match parse(text, Path::new("/nowhere/fuzz.toml"), &STRATEGIES) {
        Ok(config) => is_usable(&config),
        Err(mistakes) => can_be_put_right(&mistakes, text),
    }
}

fn is_usable(config: &Config) {
    assert!(!config.listeners.is_empty());
    let names: HashSet<&str> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names.len(), config.upstreams.len());
    for route in &config.routes {
        assert!(route.upstream < config.upstreams.len());
        assert!(route.listener.is_none_or(|listener| listener < config.listeners.len()));
    }
    for upstream in &config.upstreams {
        assert!(!upstream.servers.is_empty());
        if let HostHeader::Fixed(host) = &upstream.host {
            assert!(Authority::parse(host).is_some(), "{host:?} is what we would refuse ourselves");
        }
    }
    let router = Router::new(&config.routes, config.listeners.len());
    for found in ["/", "/a/b", "*"].iter().filter_map(|path| router.find(0, "a", path).ok()) {
        assert!(found.route < config.routes.len());
    }
}

fn can_be_put_right(mistakes: &Mistakes, text: &str) {
    assert!(!mistakes.0.is_empty());
    let lines = text.matches('\n').count() + 1;
    for mistake in &mistakes.0 {
        assert!(!mistake.message.is_empty());
        let Some(place) = &mistake.place else { continue };
        assert!((1..=lines).contains(&place.line) && place.column >= 1 && place.width >= 1);
        assert!(!place.source.contains(char::is_control) || place.source.contains('\t'));
    }
    let report = mistakes.to_string();
    assert!(!report.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{report:?}");
}
