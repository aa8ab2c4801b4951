//! What connections at rest cost, and what is left of a burst.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::frames::{self, FrameClient};
use crate::support::{Client, Origin, Proxy, eventually, one_route};

/// Many, so that what the process holds anyway does not count.
const MANY: usize = 8000;
/// Bytes for each.
const RESTING_MAX: usize = 1024;
/// Connections of HTTP/2, each of which had so many streams at once; bytes for each of them at rest: tables of fields and of
/// how the last streams ended, but nothing for streams and frames.
const MANY_HTTP2: usize = 400;
const STREAMS: u32 = 64;
const RESTING_HTTP2_MAX: usize = 16 * 1024;
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

#[test]
fn a_connection_of_http2_at_rest_keeps_nothing_for_the_streams_that_it_had() {
    let origin = Origin::saying("served");
    let limits = "[limits]\nconnections-per-client = 100000\n";
    let text = format!("{limits}{}", one_route("", "", &[&origin]));
    let proxy = Proxy::start_after("export MIMALLOC_ALLOW_THP=0", &text);
    let ask = || {
        let mut client = FrameClient::connect(proxy.public());
        let streams = || (0..STREAMS).map(|n| 2 * n + 1);
        client.send(streams().flat_map(|stream| frames::get(stream, "/")).collect::<Vec<_>>());
        let mut left = STREAMS;
        while left > 0 {
            client.until("the end of a stream", |frame| {
                frame.stream != 0 && frame.flags & frames::END_STREAM != 0
            });
            left -= 1;
        }
        client
    };
    let few: Vec<_> = (0..20).map(|_| ask()).collect();
    let before = resident(&proxy);

    let many: Vec<_> = (0..MANY_HTTP2).map(|_| ask()).collect();

    let mut least = usize::MAX;
    eventually("all of them are at rest, and what their streams needed given back", || {
        least = least.min(resident(&proxy).saturating_sub(before) / many.len());
        least <= RESTING_HTTP2_MAX
    });
    drop((few, many));
}
