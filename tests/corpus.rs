//! Every input that the fuzz targets keep, through the same properties, as ordinary tests: no nightly toolchain, no
//! randomness. `fuzz/README.md` says where they come from.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
mod properties;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// All of `fuzz/corpus`: what everybody clones.
const CORPUS_BYTES_MAX: u64 = 1 << 20;
/// Of one target.
const FILES_MAX: usize = 200;

/// Targets, each with its property: a test of its name, and a place in [`TARGETS`].
macro_rules! targets {
    ($($target:ident: $sentence:ident,)*) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $sentence() {
                hold(stringify!($target), properties::$target::holds);
            }
        )*
    };
}

targets! {
    access_log: a_record_is_one_line_and_can_be_read_back,
    authority: a_host_and_port_is_one_for_everybody,
    cache_control: directives_are_read_as_a_simple_reader_reads_them,
    cache_key: two_requests_share_a_key_only_if_they_ask_for_the_same,
    chunked: chunks_are_read_as_a_simple_reader_reads_them,
    client_ip: only_a_trusted_proxy_says_who_the_client_is,
    config: any_text_is_a_configuration_or_a_list_of_mistakes,
    cookies: cookies_are_read_as_the_server_reads_them,
    discovery: a_set_of_servers_is_bounded_and_no_failure_takes_from_it,
    frames: a_connection_stays_in_bounds_whatever_its_frames,
    grpc_answer: a_grpc_answer_is_read_as_a_simple_reader_reads_it,
    hpack: field_blocks_are_read_as_a_simple_reader_reads_them,
    http1_head: a_head_is_read_as_a_simple_reader_reads_it,
    path: every_reading_of_a_path_finds_the_segments_of_its_route,
    range: a_range_is_never_outside_the_body,
    request_head: a_request_that_passes_reaches_the_server_as_exactly_one,
    response_head: a_response_that_passes_is_exactly_one_head,
    server_head: what_a_server_says_is_read_as_a_simple_reader_reads_it,
    vary: a_response_answers_only_requests_that_say_the_same,
}

#[test]
fn every_target_has_a_program_a_property_and_a_corpus() {
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        fs::read_dir(fuzz(folder)).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|&name| name.to_owned()).collect();

    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let shared = ["head".to_owned(), "lib".to_owned()];
    assert_eq!(names("src"), targets.iter().cloned().chain(shared).collect());
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no program");
    }
}

#[test]
fn the_corpus_is_small() {
    let mut bytes = 0;
    for target in TARGETS {
        let sizes = files(target).iter().map(|file| file.metadata().unwrap().len()).collect::<Vec<_>>();
        assert!((1..=FILES_MAX).contains(&sizes.len()), "{target}: {} files", sizes.len());
        bytes += sizes.iter().sum::<u64>();
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

/// All files are tried, and those that break the property are named.
fn hold(target: &str, property: fn(&[u8])) {
    let breaks = |file: &PathBuf| {
        let data = fs::read(file).unwrap();
        catch_unwind(AssertUnwindSafe(|| property(&data))).is_err()
    };
    let broken: Vec<_> = files(target).into_iter().filter(breaks).collect();

    assert!(broken.is_empty(), "{target} does not hold of {broken:#?}");
}

fn files(target: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(fuzz("corpus").join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn fuzz(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}
