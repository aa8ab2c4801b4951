//! A balance strategy of one's own, registered beside those of the house.
//!
//! `first-available` sends everything to the first server that may serve: what one wants of a primary with hot
//! standbys in a fixed order. `cargo run --example custom_strategy` shows what it picks; with a configuration file as its
//! argument it is the whole proxy, in which `balance = "first-available"` is as good a word as any other.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidegate::runtime;
use tidegate::upstream::balance::Pick;
use tidegate::upstream::balance::PickReason;
use tidegate::upstream::balance::Pool;
use tidegate::upstream::balance::PoolSpec;
use tidegate::upstream::balance::Registry;
use tidegate::upstream::balance::ServerSpec;
use tidegate::upstream::balance::Servers;
use tidegate::upstream::balance::Strategy;

/// The first in the order of the configuration. It remembers nothing, so every worker's copy is the same.
#[derive(Clone)]
struct FirstAvailable;

impl Strategy for FirstAvailable {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, _rng: &mut fastrand::Rng) -> Option<Pick> {
        // The pool has already left out who is down, draining or was tried before.
        let server = pool.eligible().next()?;
        Some(Pick { server, reason: PickReason::Custom("first-available") })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(self.clone())
    }
}

/// In the proxy these are live numbers; here, who is up.
struct Up(Vec<u32>);

impl Servers for Up {
    fn len(&self) -> usize {
        3
    }

    fn candidates(&self) -> &[u32] {
        &self.0
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn is_candidate(&self, server: usize) -> bool {
        self.0.contains(&(server as u32))
    }

    fn weight(&self, _server: usize) -> u32 {
        1
    }

    fn in_flight(&self, _server: usize) -> u32 {
        0
    }
}

fn main() -> ExitCode {
    let mut registry = Registry::builtin();
    registry.register("first-available", Arc::new(|_pool| Box::new(FirstAvailable)));
    if let Some(file) = std::env::args_os().nth(1) {
        return serve(file.as_ref(), &registry);
    }
    println!("balance may say: {}", registry.names().collect::<Vec<_>>().join(", "));

    let names = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    let specs = names.map(|name| ServerSpec { name: name.to_owned(), weight: 1 });
    let Some(strategy) = registry.build("first-available", &PoolSpec::new(&specs)) else {
        println!("not registered");
        return ExitCode::FAILURE;
    };

    let mut worker = strategy.for_worker(0);
    let mut rng = fastrand::Rng::new();
    let cases: [(&str, &[u32], &[usize]); 4] = [
        ("all are up", &[0, 1, 2], &[]),
        ("the first was tried", &[0, 1, 2], &[0]),
        ("only the last is up", &[2], &[]),
        ("none is up", &[], &[]),
    ];
    for (case, up, tried) in cases {
        let up = Up(up.to_vec());
        match worker.pick(&Pool::new(&up, tried, Duration::ZERO), None, &mut rng) {
            Some(pick) => println!("{case}: {} ({})", names[pick.server], pick.reason.as_str()),
            None => println!("{case}: nobody, the client gets a 503"),
        }
    }
    ExitCode::SUCCESS
}

/// What `tidegate run` does, with one strategy more.
fn serve(file: &Path, registry: &Registry) -> ExitCode {
    let config = match runtime::load(file, registry) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(2);
        }
    };
    match runtime::run(config, registry, Some(file), || {}, |_addresses| {}) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
