use std::sync::Barrier;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;
use crate::cache::Cache;
use crate::cache::Join;
use crate::cache::Lookup;
use crate::cache::Times;
use crate::cache::entry::tests::exchange;
use crate::fields::RequestHead;

pub(super) fn cache() -> Arc<Cache> {
    let config = crate::config::Cache { max_size: 64 << 20, collapse_wait: Duration::from_secs(1) };
    Arc::new(Cache::new(&config))
}

pub(super) fn rules() -> RouteCache {
    RouteCache::new(1 << 20)
}

fn key() -> Key {
    Key::new("app", "http", "h", "/")
}

pub(super) fn req() -> RequestHead {
    http::Request::new(()).into_parts().0.into()
}

fn head(cache: &Cache, fields: &[(&'static str, &str)]) -> Head {
    let (req, res) = exchange(fields);
    cache.judge(&key(), &req, &res, Times { asked: 100, received: 100 }, &rules()).unwrap()
}

fn fresh(cache: &Cache) -> Head {
    head(cache, &[("cache-control", "max-age=60")])
}

fn lead(cache: &Cache) -> Leader {
    match cache.join(&key(), &req(), 100, &rules(), cache.epoch(&key())) {
        Join::Lead(leader) => leader,
        _ => panic!("not the leader"),
    }
}

fn follow(cache: &Cache) -> Follower {
    match cache.join(&key(), &req(), 100, &rules(), cache.epoch(&key())) {
        Join::Follow(follower) => follower,
        _ => panic!("not a follower"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn is_stored(cache: &Cache) -> bool {
    matches!(cache.lookup(&key(), &req(), 100, &rules()), Lookup::Hit { .. })
}

async fn read(reader: Reader) -> Result<Bytes, BodyError> {
    reader.collect().await.map(|body| body.to_bytes())
}

fn reader(followed: Followed) -> Reader {
    match followed {
        Followed::Stream(_, reader) => reader,
        Followed::Entry(_) => panic!("an entry"),
        Followed::Failed(trouble) => panic!("failed: {trouble:?}"),
        Followed::GoAlone(reason) => panic!("alone: {reason:?}"),
    }
}

fn refusal(followed: Followed) -> CacheReason {
    match followed {
        Followed::GoAlone(reason) => reason,
        _ => panic!("not alone"),
    }
}

#[test]
fn many_followers_on_many_threads_read_the_same_body() {
    let cache = cache();
    let body: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let leader = lead(&cache);
    let start = Barrier::new(5);

    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let followers: Vec<_> = (0..50).map(|_| follow(&cache)).collect();
                    start.wait();
                    let local = tokio::task::LocalSet::new();
                    block_on(local.run_until(async {
                        let wait = |follower: Follower| async {
                            read(reader(follower.wait(&req(), &rules()).await)).await
                        };
                        let tasks: Vec<_> =
                            followers.into_iter().map(|f| tokio::task::spawn_local(wait(f))).collect();
                        for task in tasks {
                            assert!(task.await.unwrap().unwrap() == body);
                        }
                    }));
                })
            })
            .collect();
        start.wait();
        let mut writer = leader.publish(fresh(&cache), 1 << 20);
        let own = writer.reader();
        for chunk in body.chunks(1000) {
            writer.push(Bytes::copy_from_slice(chunk)).unwrap();
            thread::yield_now();
        }
        writer.finish().unwrap();
        assert!(block_on(read(own)).unwrap() == body);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });

    assert!(is_stored(&cache));
}

#[test]
fn a_dropped_or_released_leader_sends_all_alone() {
    let cache = cache();
    let leader = lead(&cache);
    let follower = follow(&cache);
    let waiting = thread::spawn(move || refusal(block_on(follower.wait(&req(), &rules()))));
    drop(leader);
    assert_eq!(waiting.join().unwrap(), CacheReason::LeaderGone);

    let leader = lead(&cache);
    let follower = follow(&cache);
    leader.release(CacheReason::Private);
    assert_eq!(refusal(block_on(follower.wait(&req(), &rules()))), CacheReason::Private);
    drop(lead(&cache));
}

#[test]
fn a_body_that_breaks_off_is_an_error_and_is_not_stored() {
    for announced in [None, Some("10")] {
        let cache = cache();
        let leader = lead(&cache);
        let mut fields = vec![("cache-control", "max-age=60")];
        fields.extend(announced.map(|length| ("content-length", length)));
        let mut writer = leader.publish(head(&cache, &fields), 1 << 20);
        let follower = follow(&cache);
        writer.push(Bytes::from_static(b"abc")).unwrap();
        let own = reader(block_on(follower.wait(&req(), &rules())));

        match announced {
            None => drop(writer),
            Some(_) => assert_eq!(writer.finish().unwrap_err(), CacheReason::CutShort),
        }

        assert!(block_on(read(own)).is_err());
        assert!(!is_stored(&cache));
        drop(lead(&cache));
    }
}

#[test]
fn a_reader_knows_the_announced_length() {
    let cache = cache();
    let fields = [("cache-control", "max-age=60"), ("content-length", "3")];
    let mut writer = lead(&cache).publish(head(&cache, &fields), 1 << 20);
    let own = writer.reader();

    assert_eq!(own.size_hint().exact(), Some(3));
    assert!(!own.is_end_stream());
    writer.push(Bytes::from_static(b"abc")).unwrap();
    assert_eq!(writer.push(Bytes::from_static(b"d")), Err(Closed::TooLong));
}

#[test]
fn an_overflown_object_waits_for_its_slowest_reader_and_is_not_stored() {
    let cache = cache();
    let mut writer = lead(&cache).publish(fresh(&cache), 1000);
    let late = follow(&cache);
    let mut own = writer.reader();
    let mut cx = Context::from_waker(Waker::noop());
    let chunk = Bytes::from(vec![1u8; 100_000]);

    assert_eq!(writer.poll_ready(&mut cx), Poll::Ready(Ok(())));
    for _ in 0..3 {
        writer.push(chunk.clone()).unwrap();
    }

    assert!(writer.poll_ready(&mut cx).is_pending());
    assert_eq!(refusal(block_on(late.wait(&req(), &rules()))), CacheReason::TooLarge);
    block_on(own.frame()).unwrap().unwrap();
    assert_eq!(writer.poll_ready(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(lock(&writer.leader.flight.state).chunks.len(), 2);
    drop(lead(&cache));

    drop(own);
    assert_eq!(writer.poll_ready(&mut cx), Poll::Ready(Err(Closed::NoReader)));
    assert_eq!(writer.push(chunk), Err(Closed::NoReader));
    assert_eq!(writer.finish().unwrap_err(), CacheReason::TooLarge);
    assert!(!is_stored(&cache));
}

#[test]
fn readers_that_lag_cannot_make_the_fetches_hold_more_than_their_part() {
    let config = crate::config::Cache { max_size: 8 << 20, collapse_wait: Duration::from_secs(1) };
    let cache = Arc::new(Cache::new(&config));
    let held_max = config.max_size / HELD_PART;
    let chunk = Bytes::from(vec![1u8; 64 << 10]);
    let mut cx = Context::from_waker(Waker::noop());

    // Each has a reader that reads nothing, and comes as far as it may.
    let mut flights = Vec::new();
    for n in 0..20 {
        let Join::Lead(leader) = cache.join(
            &Key::new("app", "http", "h", &format!("/{n}")),
            &req(),
            100,
            &rules(),
            cache.epoch(&key()),
        ) else {
            panic!("not the leader");
        };
        let mut writer = leader.publish(fresh(&cache), 1 << 20);
        let reader = writer.reader();
        for _ in 0..16 {
            if writer.poll_ready(&mut cx).is_ready() {
                writer.push(chunk.clone()).unwrap();
            }
        }
        flights.push((writer, reader));
    }
    let held = &cache.flights.held;
    let now = held.bytes.load(Ordering::Relaxed);
    assert!(now <= held_max + 20 * (LAG_BYTES_MAX + chunk.len() as u64), "{now}");

    let mut stored = 0;
    for (writer, reader) in flights {
        drop(reader);
        match writer.finish() {
            Ok(_) => stored += 1,
            Err(reason) => assert_eq!(reason, CacheReason::Crowded),
        }
    }
    assert!((1..20).contains(&stored), "{stored}");
    assert_eq!(held.bytes.load(Ordering::Relaxed), 0, "all is given back");
}

#[test]
fn the_store_is_filled_though_all_readers_have_gone() {
    let cache = cache();
    let mut writer = lead(&cache).publish(fresh(&cache), 1000);

    drop(writer.reader());
    writer.push(Bytes::from_static(b"abc")).unwrap();
    writer.finish().unwrap();

    assert!(is_stored(&cache));
}

#[test]
fn an_invalidation_keeps_a_fetch_that_began_before_from_being_stored() {
    let cache = cache();
    let writer = lead(&cache).publish(fresh(&cache), 1000);

    cache.invalidate(&key(), cache.epoch(&key()));

    drop(lead(&cache));
    assert_eq!(writer.finish().unwrap_err(), CacheReason::Invalidated);
    assert!(!is_stored(&cache));
}

#[test]
fn a_follower_goes_alone_when_the_response_is_not_for_it() {
    let cache = cache();
    let fields = [("cache-control", "max-age=60"), ("vary", "accept")];
    let writer = lead(&cache).publish(head(&cache, &fields), 1000);
    let with = |name: &'static str| req().with(|req| req.fields.set(name, b"b"));
    let (other, authorized) = (with("accept"), with("authorization"));

    assert_eq!(refusal(block_on(follow(&cache).wait(&other, &rules()))), CacheReason::VaryMiss);
    assert_eq!(refusal(block_on(follow(&cache).wait(&authorized, &rules()))), CacheReason::Authorization);
    drop(writer);

    let unshared = [("cache-control", "no-cache"), ("etag", "\"a\"")];
    let leader = lead(&cache);
    let follower = follow(&cache);
    leader.publish(head(&cache, &unshared), 1000).finish().unwrap();
    assert_eq!(refusal(block_on(follower.wait(&req(), &rules()))), CacheReason::NotShareable);
}

#[test]
fn who_follows_one_that_finds_it_stored_is_answered_from_there() {
    let cache = cache();
    let leader = lead(&cache);
    let followers = [follow(&cache), follow(&cache)];
    let mut writer = cache.alone(&key(), cache.epoch(&key())).publish(fresh(&cache), 1000);
    writer.push(Bytes::from_static(b"abc")).unwrap();
    let entry = writer.finish().unwrap();

    leader.hand_on(entry.clone());

    for follower in followers {
        let Followed::Entry(found) = block_on(follower.wait(&req(), &rules())) else { panic!("no entry") };
        assert!(Arc::ptr_eq(&found, &entry));
    }
    assert!(matches!(cache.join(&key(), &req(), 110, &rules(), cache.epoch(&key())), Join::Hit { .. }));
}

#[test]
fn a_validated_entry_answers_those_who_wait() {
    let cache = cache();
    let entry = crate::cache::entry::tests::entry(&[("cache-control", "max-age=60")], "abc");
    let leader = lead(&cache);
    let follower = follow(&cache);

    let refreshed = |storable| Refreshed {
        entry: entry.clone(),
        answer: entry.clone(),
        of: entry.head.clone(),
        storable,
    };
    leader.land(refreshed(Ok(()))).unwrap();

    assert!(matches!(block_on(follower.wait(&req(), &rules())), Followed::Entry(_)));
    assert!(is_stored(&cache));

    let refused = refreshed(Err(CacheReason::NoStore));
    assert_eq!(cache.alone(&key(), cache.epoch(&key())).land(refused), Err(CacheReason::NoStore));
    assert!(!is_stored(&cache));
}

proptest! {
    #[test]
    fn a_reader_receives_exactly_the_written_bytes(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
        object_max in 0u64..3000,
    ) {
        let cache = cache();
        let mut writer = lead(&cache).publish(fresh(&cache), object_max);
        let own = writer.reader();
        for chunk in &chunks {
            writer.push(Bytes::copy_from_slice(chunk)).unwrap();
        }
        let written = chunks.concat();
        prop_assert_eq!(writer.finish().is_ok(), written.len() as u64 <= object_max);
        prop_assert_eq!(block_on(read(own)).unwrap(), written);
    }
}
