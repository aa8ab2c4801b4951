//! A request that the cache may answer: hit, or revalidate, or fetch for all who wait.

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::answer::Answer;
use crate::body::Body;
use crate::cache::policy::{self, StaleAllowed, Trouble};
use crate::cache::{
    CacheReason, CacheStatus, Closed, Entry, Epoch, Followed, Follower, Forward, Join, Key, Leader, Lookup,
    Times, Writer, range, respond, respond_first, respond_stream, update_from_304,
};
use crate::clock::unix_now;
use crate::config::CacheMode;
use crate::fields::{self, Known};
use crate::proxy::Step;
use crate::proxy::exchange::{Exchange, note_stored};
use crate::proxy::origin::{self, Conditions, Fetched};
use crate::proxy::outgoing::Outgoing;
use crate::proxy::reply::Failure;

/// A request that the store has no answer for.
pub struct Miss {
    key: Key,
    /// From before the look-up.
    epoch: Epoch,
    /// Why it has none.
    why: CacheReason,
    /// What is to be validated, and when it may be used unvalidated.
    stale: Option<(Arc<Entry>, StaleAllowed)>,
    /// In `mode = "observe"`: whether the store would have answered.
    observed: Option<bool>,
}

/// Answers from the store, or says what is to be fetched.
pub(super) fn look_up(x: &mut Exchange, out: Outgoing) -> Result<Step, Failure> {
    let rules = x.rules();
    let (key, now) = (x.cache_key(), x.began_unix());
    let epoch = x.local.keep.cache.epoch(&key);
    let found = x.local.keep.cache.lookup(&key, &x.head, now, rules);
    let observed = (rules.mode == CacheMode::Observe).then_some(matches!(found, Lookup::Hit { .. }));
    let (why, stale) = match found {
        _ if observed.is_some() => (CacheReason::Disabled, None),
        Lookup::Hit { entry, age, ttl } => return Ok(Step::Answer(hit(x, &entry, age, ttl))),
        Lookup::OnlyIfCached => {
            x.note_cache("miss", CacheReason::OnlyIfCached.as_str());
            return Err(Failure::OnlyIfCached);
        }
        Lookup::Miss(why) => (why, None),
        Lookup::Stale { entry, reason, allowed, .. } => (reason, Some((entry, allowed))),
    };
    if observed.is_none() {
        x.narrow();
    }
    let miss = Miss { key, epoch, why, stale, observed };
    if let Some((entry, allowed)) = &miss.stale
        && allowed.while_revalidating
    {
        revalidate_behind(x, &miss);
        return Ok(Step::Answer(serve_stale(x, entry, CacheReason::StaleWhileRevalidate)));
    }
    Ok(Step::Fill(out, miss))
}

/// Fetches what is not in the store, or waits for who does.
pub(super) async fn fetch(x: &mut Exchange, out: Outgoing, miss: Miss) -> Result<Answer, Failure> {
    if let Some(is_hit) = miss.observed {
        return observe(x, out, &miss, is_hit).await;
    }
    x.note_cache("miss", miss.why.as_str());
    if x.head.method != Method::GET {
        return head_only(x, out, &miss).await;
    }
    let has_validator = miss.stale.as_ref().is_some_and(|(entry, _)| entry.head.meta.has_validator());
    if x.head.fields.has(Known::Range) && !has_validator {
        return part(x, out, &miss).await;
    }
    let joined = x.local.keep.cache.join(&miss.key, &x.head, unix_now(), x.rules(), miss.epoch);
    match joined {
        Join::Hit { entry, age, ttl } => Ok(hit(x, &entry, age, ttl)),
        Join::Lead(leader) => lead(x, leader, out, &miss).await,
        // What arrives is the whole; a part of it is sooner had from the server.
        Join::Follow(_) if x.head.fields.has(Known::Range) => part(x, out, &miss).await,
        Join::Follow(follower) => follow(x, follower, out, &miss).await,
    }
}

/// The answer to a POST that is the answer to GET too (RFC 9110 section 9.3.3): it says so by a
/// Content-Location that is its own address. `epoch` is from before it was asked for; the POST's own invalidation
/// of the key does not count.
pub fn answer_to_post(x: &mut Exchange, fetched: Fetched, epoch: Option<Epoch>) -> Answer {
    let Some(epoch) = epoch.filter(|_| x.head.method == Method::POST) else { return x.to_client(fetched) };
    let key = x.cache_key();
    let location = fetched.parts.fields.get("content-location").and_then(fields::visible);
    let is_own = location.and_then(|location| key.same_origin(location)).as_ref() == Some(&key);
    if !is_own || x.rules().mode != CacheMode::On || !x.is_all_keyed() {
        return x.to_client(fetched);
    }
    x.note_cache("miss", CacheReason::Method.as_str());
    let leader = x.local.keep.cache.alone(&key, epoch);
    let now = unix_now();
    let why = CacheReason::Method;
    let miss = Miss { key, epoch, why, stale: None, observed: None };
    publish(x, leader, fetched, &miss, Times { asked: now, received: now })
}

fn hit(x: &mut Exchange, entry: &Entry, age: u64, ttl: i64) -> Answer {
    x.note_cache("hit", "");
    x.note_hit_age(age);
    x.stored_to_client(respond(entry, &x.head, age), CacheStatus::Hit { ttl, detail: None })
}

/// A stale entry, where that is allowed.
fn serve_stale(x: &mut Exchange, entry: &Entry, why: CacheReason) -> Answer {
    x.note_cache("stale", why.as_str());
    let now = unix_now();
    let (age, ttl) = (entry.age(now), entry.head.meta.ttl(now));
    x.note_hit_age(age);
    x.stored_to_client(respond(entry, &x.head, age), CacheStatus::Hit { ttl, detail: Some(why) })
}

/// RFC 5861 section 3: one request asks the server while others are served what is here.
fn revalidate_behind(x: &Exchange, miss: &Miss) {
    let mut behind = x.behind();
    let joined = behind.local.keep.cache.join(&miss.key, &behind.head, unix_now(), x.rules(), miss.epoch);
    // Anything else: it is being done, or was done a moment ago.
    let Join::Lead(leader) = joined else { return };
    let (key, stale) = (miss.key.clone(), miss.stale.clone());
    let miss = Miss { key, epoch: miss.epoch, why: miss.why, stale, observed: None };
    let timers = behind.local.timers.clone();
    tokio::task::spawn_local(timers.in_time(async move {
        // Nobody waits for the answer; what of it is stored is read to its end all the same.
        let _ = lead(&mut behind, leader, Outgoing::nothing(), &miss).await;
    }));
}

/// Fetches, for this request and all that wait for the same. Dropping `leader` on any failure lets them go.
async fn lead(x: &mut Exchange, leader: Leader, out: Outgoing, miss: &Miss) -> Result<Answer, Failure> {
    let asked = unix_now();
    let cache = &x.local.keep.cache;
    // What has been purged since the look-up is neither asked about nor served.
    let stale = miss.stale.as_ref().filter(|(entry, _)| cache.is_current(&miss.key, entry, miss.epoch));
    let is_candidate = miss.why == CacheReason::VaryMiss && stale.is_none();
    let candidates = if is_candidate { cache.candidates(&miss.key) } else { Vec::new() };
    let conditions = match stale {
        Some((entry, _)) if entry.head.meta.has_validator() => Conditions::Of(&entry.head.meta),
        None if !candidates.is_empty() => Conditions::AnyOf(&candidates),
        _ => Conditions::Cleared,
    };
    let outcome = origin::fetch(x, out, conditions).await;
    if let Some((entry, trouble)) = stand_in(x, &outcome, miss) {
        leader.fail(trouble);
        return Ok(serve_stale(x, &entry, CacheReason::StaleIfError));
    }
    let mut fetched = outcome?;
    let times = Times { asked, received: unix_now() };
    if fetched.parts.status == StatusCode::NOT_MODIFIED {
        let parts = &fetched.parts;
        let named = match stale {
            Some((entry, _)) => policy::is_updated_by(&entry.head.meta, parts).then_some(entry),
            None => candidates.iter().find(|entry| policy::is_named_by(&entry.head.meta, parts)),
        };
        match named {
            Some(entry) => return Ok(validated(x, leader, entry, fetched, miss, times)),
            None if stale.is_none() && candidates.is_empty() => {}
            // It speaks of none of those that were asked about: asked again, about none.
            None => fetched = origin::fetch(x, Outgoing::nothing(), Conditions::Cleared).await?,
        }
    }
    Ok(publish(x, leader, fetched, miss, times))
}

/// What may be served stale in place of this outcome, if it is one, and how the server has failed.
fn stand_in(x: &Exchange, outcome: &Result<Fetched, Failure>, miss: &Miss) -> Option<(Arc<Entry>, Trouble)> {
    let trouble = match outcome {
        Ok(fetched) if fetched.parts.status.is_server_error() => Trouble::Error,
        Err(failure) if failure.blames_server() => Trouble::Unreachable,
        _ => return None,
    };
    Some((stale_for(x, trouble, miss)?, trouble))
}

/// What may be served stale to this request when the server has failed, and has not been purged while it was awaited.
fn stale_for(x: &Exchange, trouble: Trouble, miss: &Miss) -> Option<Arc<Entry>> {
    let (entry, _) = miss.stale.as_ref().filter(|(_, allowed)| allowed.stands_in_for(trouble))?;
    let cache = &x.local.keep.cache;
    if cache.is_current(&miss.key, entry, miss.epoch) {
        return Some(entry.clone());
    }
    // What has been purged softly may be there still, on terms of its own.
    match cache.lookup(&miss.key, &x.head, unix_now(), x.rules()) {
        Lookup::Stale { entry, allowed, .. } if allowed.stands_in_for(trouble) => Some(entry),
        _ => None,
    }
}

/// A part of what is not stored: asked for as it is, stored as the part that it is.
async fn part(x: &mut Exchange, out: Outgoing, miss: &Miss) -> Result<Answer, Failure> {
    let asked = unix_now();
    let leader = x.local.keep.cache.alone(&miss.key, miss.epoch);
    let outcome = origin::fetch(x, out, Conditions::AsSent).await;
    if let Some((entry, _)) = stand_in(x, &outcome, miss) {
        return Ok(serve_stale(x, &entry, CacheReason::StaleIfError));
    }
    Ok(publish(x, leader, outcome?, miss, Times { asked, received: unix_now() }))
}

/// The answer to HEAD has no body that others could share, but may tell whether what is stored is still
/// right (RFC 9111 section 4.3.5).
async fn head_only(x: &mut Exchange, out: Outgoing, miss: &Miss) -> Result<Answer, Failure> {
    let asked = unix_now();
    let outcome = origin::fetch(x, out, Conditions::AsSent).await;
    if let Some((entry, _)) = stand_in(x, &outcome, miss) {
        return Ok(serve_stale(x, &entry, CacheReason::StaleIfError));
    }
    let fetched = outcome?;
    let times = Times { asked, received: unix_now() };
    x.local.keep.cache.freshen_by_head(&miss.key, &x.head, &fetched.parts, times, x.rules(), miss.epoch);
    Ok(uncached(x, fetched, miss.why, CacheReason::HeadOnly))
}

/// The server says that the stored response is still right (RFC 9111 section 4.3.4).
fn validated(
    x: &mut Exchange,
    leader: Leader,
    entry: &Entry,
    fetched: Fetched,
    miss: &Miss,
    times: Times,
) -> Answer {
    x.note_cache("revalidated", miss.why.as_str());
    let refreshed = update_from_304(entry, &x.head, &fetched.parts, times, x.rules());
    let mut forward = Forward::new(miss.why);
    forward.status = Some(fetched.parts.status);
    let entry = refreshed.answer.clone();
    let landed = leader.land(refreshed);
    x.note_stored(landed);
    match landed {
        Ok(()) => forward.stored = true,
        Err(reason) => forward.detail = Some(reason),
    }
    let response = respond(&entry, &x.head, entry.age(times.received));
    let mut answer = x.stored_to_client(response, CacheStatus::Forward(forward));
    if let Some(cookie) = &fetched.cookie {
        answer.append(Known::SetCookie, cookie.as_bytes());
    }
    answer
}

/// A new response: to this client, to the store if it may be stored, and to those who wait.
fn publish(x: &mut Exchange, leader: Leader, mut fetched: Fetched, miss: &Miss, times: Times) -> Answer {
    let head = match x.local.keep.cache.judge(&miss.key, &x.head, &fetched.parts, times, x.rules()) {
        Ok(head) => head,
        Err(reason) => {
            leader.release(reason);
            if let Some((entry, _)) = &miss.stale
                && policy::is_about_now(fetched.parts.status)
            {
                x.local.keep.cache.outdate(&miss.key, entry);
            }
            return uncached(x, fetched, miss.why, reason);
        }
    };
    let writer = leader.publish(head, x.rules().max_object);
    let (head, reader) = (writer.head().clone(), writer.reader());
    pump(x, writer, std::mem::take(&mut fetched.body));
    let mut forward = Forward::new(miss.why);
    forward.stored = true;
    // Whoever asked gets all that the server said, also what others may not have.
    fetched.body = Body::wrap(reader);
    respond_first(&head, &x.head, &mut fetched.parts, &mut fetched.body);
    let mut answer = x.to_client(fetched);
    CacheStatus::Forward(forward).append(&mut answer);
    answer
}

/// From the server into the flight, in a task of its own: the store may want what the client does not.
fn pump(x: &Exchange, writer: Writer, body: Body) {
    let (local, view) = (x.local.clone(), x.view.clone());
    let timers = local.timers.clone();
    let pumped = async move { note_stored(&local, &view, pumped(writer, body).await) };
    tokio::task::spawn_local(timers.in_time(pumped));
}

/// At the server's pace while there is room, else at the readers'.
async fn pumped(mut writer: Writer, mut body: Body) -> Result<(), CacheReason> {
    loop {
        if writer.ready().await.is_err() {
            return Err(CacheReason::TooLarge);
        }
        match body.frame().await {
            None => return writer.finish().map(drop),
            Some(Ok(frame)) => match frame.into_data().map(|data| writer.push(data)) {
                Ok(Err(Closed::NoReader)) => return Err(CacheReason::TooLarge),
                Ok(Err(Closed::TooLong)) => return Err(CacheReason::CutShort),
                Ok(Ok(())) => {}
                Err(frame) => {
                    frame.into_trailers().into_iter().for_each(|trailers| writer.trailers(trailers))
                }
            },
            // Dropping the writer cuts the readers off.
            Some(Err(_)) => return Err(CacheReason::CutShort),
        }
    }
}

/// Waits for another's fetch; goes alone when it cannot be shared, or takes too long.
async fn follow(x: &mut Exchange, follower: Follower, out: Outgoing, miss: &Miss) -> Result<Answer, Failure> {
    let began = x.local.timers.now();
    let limit = x.local.keep.cache.collapse_wait();
    let followed = x.local.timers.timeout(limit, follower.wait(&x.head, x.rules())).await;
    x.facts.queued = Some(x.local.timers.now() - began);
    let followed = followed.unwrap_or(Followed::GoAlone(CacheReason::WaitedTooLong));
    let mut forward = Forward::new(miss.why);
    forward.collapsed = true;
    if let Followed::Failed(trouble) = followed
        && let Some(entry) = stale_for(x, trouble, miss)
    {
        return Ok(serve_stale(x, &entry, CacheReason::StaleIfError));
    }
    let response = match followed {
        Followed::Stream(head, reader) => respond_stream(&head, &x.head, head.meta.age(unix_now()), reader),
        Followed::Entry(entry) => respond(&entry, &x.head, entry.age(unix_now())),
        Followed::Failed(_) | Followed::GoAlone(_) => {
            let leader = x.local.keep.cache.alone(&miss.key, miss.epoch);
            return lead(x, leader, out, miss).await;
        }
    };
    x.note_cache("collapsed", miss.why.as_str());
    Ok(x.stored_to_client(response, CacheStatus::Forward(forward)))
}

/// `mode = "observe"`: the server answers every request as if there were no cache; what the cache would
/// have done is counted, and what it would have stored is stored.
async fn observe(x: &mut Exchange, out: Outgoing, miss: &Miss, is_hit: bool) -> Result<Answer, Failure> {
    x.note_cache(if is_hit { "observed-hit" } else { "observed-miss" }, "");
    let asked = unix_now();
    // Before the fetch, so that a purge meanwhile is not missed.
    let leader = x.local.keep.cache.alone(&miss.key, miss.epoch);
    let mut fetched = origin::fetch(x, out, Conditions::AsSent).await?;
    let times = Times { asked, received: unix_now() };
    let cache = &x.local.keep.cache;
    if !is_hit
        && range::asked(&x.head).is_none()
        && let Ok(head) = cache.judge(&miss.key, &x.head, &fetched.parts, times, x.rules())
    {
        let writer = leader.publish(head, x.rules().max_object);
        let reader = writer.reader();
        let body = std::mem::replace(&mut fetched.body, Body::wrap(reader));
        pump(x, writer, body);
    }
    Ok(x.to_client(fetched))
}

/// The server's response as it is, with a word on why it is not stored.
fn uncached(x: &mut Exchange, fetched: Fetched, why: CacheReason, reason: CacheReason) -> Answer {
    x.note_cache("miss", reason.as_str());
    x.note_stored(Err(reason));
    let mut forward = Forward::new(why);
    forward.detail = Some(reason);
    let mut answer = x.to_client(fetched);
    CacheStatus::Forward(forward).append(&mut answer);
    answer
}
