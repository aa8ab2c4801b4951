//! The command line. Exit codes: 0 well, 1 failed at run time, 2 wrong usage or configuration.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidegate::admin::client;
use tidegate::config::{self, Config, Mistakes};
use tidegate::runtime::{self, RunError, demo};
use tidegate::upstream::balance::Registry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A reverse proxy and load balancer.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve as a configuration file says.
    Run {
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Look for mistakes in a configuration file, and tell all of them.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// See it work: three servers, a proxy before them, a little traffic. Needs no file.
    Demo,
    /// Proxy from one address to one or more, without a file.
    Proxy {
        /// Where to listen, like 127.0.0.1:8080.
        #[arg(long, value_name = "ADDRESS")]
        from: SocketAddr,
        /// A server, like 127.0.0.1:3000 or https://example.com; may be repeated.
        #[arg(long, value_name = "ADDRESS", required = true)]
        to: Vec<String>,
    },
    /// Take a server of a running proxy out of service, gently: it gets requests of its sessions only.
    Drain {
        /// The upstream's name.
        #[arg(long, value_name = "NAME")]
        upstream: String,
        /// The server, as it is configured, or as the status page shows it.
        #[arg(long, value_name = "ADDRESS")]
        server: String,
        /// Give it its share of requests again.
        #[arg(long)]
        undo: bool,
        /// The proxy's admin listener.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
        admin: SocketAddr,
    },
    /// Have a running proxy read its configuration again: it is in force when this returns, or nothing has changed.
    Reload {
        /// The proxy's admin listener.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
        admin: SocketAddr,
    },
    /// Purge stored responses of a running proxy: they are gone, or stale, when this returns.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
    Purge {
        /// An address, like https://www.example.com/page?a=b; may be repeated.
        #[arg(long = "url", value_name = "URL", group = "what")]
        urls: Vec<String>,
        /// All addresses that begin so, like https://www.example.com/blog/; may be repeated.
        #[arg(long = "prefix", value_name = "URL", group = "what")]
        prefixes: Vec<String>,
        /// All that call themselves so, by Surrogate-Key, Cache-Tag or Cache-Groups; may be repeated.
        #[arg(long = "tag", value_name = "TAG", group = "what")]
        tags: Vec<String>,
        /// Everything.
        #[arg(long, group = "what")]
        all: bool,
        /// Make them stale instead: validated before they are used, served stale where that is allowed.
        #[arg(long)]
        soft: bool,
        /// The proxy's admin listener.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
        admin: SocketAddr,
    },
}

fn main() -> ExitCode {
    let registry = Registry::builtin();
    match Cli::parse().command {
        Command::Run { config } => run(runtime::load(&config, &registry), &registry, Some(&config), |_| {}),
        Command::Check { file } => match runtime::load(&file, &registry) {
            Ok(_) => ExitCode::SUCCESS,
            Err(mistakes) => failed(&mistakes, 2),
        },
        Command::Proxy { from, to } => run(config::for_proxy(from, to), &registry, None, |_| {}),
        Command::Demo => match demo::prepare(&registry) {
            Ok(config) => run(config, &registry, None, |addresses| {
                let addresses = addresses.to_vec();
                // Of its own: the tour asks the proxy that this thread goes on to run.
                std::thread::spawn(move || demo::tour(&addresses, std::io::stdout()));
            }),
            Err(error) => failed(&error, 1),
        },
        Command::Purge { urls, prefixes, tags, all, soft, admin } => {
            let asked = serde_json::json!({
                "urls": urls, "prefixes": prefixes, "tags": tags, "all": all, "soft": soft,
            });
            order(admin, "/api/v1/cache/purge", &asked)
        }
        Command::Reload { admin } => order(admin, "/api/v1/reload", &serde_json::json!({})),
        Command::Drain { upstream, server, undo, admin } => {
            let asked = serde_json::json!({ "upstream": upstream, "server": server, "drain": !undo });
            order(admin, "/api/v1/drain", &asked)
        }
    }
}

/// Has a running proxy do something, and says what it answers.
fn order(admin: SocketAddr, path: &str, asked: &serde_json::Value) -> ExitCode {
    match client::post(admin, path, &asked.to_string()) {
        Ok(done) => {
            let told = std::io::stdout().write_all(done.as_bytes());
            told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error) => failed(&error, 1),
    }
}

fn run(
    config: Result<Config, Mistakes>,
    registry: &Registry,
    file: Option<&Path>,
    started: impl FnOnce(&[(String, SocketAddr)]),
) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => return failed(&mistakes, 2),
    };
    match runtime::run(config, registry, file, give_back, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ RunError::Build(_)) => failed(&error, 2),
        Err(error) => failed(&error, 1),
    }
}

fn failed(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}

/// What a burst has left behind goes back to the system. mimalloc does so by itself only where memory is asked for or
/// freed, and after a burst nobody does.
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: it takes no pointer of ours, and may be called at any time from any thread (mimalloc's documentation,
    // "Extended Functions"). tests/it/idle.rs sees what it does.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
