//! `tidegate check`: every mistake at once, each where it is.

use crate::support::proxy::tidegate;

/// The exit status of `tidegate check` on this text, and all that it printed.
pub fn check(toml: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.toml");
    std::fs::write(&file, toml).unwrap();
    let output = tidegate(&["check", file.to_str().unwrap()]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

const MINIMAL: &str = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
    [upstream.app]\nservers = [\"127.0.0.1:1\"]\n";

#[test]
fn a_good_file_passes() {
    let (status, said) = check(MINIMAL);

    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn all_mistakes_are_told_at_once_with_their_lines() {
    let (status, said) = check(
        "[[listener]]\nbind = \"not an address\"\n[[route]]\nupstream = \"ap\"\nhots = \"a.example\"\n\
         [upstream.app]\nservers = [\"127.0.0.1:1\"]\nconnect-timeout = \"5 parsecs\"\n",
    );

    assert_eq!(status, Some(2), "{said}");
    for (line, word) in [(2, "bind"), (4, "\"app\""), (5, "\"host\""), (8, "connect-timeout")] {
        let place = format!("tidegate.toml:{line}:");
        let told = said.lines().find(|text| text.contains(&place));
        let told = told.unwrap_or_else(|| panic!("nothing on line {line} in:\n{said}"));
        assert!(told.contains(word), "{told:?} does not say {word}");
    }
}

#[test]
fn all_mistakes_of_probes_are_told_at_once_with_their_lines() {
    let (status, said) = check(&format!(
        "{MINIMAL}[upstream.app.health]\npath = \"/\"\nmethod = \"HAED\"\nbody = \"(\"\nport = 0\n\
         start = \"unhelthy\"\nheaders = {{ connection = \"close\" }}\n\
         [upstream.b]\nservers = [\"127.0.0.1:2\"]\n[upstream.b.health]\ntls = true\nexpect = [200]\n\
         [upstream.c]\nservers = [\"127.0.0.1:3\"]\nhealth = {{ tcp = true, grpc = \"\" }}\n"
    ));

    assert_eq!(status, Some(2), "{said}");
    for (line, words) in [
        (9, "did you mean \"HEAD\"?"),
        (10, "\"(\" is not a pattern: unclosed group"),
        (11, "allowed: 1 to 65535"),
        (12, "did you mean \"unhealthy\"?"),
        (13, "belongs to the connection"),
        (17, "127.0.0.1:2 is spoken to in the clear"),
        (18, "means nothing to a tls probe"),
        (21, "asks for tcp and grpc at once"),
    ] {
        let place = format!("tidegate.toml:{line}:");
        let told = said.lines().find(|text| text.contains(&place));
        let told = told.unwrap_or_else(|| panic!("nothing on line {line} in:\n{said}"));
        assert!(told.contains(words), "{told:?} does not say {words}");
    }
}

#[test]
fn text_that_is_not_toml_is_a_mistake_with_a_place() {
    let (status, said) = check("[[listener]\nbind = 1\n");

    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("tidegate.toml:1:"), "{said}");
}

#[test]
fn an_absent_file_and_a_wrong_word_are_wrong_usage() {
    for arguments in [&["check", "/nowhere/at/all.toml"][..], &["chekc"], &["run", "--confg", "x"]] {
        let output = tidegate(arguments).output().unwrap();

        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_bad_file_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, format!("{MINIMAL}balance = \"nonsense\"\n")).unwrap();

    let output = tidegate(&["run", "--config", file.to_str().unwrap()]).output().unwrap();

    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn every_file_in_config_passes_or_misses_only_its_secrets() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).expect("the directory config") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let output = tidegate(&["check", path.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Certificates, keys and secrets are the operator's own and not in the repository: the only
        // mistakes there may be are that those files cannot be read.
        let is_own = |line: &&str| line.contains(".toml:") && !line.contains("cannot read");
        let others: Vec<&str> = said.lines().filter(is_own).collect();
        assert!(output.status.success() || others.is_empty(), "{}:\n{said}", path.display());
    }
    assert!(count >= 2, "reference.toml and minimal.toml at least");
}
