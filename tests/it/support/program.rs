//! Programs that some tests need and a bare machine lacks.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use super::{DEADLINE, eventually};

/// Where a program is. `None`, with a word on standard error, when it is absent; then the test is
/// skipped, unless `TIDEGATE_TESTS_REQUIRE_ALL` is set, as it is in `.ci/run`.
///
/// `let Some(nginx) = program("nginx") else { return };`
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons where a user's PATH does not look.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = places.map(|place| place.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let is_required = std::env::var_os("TIDEGATE_TESTS_REQUIRE_ALL").is_some();
        assert!(!is_required, "{name} is absent, and TIDEGATE_TESTS_REQUIRE_ALL is set");
        // Not `eprintln!`, which libtest keeps to itself: who runs the tests shall see it.
        let test = std::thread::current();
        let _ = writeln!(std::io::stderr(), "SKIPPED {}: {name} is absent", test.name().unwrap_or_default());
    }
    found
}

/// What curl printed; the test fails when curl does. Call `program("curl")` first.
#[track_caller]
pub fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "15"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {} {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a process a signal, by the shell's own `kill`: a bare machine has no other, and the tests need
/// no `unsafe`.
pub fn send_signal(child: &Child, signal: &str) {
    let line = format!("kill -{signal} {}", child.id());
    let status = Command::new("sh").args(["-c", &line]).status();
    assert!(status.unwrap().success(), "{line}");
}

/// The end of a process, which must come before the deadline.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    let mut status = None;
    eventually("the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some() || begin.elapsed() > DEADLINE
    });
    status.expect("the process outlived the deadline")
}
