//! The direction of the rooms, held by a test: a request walks down the stairs and its answer walks
//! up, so a room uses only rooms below its own. Each dependency has one home.
//!
//! It reads the sources as text: `crate::ROOM`, also in groups (`use crate::{a, b::c}`), wherever it
//! stands, with comments and literals taken out first. `lib.rs` and `main.rs` stand outside the house.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// Rooms and their floors. Rooms on one floor do not know each other.
const FLOORS: &[(&str, u32)] = &[
    ("runtime", 10),
    ("front", 9),
    ("admin", 8),
    ("proxy", 7),
    ("state", 6),
    ("router", 5),
    ("filter", 5),
    ("cache", 5),
    ("upstream", 5),
    ("net", 4),
    ("observe", 3),
    ("answer", 3),
    ("config", 2),
    ("http1", 2),
    ("body", 1),
    ("fields", 1),
    ("clock", 0),
    ("hpack", 2),
];

/// A path that begins with this may be named only in files that begin with one of these.
const HOMES: &[(&str, &[&str])] = &[
    ("moka::", &["cache/store.rs"]),
    ("rustls::", &["net/", "net.rs"]),
    ("tokio_rustls::", &["net/", "net.rs"]),
    ("rustls_native_certs::", &["net/", "net.rs"]),
    ("hickory_resolver::", &["net/resolve.rs", "net/resolve/"]),
    ("hyper::server::", &["admin/"]),
    ("toml::", &["config/", "config.rs"]),
    ("rustix::", &["net/descriptors.rs"]),
    ("regex::", &["config/model/health.rs"]),
    ("prometheus::", &["observe/", "observe.rs"]),
];

#[test]
fn every_room_uses_only_rooms_below_it_and_every_dependency_is_at_home() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut violations = Vec::new();
    for file in rust_files(&source) {
        let name = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        violations.extend(violations_of(&name, &text));
    }

    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn every_room_has_its_floor() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_outside = ["lib", "main"].contains(&name.as_str());
        assert!(is_outside || floor_of(&name).is_some(), "src/{name} has no floor in tests/rooms.rs");
    }
}

#[test]
fn a_violation_is_found_and_what_only_looks_like_one_is_not() {
    for (file, text, expected) in [
        ("router/mod.rs", "use crate::proxy::Exchange;", 1),
        ("router/mod.rs", "use crate::cache;", 1),
        ("router/mod.rs", "use crate::config::Route;\nuse crate::router::path;", 0),
        ("router/mod.rs", "use crate::{config::Route, front::{Accept, Watch}, body};", 1),
        ("router/mod.rs", "use crate::{\n    state,\n    admin::Api,\n};", 2),
        ("router/mod.rs", "fn f() { crate :: proxy :: go() }", 1),
        ("router/mod.rs", "pub(crate) fn f() {}", 0),
        ("router/mod.rs", "// use crate::proxy::Exchange;\n/* crate::admin /* nested */ crate::front */", 0),
        ("router/mod.rs", "/// See [`crate::proxy`].\nfn f() {}", 0),
        ("router/mod.rs", "const TEXT: &str = \"crate::proxy \\\" // \"; use crate::front;", 1),
        ("router/mod.rs", "const TEXT: &str = r#\"crate::proxy \" // \"#; use crate::front;", 1),
        ("router/mod.rs", "const QUOTE: char = '\"'; use crate::front; fn f<'a>(x: &'a str) {}", 1),
        ("router/mod.rs", "use crate::nowhere::X;", 1),
        ("clock.rs", "use crate::body::Body;", 1),
        ("main.rs", "use crate::runtime; use moka::sync::Cache;", 0),
        ("cache/store.rs", "use moka::sync::Cache;", 0),
        ("cache/policy.rs", "use moka::sync::Cache;", 1),
        ("net/resolve.rs", "use hickory_resolver::Hosts;", 0),
        ("net/dial.rs", "use hickory_resolver::Hosts;", 1),
        ("front/connection.rs", "use rustls::ServerConfig;\nuse hyper::server::conn::http2;", 2),
        ("front/http1/mod.rs", "use hyper::server::conn::http1;", 1),
        ("front/accept.rs", "use crate::net::rustls_settings;", 0),
        ("upstream/conns.rs", "use hyper::client::conn::http1;\nuse hyper::server::conn::http1;", 1),
        ("upstream/conns.rs", "fn f(error: tokio_rustls::rustls::Error) {}", 1),
    ] {
        let found = violations_of(file, text);

        assert_eq!(found.len(), expected, "{file}: {text}\nfound: {found:#?}");
        assert!(found.iter().all(|violation| violation.contains(file)), "{found:?}");
    }
}

fn floor_of(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What one file may not say, each with the file and the reason.
fn violations_of(file: &str, text: &str) -> Vec<String> {
    let own = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    if own == "lib" || own == "main" {
        return Vec::new();
    }
    let code = without_spaces(&without_comments_and_literals(text));
    let mut violations = Vec::new();
    let Some(own_floor) = floor_of(own) else { return vec![format!("src/{file}: {own} has no floor")] };
    for room in rooms_named_in(&code) {
        match floor_of(&room) {
            _ if room == own => {}
            Some(floor) if floor < own_floor => {}
            Some(floor) => violations.push(format!(
                "src/{file}: {own} (floor {own_floor}) uses {room} (floor {floor}), which is not below it"
            )),
            None => violations.push(format!("src/{file}: uses crate::{room}, which is no room")),
        }
    }
    for (dependency, homes) in HOMES {
        let is_home = homes.iter().any(|home| file.starts_with(home));
        if !is_home && names(&code, dependency) {
            violations.push(format!("src/{file}: uses {dependency}, whose home is {}", homes.join(" or ")));
        }
    }
    violations
}

/// The first word behind each `crate::`, or of each element of a group there.
fn rooms_named_in(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        if code[..place].ends_with(is_word) {
            continue;
        }
        let rest = &code[place + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(first_word(rest));
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (place, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ if depth == 1 && begins && is_word(character) => rooms.push(first_word(&group[place..])),
                _ => {}
            }
            begins = depth == 1 && character == ',';
            if depth == 0 {
                break;
            }
        }
    }
    rooms
}

/// Whether the code has this path, not merely a longer word that ends like it, nor a module of ours.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path)
        .any(|(place, _)| !code[..place].ends_with(is_word) && !code[..place].ends_with("::"))
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|character| is_word(*character)).collect()
}

/// Without white space, but for one space between two words, so that they stay two.
fn without_spaces(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code.split_whitespace().peekable();
    while let Some(piece) = rest.next() {
        out.push_str(piece);
        if piece.ends_with(is_word) && rest.peek().is_some_and(|next| next.starts_with(is_word)) {
            out.push(' ');
        }
    }
    out
}

/// The code alone: comments (nested too), strings (raw too) and character literals become a space.
fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| string(rest, &out)).or_else(|| character(rest));
        match skipped {
            Some(bytes) => {
                out.push(' ');
                rest = &rest[bytes..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Bytes of the comment that begins here.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut place) = (0, 0);
    while place < text.len() {
        let rest = &text.as_bytes()[place..];
        match rest {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                place += 1;
                continue;
            }
        }
        place += 2;
        if depth == 0 {
            return Some(place);
        }
    }
    Some(text.len())
}

/// Bytes of the string that begins here; `before` tells `r"` from a word that ends in r.
fn string(text: &str, before: &str) -> Option<usize> {
    let is_raw = text.starts_with("r\"") || text.starts_with("r#");
    if is_raw && !before.trim_end_matches('b').ends_with(is_word) {
        let hashes = text[1..].chars().take_while(|character| *character == '#').count();
        let body = text[1 + hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |place| place + end.len());
        return Some(2 + hashes + length);
    }
    let body = text.strip_prefix('"')?;
    let mut is_escaped = false;
    for (place, character) in body.char_indices() {
        match character {
            '"' if !is_escaped => return Some(place + 2),
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    Some(text.len())
}

/// Bytes of the character literal that begins here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        let skipped = escape.chars().next()?.len_utf8();
        return escape[skipped..].find('\'').map(|place| place + skipped + 3);
    }
    let first = body.chars().next()?;
    body[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
