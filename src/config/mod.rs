//! Text in, [`Config`] or every mistake in it out.
//!
//! The files in reading order: the type the house uses (`model`), the keys that
//! exist (`keys`), what is said about mistakes (`mistake`), the walk over TOML
//! (`reader`), the small languages inside strings (`units`, `pattern`), then one
//! file for each group of tables.

mod model;

pub mod keys;
mod mistake;
mod reader;

mod pattern;
mod units;

mod process;
mod traffic;
mod upstream;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeTable;

pub use self::mistake::{Mistake, Mistakes, Place};
pub use self::model::*;
use self::reader::Reader;
use self::traffic::Known;

/// After a few broken lines the rest of a file is noise.
const SYNTAX_MISTAKES_MAX: usize = 3;

/// Reads a file. Paths in it begin at its folder.
pub fn load(path: &Path, strategies: &[&str]) -> Result<Config, Mistakes> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, path, strategies),
        Err(error) => Err(Mistake::whole(path, "", format!("cannot be read: {error}"), "").into()),
    }
}

/// Reads `text` as if it stood in `file`, whose folder its paths begin at. `strategies` are the
/// names that `balance` may say.
pub fn parse(text: &str, file: &Path, strategies: &[&str]) -> Result<Config, Mistakes> {
    let reader = Reader::new(text, file);
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(SYNTAX_MISTAKES_MAX) {
        reader.note(error.span().unwrap_or_default(), "", error.message(), "");
    }
    // What could be recovered of a broken file would be blamed for what could not.
    reader.finish()?;

    let root = reader.root(tree.get_ref(), keys::ROOT);
    let cache = process::cache(&root);
    let admin = process::admin(&root);
    let listeners = traffic::listeners(&root, admin.as_ref());
    let upstreams = upstream::upstreams(&root, strategies);
    let known = Known {
        listeners: &listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>(),
        upstreams: &upstreams.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>(),
        cache: &cache,
    };
    let routes = traffic::routes(&root, &known);
    let runtime = process::runtime(&root);
    let log = process::log(&root);
    let limits = process::limits(&root);

    reader.finish()?;
    Ok(Config { runtime, admin, log, limits, listeners, routes, upstreams, cache })
}

/// The configuration of `tidegate proxy --from ADDR --to ADDR [--to ADDR]`.
pub fn for_proxy(from: SocketAddr, to: Vec<String>) -> Result<Config, Mistakes> {
    let command_line = Path::new("command line");
    let refused = |server: &String| {
        let refused = pattern::server(server).err()?;
        Some(Mistake::whole(command_line, "--to", refused.message, refused.help))
    };
    let mistakes: Vec<Mistake> = to.iter().filter_map(refused).collect();
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }

    let servers = toml::Value::from(to);
    let text = format!(
        "[[listener]]\nbind = \"{from}\"\n[[route]]\nupstream = \"to\"\n[upstream.to]\nservers = {servers}\n"
    );
    parse(&text, command_line, &[])
}
