//! What documents promise by name is there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let text = read("docs/threat-model.md");
    let named = named_tests(&text);
    let missing: Vec<_> = named.iter().filter(|(file, name)| !has_test(file, name)).collect();

    assert!(named.len() > 50, "{} tests", named.len());
    assert!(missing.is_empty(), "the threat model names what is not there: {missing:#?}");
}

#[test]
fn a_test_that_does_not_exist_is_found() {
    let text =
        "| a | b | `tests/documents.rs::nobody_wrote_this`, `tests/documents.rs::read`, `nowhere.rs::a` |";
    let named = named_tests(text);

    assert_eq!(named.len(), 3);
    assert!(named.iter().all(|(file, name)| !has_test(file, name)), "a function is no test yet");
    assert!(has_test("tests/documents.rs", "a_test_that_does_not_exist_is_found"));
}

#[test]
fn nothing_is_unsafe_but_what_is_named_here() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"deny\""));
    let mut allowed = Vec::new();
    let mut folders = vec![root("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains("unsafe_code") {
                allowed.push(path);
            }
        }
    }
    // A file that allows it belongs here by name, with what it does. src/main.rs: a call of the allocator's.
    assert_eq!(allowed, [root("src/main.rs")]);
    let main = read("src/main.rs");
    assert_eq!((main.matches("unsafe {").count(), main.matches("// SAFETY:").count()), (1, 1));
}

/// `` `FILE::NAME` ``, wherever it stands.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.split_once("::")).filter(|(file, _)| file.ends_with(".rs")).collect()
}

/// Whether `file` has a test of that name: behind `#[test]`, in `proptest!`, or in the list of tests/corpus.rs.
fn has_test(file: &str, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(root(file)) else { return false };
    let is_listed = file == "tests/corpus.rs" && text.contains(&format!(": {name},"));
    let is_marked = |at: usize| {
        let before = text[..at].trim_end();
        let before = before.strip_suffix("async").unwrap_or(before).trim_end();
        before.ends_with("#[test]") || before.ends_with("#[tokio::test]")
    };
    is_listed || text.match_indices(&format!("fn {name}(")).any(|(at, _)| is_marked(at))
}

fn read(file: &str) -> String {
    fs::read_to_string(root(file)).unwrap()
}

fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}
