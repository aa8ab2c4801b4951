//! What connections at rest cost, and what is left of a burst.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, Origin, Proxy, eventually, one_route};

/// Many, so that what the process holds anyway does not count.
const MANY: usize = 8000;
/// Bytes for each.
const RESTING_MAX: usize = 1024;
/// What is left of a burst is not in proportion to it: tables that have grown, pages that are in use in part.
const LEFT_MAX: usize = 4 << 20;

/// As many as the machine lets this process and the proxy have.
fn many() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = usize::try_from(maximum.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    // The proxy gives half of its descriptors, and a little less, to clients.
    let many = MANY.min(allowed * 2 / 5);
    assert!(many >= 1000, "too few descriptors: ulimit -n says {allowed}");
    many
}

/// Bytes in memory. Huge pages are off for the proxy: with them it is counted in steps of 2 MiB.
fn resident(proxy: &Proxy) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_connection_at_rest_costs_a_kibibyte_and_a_burst_is_given_back() {
    let origin = Origin::saying("served");
    let limits = "[limits]\nconnections-per-client = 100000\n";
    let text = format!("{limits}{}", one_route("", "", &[&origin]));
    let proxy = Proxy::start_after("export MIMALLOC_ALLOW_THP=0", &text);
    let ask = || {
        let mut client = Client::connect(proxy.public());
        assert_eq!(client.get("/").text(), "served");
        client
    };
    // What is made once is there.
    let few: Vec<_> = (0..100).map(|_| ask()).collect();
    let before = resident(&proxy);

    let many: Vec<_> = (0..many()).map(|_| ask()).collect();

    let mut least = usize::MAX;
    eventually("all of them are at rest, and their buffers given back", || {
        least = least.min(resident(&proxy).saturating_sub(before) / many.len());
        least <= RESTING_MAX
    });
    drop((few, many));
    eventually("the burst is given back", || resident(&proxy) <= before + LEFT_MAX);
    assert_eq!(proxy.get("/").text(), "served");
}
