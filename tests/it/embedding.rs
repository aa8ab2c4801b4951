//! The library, used by someone who adds to it.

use std::path::Path;
use std::process::Command;

#[test]
fn an_embedders_strategy_is_chosen_by_its_name() {
    // Built by `cargo test`, but not by `cargo test --test it`.
    let beside = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().expect("a folder");
    let example = beside.join("examples/custom_strategy");
    if !example.exists() {
        assert!(std::env::var_os("TIDEGATE_TESTS_REQUIRE_ALL").is_none(), "the example was not built");
        return eprintln!("SKIPPED: the example custom_strategy is not built");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    let text = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
        [upstream.app]\nservers = [\"127.0.0.1:1\"]\nbalance = \"first-availible\"\n";
    std::fs::write(&file, text).unwrap();

    let refused = Command::new(&example).arg(&file).output().unwrap();
    let shown = Command::new(&example).output().unwrap();

    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("did you mean \"first-available\"?"), "{said}");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("only the last is up: 10.0.0.3:80 (first-available)"), "{shown}");
}
