//! A request that the cache may answer: hit, or revalidate, or fetch for all who wait.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Response, header};
use http_body_util::BodyExt;

use crate::body::Body;
use crate::cache::{
    CacheReason, CacheStatus, Entry, Followed, Follower, Forward, Join, Key, Leader, Lookup, Times, Writer,
    respond, respond_stream, update_from_304,
};
use crate::proxy::exchange::{Exchange, unix_now};
use crate::proxy::origin::{self, Conditions, Fetched, Outgoing};
use crate::proxy::reply::Failure;

/// What is to be validated, and whether it may be used when the server fails (RFC 5861 section 4).
struct Stale {
    entry: Arc<Entry>,
    may_replace_an_error: bool,
}

/// Answers from the store, or fetches what is not in it.
pub async fn serve(x: &mut Exchange, out: Outgoing) -> Result<Response<Body>, Failure> {
    let (key, now) = (x.cache_key(), unix_now());
    let (why, stale) = match x.local.keep.cache.lookup(&key, &x.head, now) {
        Lookup::Hit { entry, age, ttl } => return Ok(hit(x, &entry, age, ttl)),
        Lookup::OnlyIfCached => {
            x.note_cache("miss", CacheReason::OnlyIfCached.as_str());
            return Err(Failure::OnlyIfCached);
        }
        Lookup::Miss(why) => (why, None),
        Lookup::Stale { entry, reason, allowed, .. } => {
            (reason, Some(Stale { entry, may_replace_an_error: allowed.on_error }))
        }
    };
    x.note_cache("miss", why.as_str());
    if x.head.method != Method::GET {
        // The answer to HEAD has no body that others could share.
        let fetched = origin::fetch(x, out, Conditions::AsSent).await?;
        return Ok(uncached(x, fetched, why, CacheReason::HeadOnly));
    }
    let joined = x.local.keep.cache.join(&key, &x.head, now);
    match joined {
        Join::Hit { entry, age, ttl } => Ok(hit(x, &entry, age, ttl)),
        Join::Lead(leader) => lead(x, leader, out, why, stale).await,
        Join::Follow(follower) => follow(x, &key, follower, out, why, stale).await,
    }
}

fn hit(x: &mut Exchange, entry: &Entry, age: u64, ttl: i64) -> Response<Body> {
    x.note_cache("hit", "");
    x.stored_to_client(respond(entry, &x.head, age), CacheStatus::Hit { ttl })
}

/// Fetches, for this request and all that wait for the same. Dropping `leader` on any failure lets them go.
async fn lead(
    x: &mut Exchange,
    leader: Leader,
    out: Outgoing,
    why: CacheReason,
    stale: Option<Stale>,
) -> Result<Response<Body>, Failure> {
    let asked = unix_now();
    let conditions = match &stale {
        Some(stale) if stale.entry.head.meta.has_validator() => Conditions::Of(&stale.entry.head.meta),
        _ => Conditions::Cleared,
    };
    let fetched = match (origin::fetch(x, out, conditions).await, &stale) {
        (Err(failure), Some(stale)) if failure.blames_server() && stale.may_replace_an_error => {
            return Ok(instead_of_error(x, &stale.entry));
        }
        (Ok(fetched), Some(stale))
            if fetched.parts.status.is_server_error() && stale.may_replace_an_error =>
        {
            return Ok(instead_of_error(x, &stale.entry));
        }
        (outcome, _) => outcome?,
    };
    let times = Times { asked, received: unix_now() };
    match &stale {
        Some(stale) if fetched.parts.status == 304 => {
            Ok(validated(x, leader, &stale.entry, fetched, why, times))
        }
        _ => Ok(publish(x, leader, fetched, why, times)),
    }
}

fn instead_of_error(x: &mut Exchange, entry: &Entry) -> Response<Body> {
    x.note_cache("stale", "stale-if-error");
    let (now, meta) = (unix_now(), &entry.head.meta);
    let ttl = meta.lifetime as i64 - meta.age(now) as i64;
    x.stored_to_client(respond(entry, &x.head, entry.age(now)), CacheStatus::Hit { ttl })
}

/// The server says that the stored response is still right (RFC 9111 section 4.3.4).
fn validated(
    x: &mut Exchange,
    leader: Leader,
    entry: &Entry,
    mut fetched: Fetched,
    why: CacheReason,
    times: Times,
) -> Response<Body> {
    x.note_cache("revalidated", why.as_str());
    let refreshed = update_from_304(entry, &x.head, &fetched.parts, times, object_max(x));
    let mut forward = Forward::new(why);
    forward.status = Some(fetched.parts.status);
    let entry = refreshed.entry.clone();
    match leader.land(refreshed) {
        Ok(()) => forward.stored = true,
        Err(reason) => forward.detail = Some(reason),
    }
    let response = respond(&entry, &x.head, entry.age(times.received));
    let mut response = x.stored_to_client(response, CacheStatus::Forward(forward));
    fetched.take_cookie(response.headers_mut());
    response
}

/// A new response: to this client, to the store if it may be stored, and to those who wait.
fn publish(
    x: &mut Exchange,
    leader: Leader,
    mut fetched: Fetched,
    why: CacheReason,
    times: Times,
) -> Response<Body> {
    let object_max = object_max(x);
    let head = match x.local.keep.cache.judge(&x.head, &fetched.parts, times, object_max) {
        Ok(head) => head,
        Err(reason) => {
            leader.release(reason);
            return uncached(x, fetched, why, reason);
        }
    };
    let writer = leader.publish(head, object_max);
    let (head, reader) = (writer.head().clone(), writer.reader());
    tokio::task::spawn_local(pump(writer, std::mem::take(&mut fetched.body)));
    let mut forward = Forward::new(why);
    forward.stored = true;
    let age = head.meta.age(times.received);
    let mut response = respond_stream(&head, &x.head, age, reader);
    if age == 0 {
        // RFC 9111 section 5.1: an Age says that a cache answered; this came from the server just now.
        response.headers_mut().remove(header::AGE);
    }
    let mut response = x.stored_to_client(response, CacheStatus::Forward(forward));
    fetched.take_cookie(response.headers_mut());
    response
}

/// From the server into the flight, at the server's pace while there is room, else at the readers'.
async fn pump(mut writer: Writer, mut body: Body) {
    loop {
        if writer.ready().await.is_err() {
            return;
        }
        match body.frame().await {
            None => {
                let _ = writer.finish();
                return;
            }
            // Trailers are not stored: they may depend on how the body was sent.
            Some(Ok(frame)) => {
                if frame.into_data().is_ok_and(|data| writer.push(data).is_err()) {
                    return;
                }
            }
            Some(Err(_)) => return writer.abort(),
        }
    }
}

/// Waits for another's fetch; goes alone when it cannot be shared, or takes too long.
async fn follow(
    x: &mut Exchange,
    key: &Key,
    follower: Follower,
    out: Outgoing,
    why: CacheReason,
    stale: Option<Stale>,
) -> Result<Response<Body>, Failure> {
    let began = Instant::now();
    let limit = x.local.keep.cache.collapse_wait();
    let followed = x.local.timers.timeout(limit, follower.wait(&x.head)).await;
    x.facts.queued = Some(began.elapsed());
    let followed = followed.unwrap_or(Followed::GoAlone(CacheReason::WaitedTooLong));
    let mut forward = Forward::new(why);
    forward.collapsed = true;
    let response = match followed {
        Followed::Stream(head, reader) => respond_stream(&head, &x.head, head.meta.age(unix_now()), reader),
        Followed::Entry(entry) => respond(&entry, &x.head, entry.age(unix_now())),
        Followed::GoAlone(_) => {
            let leader = x.local.keep.cache.alone(key);
            return lead(x, leader, out, why, stale).await;
        }
    };
    x.note_cache("collapsed", why.as_str());
    Ok(x.stored_to_client(response, CacheStatus::Forward(forward)))
}

/// The server's response as it is, with a word on why it is not stored.
fn uncached(x: &mut Exchange, fetched: Fetched, why: CacheReason, reason: CacheReason) -> Response<Body> {
    x.note_cache("miss", reason.as_str());
    let mut forward = Forward::new(why);
    forward.detail = Some(reason);
    let mut response = x.to_client(fetched);
    CacheStatus::Forward(forward).append(response.headers_mut());
    response
}

fn object_max(x: &Exchange) -> u64 {
    x.route_config().cache.as_ref().map_or(0, |cache| cache.max_object)
}
