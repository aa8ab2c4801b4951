//! RFC 9111, decided: pure functions of heads and of the time, which is passed in.
//!
//! What a response says is read once, when it arrives, into a [`Meta`]; a hit
//! costs a few comparisons. Time is in whole seconds since 1970.

use http::HeaderName;
use http::Method;
use http::StatusCode;
use http::header;

use crate::cache::directives::CacheControl;
use crate::cache::directives::age_of;
use crate::cache::directives::parse_date;
use crate::cache::range::Part;
use crate::cache::range::asked;
use crate::cache::range::carried;
use crate::cache::status::CacheReason;
use crate::cache::tags::Tags;
use crate::cache::vary::Choosing;
use crate::cache::vary::Selection;
use crate::config::CacheMode;
use crate::config::RouteCache;
use crate::config::ServerFreshness;
use crate::config::SetCookie;
use crate::fields;
use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::RequestHead;
use crate::fields::ResponseHead;

/// Longest lifetime that we guess; a day, as Varnish's and Squid's guides advise.
const HEURISTIC_SECONDS_MAX: u64 = 86_400;

/// How long a stale entry may stand in when no server answers and nobody said how long: the permission
/// of RFC 9111 §4.2.4 to a cache that is disconnected, for as long as an operator takes to wake up.
const DISCONNECTED_SECONDS: u64 = 600;

/// How far a clock may be set back before what was stored before is validated: what a time server does to a clock that
/// was right is less, and so is what a request that began earlier lags behind.
const CLOCK_SECONDS_MAX: u64 = 60;

/// Fields by which some servers let a request be about something else than its method and target say.
/// They are in no key, so what they bring about is not stored.
const UNKEYED: [&str; 9] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-host",
    "x-original-host",
    "x-http-host-override",
];

/// What to do with a request before any server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestPlan {
    /// Ask the store.
    Lookup,
    /// Pass the request on; neither look nor store.
    Bypass(CacheReason),
}

/// When a response was asked for and when its head arrived, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The request left.
    pub asked: u64,
    /// The response's head arrived.
    pub received: u64,
}

/// All that a stored response's head says about its use, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// When the head arrived or was last validated.
    pub received: u64,
    /// Its age at that moment (RFC 9111 §4.2.3).
    pub initial_age: u64,
    /// How long it is fresh, counted from age zero (RFC 9111 §4.2.1).
    pub lifetime: u64,
    /// Seconds past the lifetime in which it may be served while being validated (RFC 5861 §3).
    pub stale_while_revalidate: u64,
    /// Seconds past the lifetime in which it may stand in for an error (RFC 5861 §4).
    pub stale_if_error: u64,
    /// The same where there is not even an error, because no server answers.
    pub stale_if_unreachable: u64,
    /// `no-cache`: every use is validated.
    pub no_cache: bool,
    /// Never served stale (RFC 9111 §4.2.4).
    pub must_revalidate: bool,
    /// May answer requests with `Authorization` (RFC 9111 §3.5).
    pub shared_when_authorized: bool,
    /// For `If-None-Match`.
    pub etag: Option<Box<[u8]>>,
    /// For `If-Modified-Since`.
    pub last_modified: Option<Box<[u8]>>,
    /// When the server made the response, or else when it arrived.
    pub date: u64,
    /// What `If-Modified-Since` of a client is compared with: Last-Modified, or else Date.
    pub modified: u64,
    /// The announced length of the body.
    pub content_length: Option<u64>,
    /// The request fields that selected this response.
    pub selection: Selection,
    /// Fields that are not stored.
    pub withheld: Vec<HeaderName>,
    /// Of a 206: what it is a part of.
    pub part: Option<Part>,
    /// By what it can be purged, besides its address.
    pub tags: Tags,
    /// Stored to be counted only: the server saw more of the request than the key holds.
    pub is_observed: bool,
    /// Purged softly, or in a group that was invalidated: only a response that names it by a validator makes it fresh.
    pub is_doubted: bool,
}

/// Whether an entry may answer a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assessment {
    /// It may; `ttl` is negative when the client accepted a stale one.
    Fresh {
        /// Its age in seconds.
        age: u64,
        /// Seconds of freshness left.
        ttl: i64,
    },
    /// Only after the server has validated it.
    Stale {
        /// Its age in seconds.
        age: u64,
        /// Seconds of freshness left, mostly negative.
        ttl: i64,
        /// Why it may not be used as it is.
        reason: CacheReason,
        /// When it may be used nevertheless.
        allowed: StaleAllowed,
    },
}

/// What RFC 5861 lets be done with a stale entry at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StaleAllowed {
    /// Serve it now and validate it behind the client's back.
    pub while_revalidating: bool,
    /// Serve it in place of a server's 5xx.
    pub on_error: bool,
    /// Serve it when no server answers.
    pub when_unreachable: bool,
}

/// How a server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answered 5xx.
    Error,
    /// It did not answer.
    Unreachable,
}

impl StaleAllowed {
    /// Whether it may be served in place of what a server did not say.
    pub fn stands_in_for(self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Error => self.on_error,
            Trouble::Unreachable => self.when_unreachable,
        }
    }
}

/// The answer to a client's own conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// 304.
    NotModified,
    /// The whole response.
    Full,
}

impl Meta {
    /// RFC 9111 §4.2.3: `current_age`.
    pub fn age(&self, now: u64) -> u64 {
        self.initial_age.saturating_add(now.saturating_sub(self.received))
    }

    /// Seconds of freshness left; negative when stale.
    pub fn ttl(&self, now: u64) -> i64 {
        i64::try_from(self.lifetime).unwrap_or(i64::MAX).saturating_sub_unsigned(self.age(now))
    }

    /// True when requests that waited for it may use it without asking again.
    pub fn is_shareable(&self) -> bool {
        !self.no_cache && self.lifetime > self.initial_age && self.part.is_none()
    }

    /// The entity tag, if it is a strong one (RFC 9110 §8.8.1).
    pub fn strong_etag(&self) -> Option<&[u8]> {
        self.etag.as_deref().filter(|etag| etag.starts_with(b"\""))
    }

    /// True when the server can be asked whether it has changed.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// Whether the store is asked at all; `route` is the route's `cache` setting.
pub fn plan_request(head: &RequestHead, route: Option<&RouteCache>) -> RequestPlan {
    use CacheReason as Why;
    let Some(rules) = route else { return RequestPlan::Bypass(Why::Disabled) };
    let has = |name: Known| head.fields.has(name);
    let why = if head.method != Method::GET && head.method != Method::HEAD {
        Why::Method
    } else if has(Known::Upgrade) {
        Why::Upgrade
    } else if has(Known::TransferEncoding)
        || head.fields.get(Known::ContentLength).is_some_and(|length| length != b"0")
    {
        Why::RequestBody
    } else if has(Known::Range) && asked(head).is_none() {
        // Several ranges at once are the server's to put together.
        Why::Range
    } else if has(Known::IfMatch) || has(Known::IfUnmodifiedSince) {
        Why::Precondition
    } else if has_unkeyed(head) || hides_field(head) {
        Why::UnkeyedInput
    } else if has(Known::CacheControl) && asks(head, rules).no_store {
        Why::RequestNoStore
    } else if is_bypassed(head, rules) {
        Why::Configured
    } else {
        return RequestPlan::Lookup;
    };
    RequestPlan::Bypass(why)
}

/// True for any of [`UNKEYED`].
fn has_unkeyed(head: &RequestHead) -> bool {
    let is_unkeyed =
        |name: &[u8]| name.starts_with(b"x-") && UNKEYED.iter().any(|own| own.as_bytes() == name);
    head.fields.iter().any(|field| field.known() == Known::Other && is_unkeyed(field.name()))
}

/// True when `Connection` takes a field away (RFC 9110 §7.6.1): the server answers without it, and a `Vary`
/// that names it would give the answer to those who sent it to the server.
fn hides_field(head: &RequestHead) -> bool {
    const USUAL: [&str; 4] = ["keep-alive", "close", "upgrade", "te"];
    head.fields
        .elements(Known::Connection)
        .filter(|name| !USUAL.iter().any(|usual| name.eq_ignore_ascii_case(usual.as_bytes())))
        .any(|name| head.fields.has(&*name.to_ascii_lowercase()))
}

/// The operator's own conditions.
fn is_bypassed(head: &RequestHead, rules: &RouteCache) -> bool {
    let bypass = &rules.bypass;
    bypass.headers.iter().any(|name| head.fields.has(name))
        || bypass.cookies.iter().any(|name| fields::cookie(&head.fields, name).is_some())
        || !bypass.query.is_empty()
            && head.uri.query().unwrap_or_default().split('&').any(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                bypass.query.iter().any(|pattern| pattern.matches(name))
            })
}

/// What the client's own directives ask, as far as the operator lets them.
pub fn asks(head: &RequestHead, rules: &RouteCache) -> CacheControl {
    if rules.client_directives { CacheControl::of_request(head) } else { CacheControl::default() }
}

/// Whether a response may be stored, and on what terms (RFC 9111 §3).
///
/// In order: method; status; `no-store` unless `must-understand` and understood; `private`;
/// Set-Cookie without a lifetime in so many words (no rule of the RFC: a shared session is too high a
/// price for a guess); Authorization; Vary; size; a lifetime or a validator. The answer to a POST needs
/// a lifetime in so many words (RFC 9110 §9.3.3); the caller sees to its Content-Location.
pub fn judge_response(
    req: &RequestHead,
    res: &ResponseHead,
    times: Times,
    rules: &RouteCache,
) -> Result<Meta, CacheReason> {
    let control = control_of(res, rules);
    let spoken = spoken_lifetime(res, &control, times.received);
    match req.method {
        Method::GET => {}
        Method::POST if spoken.is_some() && res.status == StatusCode::OK => {}
        Method::HEAD => return Err(CacheReason::HeadOnly),
        _ => return Err(CacheReason::Method),
    }
    refuse_status(res.status, &control)?;
    refuse_secrets(req, res, &control, spoken, rules)?;
    let part = part(req, res, rules)?;
    let selection = Selection::of(&req.fields, &res.fields, &rules.key)?;
    let content_length = content_length(&res.fields);
    if content_length.is_some_and(|length| length > rules.max_object) {
        return Err(CacheReason::TooLarge);
    }
    let lifetime = match rules.server_freshness {
        ServerFreshness::Respect => spoken.unwrap_or_else(|| unspoken_lifetime(res, &control, times, rules)),
        _ => rules.ttl.map_or(0, |ttl| ttl.as_secs()),
    };
    let mut meta = read_meta(res, control, times, lifetime, rules);
    (meta.part, meta.selection, meta.content_length) = (part, selection, content_length);
    let is_useful_later = meta.stale_while_revalidate > 0 || meta.stale_if_error > 0;
    let is_fresh = !meta.no_cache && meta.lifetime > meta.initial_age;
    // An error that is kept only to be validated would become its own stand-in at the next error, and
    // a part that is stale is of no use.
    let is_worth_validating = meta.has_validator() && res.status.as_u16() < 400 || is_useful_later;
    if is_fresh || is_worth_validating && meta.part.is_none() {
        Ok(meta)
    } else {
        Err(CacheReason::NoFreshness)
    }
}

/// RFC 9110 §15.3.7: what a 206 is a part of; one that cannot be told is not stored.
fn part(req: &RequestHead, res: &ResponseHead, rules: &RouteCache) -> Result<Option<Part>, CacheReason> {
    if res.status != StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    // Without one question there is no one answer.
    asked(req).ok_or(CacheReason::Partial)?;
    let asked = req.fields.get(Known::Range).ok_or(CacheReason::Partial)?.into();
    let (first, last, complete) = carried(&res.fields).ok_or(CacheReason::Partial)?;
    if content_length(&res.fields).is_some_and(|length| length > (last - first).saturating_add(1)) {
        return Err(CacheReason::Partial);
    }
    Ok(Some(Part { first, complete, asked, object_max: rules.max_object }))
}

/// True when this very message gives a lifetime in so many words.
pub fn gives_lifetime(res: &ResponseHead, now: u64, rules: &RouteCache) -> bool {
    spoken_lifetime(res, &control_of(res, rules), now).is_some_and(|seconds| seconds > 0)
}

fn control_of(res: &ResponseHead, rules: &RouteCache) -> CacheControl {
    match rules.server_freshness {
        ServerFreshness::Ignore => CacheControl::default(),
        _ => CacheControl::of_response(&res.fields, rules.targeted),
    }
}

/// Whether an entry may answer `req` now (RFC 9111 §4.2, §5.2.1, §5.2.2).
pub fn assess(meta: &Meta, req: &RequestHead, now: u64, rules: &RouteCache) -> Assessment {
    let asks = asks(req, rules);
    let age = meta.age(now);
    let ttl = meta.ttl(now);
    let overdue = age.saturating_sub(meta.lifetime);
    // Set back, a clock cannot tell the age of what came before.
    let is_from_the_future = meta.received > now.saturating_add(CLOCK_SECONDS_MAX);
    let is_stale = age >= meta.lifetime || is_from_the_future;
    let accepts_stale = !meta.must_revalidate && asks.max_stale.is_some_and(|most| overdue <= most);
    // RFC 9111 §5.2.1.1: what is too old for the client is stale for it, and max-stale says how stale it may be.
    let beyond = if meta.must_revalidate { 0 } else { asks.max_stale.unwrap_or(0) };
    let reason = if meta.no_cache {
        CacheReason::MustValidate
    } else if asks.no_cache || asks.max_age.is_some_and(|most| age > most.saturating_add(beyond)) {
        CacheReason::RequestDirective
    } else if is_stale && !accepts_stale {
        CacheReason::Stale
    } else if asks.min_fresh.is_some_and(|least| ttl < i64::try_from(least).unwrap_or(i64::MAX)) {
        CacheReason::RequestDirective
    } else {
        return Assessment::Fresh { age, ttl };
    };
    let clients_error = if meta.must_revalidate { 0 } else { asks.stale_if_error.unwrap_or(0) };
    let within = |window: u64| !meta.no_cache && (!is_stale || overdue < window);
    let on_error = meta.stale_if_error.max(clients_error);
    // Who says how fresh or stale it must be does not get it staler.
    let has_limit = asks.max_stale.is_some() || asks.min_fresh.is_some();
    let allowed = StaleAllowed {
        while_revalidating: reason == CacheReason::Stale
            && !has_limit
            && overdue < meta.stale_while_revalidate,
        on_error: within(on_error),
        when_unreachable: within(on_error.max(meta.stale_if_unreachable)),
    };
    Assessment::Stale { age, ttl, reason, allowed }
}

/// True when `req` may be answered by a response of these terms at all, fresh or not: its Vary
/// fields (RFC 9111 §4.1), what the operator adds to the key, and its `Authorization` (§3.5).
pub fn select(
    meta: &Meta,
    req: &RequestHead,
    choosing: &Choosing<'_>,
    rules: &RouteCache,
) -> Result<(), CacheReason> {
    if !meta.selection.matches(choosing) || !meta.selection.covers(&rules.key) {
        return Err(CacheReason::VaryMiss);
    }
    if req.fields.has(Known::Authorization) && !meta.shared_when_authorized {
        return Err(CacheReason::Authorization);
    }
    Ok(())
}

/// Answers the client's conditions (RFC 9110 §13.2.2, RFC 9111 §4.3.2): If-None-Match, and only
/// without it If-Modified-Since; for a success only.
pub fn conditional(req: &RequestHead, status: StatusCode, meta: &Meta) -> Conditional {
    let is_unmodified = if !status.is_success() {
        false
    } else if req.fields.has(Known::IfNoneMatch) {
        req.fields.get_all(Known::IfNoneMatch).any(|line| names_etag(line, meta.etag.as_deref()))
    } else {
        let since = req.fields.get(Known::IfModifiedSince);
        since.and_then(|since| parse_date(since, meta.received)).is_some_and(|since| meta.modified <= since)
    };
    if is_unmodified { Conditional::NotModified } else { Conditional::Full }
}

/// The entry's validators, which go to the server in place of the client's conditions (RFC 9111 §4.3.1).
pub fn validators(meta: &Meta) -> Fields {
    let etag = meta.etag.iter().map(|etag| ("if-none-match", etag));
    let modified = meta.last_modified.iter().map(|at| ("if-modified-since", at));
    etag.chain(modified).collect()
}

/// True when the answer to a HEAD speaks of the stored representation, by every validator and length
/// that it names (RFC 9111 §4.3.5).
pub fn is_same_representation(meta: &Meta, res: &ResponseHead) -> bool {
    let agrees =
        |name: Known, stored: Option<&[u8]>| res.fields.get(name).is_none_or(|told| Some(told) == stored);
    agrees(Known::Etag, meta.etag.as_deref())
        && agrees(Known::LastModified, meta.last_modified.as_deref())
        && content_length(&res.fields).is_none_or(|told| meta.content_length == Some(told))
}

/// True when the answer to a HEAD that speaks of the stored representation does so by a validator, and not only by
/// its silence or its length: that is as good as a validation.
pub fn is_confirmed_by(res: &ResponseHead) -> bool {
    res.fields.has(Known::Etag) || res.fields.has(Known::LastModified)
}

/// Asks whether one of these is the right one for a request that none of them was chosen by (RFC 9111
/// §4.3.1): the server says which, by its entity tag.
pub fn candidates<'a>(etags: impl Iterator<Item = &'a [u8]>) -> Fields {
    let list: Vec<&[u8]> = etags.collect();
    Fields::from_iter([("if-none-match", list.join(&b", "[..]))])
}

/// True when a 304 may update the response that was asked about: a strong entity tag in it must be that
/// response's own (RFC 9111 §4.3.4).
pub fn is_updated_by(meta: &Meta, res304: &ResponseHead) -> bool {
    let etag = res304.fields.get(Known::Etag).filter(|etag| etag.starts_with(b"\""));
    etag.is_none_or(|etag| meta.etag.as_deref() == Some(etag))
}

/// True when a 304 speaks of a response with these terms, by its entity tag (RFC 9111 §4.3.4).
pub fn is_named_by(meta: &Meta, res304: &ResponseHead) -> bool {
    res304.fields.get(Known::Etag).is_some_and(|etag| names_etag(etag, meta.etag.as_deref()))
}

/// True for an answer that says what there is now: not of a part only, nor that the server cannot say it at present.
pub fn is_about_now(status: StatusCode) -> bool {
    !status.is_server_error() && !matches!(status.as_u16(), 206 | 304 | 408 | 416 | 425 | 429)
}

/// True when this exchange makes stored responses of its key worthless (RFC 9111 §4.4): an unsafe
/// or unknown method that did not fail.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

fn refuse_status(status: StatusCode, control: &CacheControl) -> Result<(), CacheReason> {
    match status.as_u16() {
        // 416 speaks of a Range, which is in no key: it would be the answer to all.
        100..=199 | 304 | 416 => return Err(CacheReason::Status),
        _ => {}
    }
    // RFC 9111 §5.2.2.3: must-understand overrides no-store for a known status.
    if control.must_understand {
        return if is_understood(status) { Ok(()) } else { Err(CacheReason::Status) };
    }
    if control.no_store { Err(CacheReason::NoStore) } else { Ok(()) }
}

fn refuse_secrets(
    req: &RequestHead,
    res: &ResponseHead,
    control: &CacheControl,
    spoken: Option<u64>,
    rules: &RouteCache,
) -> Result<(), CacheReason> {
    if asks(req, rules).no_store {
        return Err(CacheReason::RequestNoStore);
    }
    if control.private {
        return Err(CacheReason::Private);
    }
    let is_meant = rules.set_cookie == SetCookie::Explicit && spoken.is_some_and(|seconds| seconds > 0);
    // A cookie that the server keeps from storage (no-cache="set-cookie") harms nobody.
    let is_withheld = control.withheld.contains(&header::SET_COOKIE);
    if res.fields.has(Known::SetCookie) && !is_meant && !is_withheld {
        return Err(CacheReason::SetCookie);
    }
    if req.fields.has(Known::Authorization) && !shared_when_authorized(control) {
        return Err(CacheReason::Authorization);
    }
    Ok(())
}

fn shared_when_authorized(control: &CacheControl) -> bool {
    control.public || control.must_revalidate || control.s_maxage.is_some()
}

fn read_meta(
    res: &ResponseHead,
    control: CacheControl,
    times: Times,
    lifetime: u64,
    rules: &RouteCache,
) -> Meta {
    let now = times.received;
    let date = date_at(res, Known::Date, now).unwrap_or(now);
    let delay = now.saturating_sub(times.asked);
    let apparent_age = now.saturating_sub(date);
    let told_age = age_of(&res.fields).map_or(0, |age| age.saturating_add(delay));
    let modified = date_at(res, Known::LastModified, now);
    let windows = Windows::of(&control, rules);
    Meta {
        received: now,
        initial_age: apparent_age.max(told_age),
        lifetime,
        stale_while_revalidate: windows.while_revalidating,
        stale_if_error: windows.on_error,
        stale_if_unreachable: windows.when_unreachable,
        no_cache: control.no_cache,
        must_revalidate: control.must_revalidate
            || control.proxy_revalidate
            || control.s_maxage.is_some()
            || control.no_cache,
        shared_when_authorized: shared_when_authorized(&control),
        etag: res.fields.get(Known::Etag).map(Box::from),
        last_modified: modified.and_then(|_| res.fields.get(Known::LastModified).map(Box::from)),
        date,
        modified: modified.unwrap_or(date),
        content_length: None,
        selection: Selection::default(),
        withheld: control.withheld,
        part: None,
        tags: Tags::of(&res.fields),
        is_observed: rules.mode == CacheMode::Observe,
        is_doubted: false,
    }
}

/// For how long a response may be served stale, in seconds past its lifetime.
struct Windows {
    while_revalidating: u64,
    on_error: u64,
    when_unreachable: u64,
}

impl Windows {
    /// Nothing is served stale that the server forbids (RFC 9111 §4.2.4). `s-maxage` forbids it too
    /// (§5.2.2.10), but for what the server allows beside it in so many words: it can mean nothing else.
    fn of(control: &CacheControl, rules: &RouteCache) -> Self {
        let (revalidate, error) = (control.stale_while_revalidate, control.stale_if_error);
        if control.must_revalidate || control.proxy_revalidate || control.no_cache {
            return Windows { while_revalidating: 0, on_error: 0, when_unreachable: 0 };
        }
        if control.s_maxage.is_some() {
            let on_error = error.unwrap_or(0);
            return Windows {
                while_revalidating: revalidate.unwrap_or(0),
                on_error,
                when_unreachable: on_error,
            };
        }
        let operators = rules.stale_if_error.map(|window| window.as_secs());
        let on_error = error.or(operators).unwrap_or(0);
        Windows {
            while_revalidating: revalidate.unwrap_or(rules.stale_while_revalidate.as_secs()),
            on_error,
            when_unreachable: on_error.max(operators.unwrap_or(DISCONNECTED_SECONDS)),
        }
    }
}

/// An invalid Date counts as the time of receipt.
fn date_at(res: &ResponseHead, name: Known, now: u64) -> Option<u64> {
    res.fields.get(name).and_then(|value| parse_date(value, now))
}

/// RFC 9111 §4.2.1, first that applies: s-maxage; max-age; Expires - Date. `None`: the server says nothing.
fn spoken_lifetime(res: &ResponseHead, control: &CacheControl, now: u64) -> Option<u64> {
    if let Some(seconds) = control.s_maxage.or(control.max_age) {
        return Some(seconds);
    }
    if control.is_targeted {
        return None;
    }
    let date = date_at(res, Known::Date, now).unwrap_or(now);
    let mut expires = res.fields.get_all(Known::Expires);
    match (expires.next(), expires.next()) {
        (Some(only), None) => Some(parse_date(only, now).map_or(0, |at| at.saturating_sub(date))),
        // RFC 9111 §5.3: two are an invalid one, and an invalid one is in the past.
        (Some(_), Some(_)) => Some(0),
        (None, _) => None,
    }
}

/// What a response is given that says nothing: by the operator, or by a guess (RFC 9111 §4.2.2).
fn unspoken_lifetime(res: &ResponseHead, control: &CacheControl, times: Times, rules: &RouteCache) -> u64 {
    let negative =
        rules.negative.as_ref().filter(|negative| negative.statuses.contains(&res.status.as_u16()));
    if let Some(negative) = negative {
        return negative.ttl.as_secs();
    }
    if !is_heuristically_cacheable(res.status) && !control.public {
        return 0;
    }
    if let Some(ttl) = rules.ttl {
        return ttl.as_secs();
    }
    let now = times.received;
    let date = date_at(res, Known::Date, now).unwrap_or(now);
    match date_at(res, Known::LastModified, now) {
        Some(at) if rules.heuristic => (date.saturating_sub(at) / 10).min(HEURISTIC_SECONDS_MAX),
        _ => 0,
    }
}

/// RFC 9110 §15.1.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The final statuses of RFC 9110 §15, without those that we cannot store.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511)
}

fn content_length(fields: &Fields) -> Option<u64> {
    fields::number(fields.get(Known::ContentLength)?)
}

/// RFC 9110 §8.8.3.2, weak comparison, of each tag of the list. A backslash in a tag is itself.
fn names_etag(mut list: &[u8], etag: Option<&[u8]>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(etag) = etag else { return false };
    let wanted = etag.strip_prefix(b"W/").unwrap_or(etag);
    loop {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        if list.is_empty() {
            return false;
        }
        list = list.strip_prefix(b"W/").unwrap_or(list);
        let stop = if list.starts_with(b"\"") {
            list.iter().skip(1).position(|&b| b == b'"').map(|at| at + 2)
        } else {
            list.iter().position(|&b| b == b',')
        };
        let (tag, rest) = list.split_at(stop.unwrap_or(list.len()));
        if tag.trim_ascii_end() == wanted {
            return true;
        }
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const TIMES: Times = Times { asked: NOW, received: NOW };

    fn date(offset: i64) -> String {
        let at = NOW.checked_add_signed(offset).unwrap();
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at))
    }

    fn fields(text: &str) -> Fields {
        let lines = text.split('\n').filter(|line| !line.is_empty());
        lines.map(|line| line.split_once(": ").unwrap()).collect()
    }

    fn req(text: &str) -> RequestHead {
        RequestHead::from(http::Request::new(()).into_parts().0).with(|req| req.fields = fields(text))
    }

    fn res(status: u16, text: &str) -> ResponseHead {
        ResponseHead { fields: fields(text), ..ResponseHead::new(StatusCode::from_u16(status).unwrap()) }
    }

    fn judged(request: &str, status: u16, response: &str) -> Result<Meta, CacheReason> {
        judge_response(&req(request), &res(status, response), TIMES, &RouteCache::new(1000))
    }

    fn meta(response: &str) -> Meta {
        judged("", 200, response).unwrap()
    }

    #[test]
    fn only_plain_get_and_head_are_looked_up() {
        let route = RouteCache::new(1000);
        for (method, text, expected) in [
            ("GET", "", RequestPlan::Lookup),
            ("HEAD", "", RequestPlan::Lookup),
            ("GET", "cache-control: nothing-to-see-here\npragma: foo", RequestPlan::Lookup),
            ("GET", "authorization: x", RequestPlan::Lookup),
            ("GET", "content-length: 0", RequestPlan::Lookup),
            ("POST", "", RequestPlan::Bypass(CacheReason::Method)),
            ("GET", "range: bytes=0-1", RequestPlan::Lookup),
            ("GET", "range: bytes=0-1,3-4", RequestPlan::Bypass(CacheReason::Range)),
            ("GET", "x-http-method-override: PUT", RequestPlan::Bypass(CacheReason::UnkeyedInput)),
            ("GET", "x-original-url: /admin", RequestPlan::Bypass(CacheReason::UnkeyedInput)),
            ("GET", "x-host: evil.test", RequestPlan::Bypass(CacheReason::UnkeyedInput)),
            ("GET", "content-length: 1", RequestPlan::Bypass(CacheReason::RequestBody)),
            ("GET", "if-match: \"a\"", RequestPlan::Bypass(CacheReason::Precondition)),
            ("GET", "cache-control: no-store", RequestPlan::Bypass(CacheReason::RequestNoStore)),
        ] {
            let head = req(text).with(|parts| parts.method = method.parse().unwrap());
            assert_eq!(plan_request(&head, Some(&route)), expected, "{method} {text}");
        }
        assert_eq!(plan_request(&req(""), None), RequestPlan::Bypass(CacheReason::Disabled));
    }

    #[test]
    fn a_response_is_refused_for_a_reason() {
        use CacheReason as Why;
        for (request, status, response, reason) in [
            ("", 200, "cache-control: No-StOrE, max-age=60", Why::NoStore),
            ("", 200, "cache-control: Private, max-age=60", Why::Private),
            ("", 200, "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\nset-cookie: a=b", Why::SetCookie),
            ("", 200, "cache-control: public\nset-cookie: a=b", Why::SetCookie),
            ("", 200, "cache-control: max-age=0\nset-cookie: a=b", Why::SetCookie),
            ("authorization: x", 200, "cache-control: max-age=60", Why::Authorization),
            ("cache-control: no-store", 200, "cache-control: max-age=60", Why::RequestNoStore),
            ("", 200, "cache-control: max-age=60\nvary: a\nvary: b, *", Why::VaryAny),
            ("", 206, "cache-control: max-age=60", Why::Partial),
            ("", 304, "cache-control: max-age=60", Why::Status),
            ("range: bytes=9-", 416, "cache-control: max-age=60", Why::Status),
            ("", 599, "cache-control: max-age=60, no-store, must-understand", Why::Status),
            ("", 200, "cache-control: max-age=60\ncontent-length: 1001", Why::TooLarge),
            ("", 200, "", Why::NoFreshness),
            ("", 200, "cache-control: max-age=0", Why::NoFreshness),
            ("", 200, "cache-control: no-cache, max-age=60", Why::NoFreshness),
            ("", 200, "cache-control: max-age=60\nage: 60", Why::NoFreshness),
            ("", 503, "etag: \"a\"", Why::NoFreshness),
        ] {
            assert_eq!(judged(request, status, response).unwrap_err(), reason, "{status} {response}");
        }
        let head = req("").with(|parts| parts.method = Method::HEAD);
        let refused =
            judge_response(&head, &res(200, "cache-control: max-age=60"), TIMES, &RouteCache::new(1000));
        assert_eq!(refused.unwrap_err(), Why::HeadOnly);
    }

    #[test]
    fn a_response_is_stored_when_it_may_be() {
        for (request, status, response) in [
            ("authorization: x", 200, "cache-control: max-age=60, public"),
            ("authorization: x", 200, "cache-control: s-maxage=60"),
            ("authorization: x", 200, "cache-control: max-age=60, must-revalidate"),
            ("", 200, "cache-control: max-age=60, no-store, must-understand"),
            ("", 299, "cache-control: max-age=60"),
            ("", 503, "cache-control: max-age=60"),
            ("", 599, "cache-control: max-age=60"),
            ("", 200, "cache-control: private=\"x-a\", max-age=60"),
            ("", 200, "cache-control: no-cache\netag: \"a\""),
            ("", 200, "etag: \"a\""),
            ("", 200, "cache-control: max-age=60\ncontent-length: 1000"),
            ("", 200, "cache-control: max-age=60\nset-cookie: a=b"),
            (
                "",
                200,
                "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\ncache-control: no-cache=\"set-cookie\"\nset-cookie: a=b",
            ),
            ("range: bytes=0-1", 206, "cache-control: max-age=60\ncontent-range: bytes 0-1/9"),
        ] {
            assert!(judged(request, status, response).is_ok(), "{status} {response}");
        }
    }

    #[test]
    fn the_lifetime_comes_from_the_strongest_word() {
        let soon = date(100);
        let past = date(-1000);
        for (status, response, expected) in [
            (200, "cache-control: max-age=5, s-maxage=9".to_owned(), 9),
            (200, format!("cache-control: max-age=5\nexpires: {soon}"), 5),
            (200, format!("expires: {soon}"), 100),
            (200, format!("expires: {soon}\ndate: {}", date(50)), 50),
            (200, format!("expires: {soon}\nexpires: {soon}\netag: \"a\""), 0),
            (200, "expires: 0\netag: \"a\"".to_owned(), 0),
            (200, format!("last-modified: {past}"), 100),
            // heuristic-delta-5, -10, -30, -60, -300: too short to be tested over sockets.
            (200, format!("last-modified: {}", date(-5)), 0),
            (200, format!("last-modified: {}", date(-10)), 1),
            (200, format!("last-modified: {}", date(-30)), 3),
            (200, format!("last-modified: {}", date(-60)), 6),
            (200, format!("last-modified: {}", date(-300)), 30),
            (404, format!("last-modified: {past}"), 100),
            (200, format!("last-modified: {}", date(-100_000_000)), HEURISTIC_SECONDS_MAX),
            (599, format!("last-modified: {past}\ncache-control: public"), 100),
            (201, format!("last-modified: {past}"), 0),
        ] {
            assert_eq!(judged("", status, &response).unwrap().lifetime, expected, "{response}");
        }
    }

    #[test]
    fn age_counts_the_way_the_delay_and_the_stay() {
        let response = res(200, &format!("cache-control: max-age=100\nage: 10\ndate: {}", date(-5)));
        let times = Times { asked: NOW - 3, received: NOW };
        let meta = judge_response(&req(""), &response, times, &RouteCache::new(1000)).unwrap();

        assert_eq!(meta.age(NOW), 13);
        assert_eq!(meta.age(NOW + 7), 20);
        assert_eq!(
            super::tests::meta(&format!("cache-control: max-age=100\ndate: {}", date(-5))).age(NOW),
            5
        );
    }

    #[test]
    fn a_clock_that_is_set_back_makes_what_came_before_stale() {
        let meta = meta("cache-control: max-age=100, stale-while-revalidate=10");
        let is_fresh =
            |now| matches!(assess(&meta, &req(""), now, &RouteCache::new(1000)), Assessment::Fresh { .. });

        assert!(is_fresh(NOW) && is_fresh(NOW - CLOCK_SECONDS_MAX));
        let Assessment::Stale { reason, allowed, .. } =
            assess(&meta, &req(""), NOW - CLOCK_SECONDS_MAX - 1, &RouteCache::new(1000))
        else {
            panic!("nobody knows how old it is")
        };
        assert_eq!((reason, allowed.while_revalidating), (CacheReason::Stale, true));
    }

    #[test]
    fn the_request_may_ask_for_more_or_less_than_fresh() {
        use CacheReason as Why;
        // The entry lives 100 seconds and is looked at when it is `age` old.
        for (response, request, age, reason) in [
            // freshness-max-age-stale, ccreq-max-stale, …: what of them needs time to pass.
            ("max-age=100", "", 99, None),
            ("max-age=100", "", 100, Some(Why::Stale)),
            ("max-age=100", "no-cache", 1, Some(Why::RequestDirective)),
            ("max-age=100", "max-age=10", 10, None),
            ("max-age=100", "max-age=10", 11, Some(Why::RequestDirective)),
            ("max-age=100", "max-age=10, max-stale=5", 11, None),
            ("max-age=100", "max-age=10, max-stale=5", 15, None),
            ("max-age=100", "max-age=10, max-stale=5", 16, Some(Why::RequestDirective)),
            ("max-age=100", "max-age=10, max-stale", 5000, None),
            ("max-age=100, must-revalidate", "max-age=10, max-stale=5", 11, Some(Why::RequestDirective)),
            ("max-age=100", "max-age=200, max-stale=5", 106, Some(Why::Stale)),
            ("max-age=100", "min-fresh=50", 50, None),
            ("max-age=100", "min-fresh=50", 51, Some(Why::RequestDirective)),
            ("max-age=100", "max-stale", 5000, None),
            ("max-age=100", "max-stale=10", 110, None),
            ("max-age=100", "max-stale=10", 111, Some(Why::Stale)),
            ("max-age=100, must-revalidate", "max-stale", 101, Some(Why::Stale)),
            ("max-age=100, proxy-revalidate", "max-stale", 101, Some(Why::Stale)),
            ("s-maxage=100", "max-stale", 101, Some(Why::Stale)),
            ("max-age=100, no-cache", "", 1, Some(Why::MustValidate)),
        ] {
            let meta = meta(&format!("etag: \"a\"\ncache-control: {response}"));
            let head = match request {
                "" => req(""),
                text => req(&format!("cache-control: {text}")),
            };
            let found = match assess(&meta, &head, NOW + age, &RouteCache::new(1000)) {
                Assessment::Fresh { .. } => None,
                Assessment::Stale { reason, .. } => Some(reason),
            };
            assert_eq!(found, reason, "{response} | {request} | {age}");
        }
    }

    #[test]
    fn stale_serving_is_allowed_inside_its_window_only() {
        let windows = "max-age=10, stale-while-revalidate=5, stale-if-error=20";
        for (extra, age, expected) in [
            ("", 14, (true, true, true)),
            ("", 15, (false, true, true)),
            ("", 30, (false, false, true)),
            ("", 10 + DISCONNECTED_SECONDS, (false, false, false)),
            (", must-revalidate", 11, (false, false, false)),
            (", proxy-revalidate", 11, (false, false, false)),
            (", s-maxage=10", 11, (true, true, true)),
            (", s-maxage=10", 30, (false, false, false)),
            (", no-cache", 11, (false, false, false)),
        ] {
            let meta = meta(&format!("etag: \"a\"\ncache-control: {windows}{extra}"));
            let Assessment::Stale { allowed, .. } =
                assess(&meta, &req(""), NOW + age, &RouteCache::new(1000))
            else {
                panic!("fresh at {age}{extra}");
            };
            let StaleAllowed { while_revalidating, on_error, when_unreachable } = allowed;
            assert_eq!((while_revalidating, on_error, when_unreachable), expected, "{extra} {age}");
        }
        let bare = meta("etag: \"a\"\ncache-control: s-maxage=10");
        let Assessment::Stale { allowed, .. } = assess(&bare, &req(""), NOW + 11, &RouteCache::new(1000))
        else {
            panic!("fresh");
        };
        assert_eq!(allowed, StaleAllowed::default(), "s-maxage alone forbids it");
    }

    #[test]
    fn a_client_that_says_how_stale_it_may_be_is_not_served_staler_while_it_is_revalidated() {
        let meta = meta("cache-control: max-age=100, stale-while-revalidate=50");
        for (request, expected) in [
            ("", true),
            ("cache-control: max-age=200", true),
            ("cache-control: max-age=100", false),
            ("cache-control: max-stale=5", false),
            ("cache-control: min-fresh=1", false),
            ("cache-control: no-cache", false),
        ] {
            let Assessment::Stale { allowed, .. } =
                assess(&meta, &req(request), NOW + 110, &RouteCache::new(1000))
            else {
                panic!("fresh: {request}");
            };
            assert_eq!(allowed.while_revalidating, expected, "{request}");
        }
    }

    #[test]
    fn an_operators_rules_fill_in_and_overrule() {
        use ServerFreshness::*;
        let seconds = |n| Some(std::time::Duration::from_secs(n));
        let base = RouteCache { ttl: seconds(7), ..RouteCache::new(1000) };
        let negative =
            crate::config::Negative { statuses: vec![404, 500], ttl: std::time::Duration::from_secs(3) };
        for (rules, status, response, expected) in [
            (RouteCache { ..base.clone() }, 200, "", Ok(7)),
            (RouteCache { ..base.clone() }, 200, "cache-control: max-age=60", Ok(60)),
            (RouteCache { ..base.clone() }, 500, "", Err(CacheReason::NoFreshness)),
            (
                RouteCache { server_freshness: Override, ..base.clone() },
                200,
                "cache-control: max-age=60",
                Ok(7),
            ),
            (
                RouteCache { server_freshness: Override, ..base.clone() },
                200,
                "cache-control: no-store",
                Err(CacheReason::NoStore),
            ),
            (RouteCache { server_freshness: Ignore, ..base.clone() }, 200, "cache-control: no-store", Ok(7)),
            (
                RouteCache { server_freshness: Ignore, ..base.clone() },
                200,
                "cache-control: private\nset-cookie: a=b",
                Err(CacheReason::SetCookie),
            ),
            (RouteCache { negative: Some(negative.clone()), ..base.clone() }, 404, "", Ok(3)),
            (RouteCache { negative: Some(negative.clone()), ..base.clone() }, 500, "", Ok(3)),
            (RouteCache { negative: Some(negative), ..base.clone() }, 404, "cache-control: max-age=9", Ok(9)),
            (
                RouteCache { heuristic: false, ..RouteCache::new(1000) },
                200,
                "last-modified: Sun, 06 Nov 1994 08:49:37 GMT",
                Ok(0),
            ),
            (
                RouteCache { set_cookie: SetCookie::Never, ..RouteCache::new(1000) },
                200,
                "cache-control: max-age=60\nset-cookie: a=b",
                Err(CacheReason::SetCookie),
            ),
            (
                RouteCache { targeted: false, ..RouteCache::new(1000) },
                200,
                "cdn-cache-control: no-store\ncache-control: max-age=5",
                Ok(5),
            ),
        ] {
            let found =
                judge_response(&req(""), &res(status, response), TIMES, &rules).map(|meta| meta.lifetime);
            assert_eq!(found, expected, "{status} {response} {rules:?}");
        }
    }

    #[test]
    fn an_operators_conditions_pass_the_cache_by() {
        let pattern = |text: &str| crate::config::NamePattern { text: text.to_owned(), is_prefix: false };
        let mut rules = RouteCache::new(1000);
        rules.bypass.headers = vec![HeaderName::from_static("x-debug")];
        rules.bypass.cookies = vec!["session".to_owned()];
        rules.bypass.query = vec![pattern("nocache")];
        for (target, text, expected) in [
            ("/", "", RequestPlan::Lookup),
            ("/", "x-debug: 1", RequestPlan::Bypass(CacheReason::Configured)),
            ("/", "cookie: a=b; session=1", RequestPlan::Bypass(CacheReason::Configured)),
            ("/?a=1&nocache", "", RequestPlan::Bypass(CacheReason::Configured)),
            ("/?xnocache=1", "", RequestPlan::Lookup),
        ] {
            let head = req(text).with(|parts| parts.uri = target.parse().unwrap());
            assert_eq!(plan_request(&head, Some(&rules)), expected, "{target} {text}");
        }
    }

    #[test]
    fn a_client_that_may_not_ask_is_not_heard() {
        let rules = RouteCache { client_directives: false, ..RouteCache::new(1000) };
        let asking = req("cache-control: no-cache, no-store");

        assert_eq!(plan_request(&asking, Some(&rules)), RequestPlan::Lookup);
        let meta = meta("cache-control: max-age=10");
        assert!(matches!(assess(&meta, &asking, NOW, &rules), Assessment::Fresh { .. }));
    }

    #[test]
    fn a_clients_condition_is_answered() {
        let modified = date(-1000);
        let meta = meta(&format!("etag: W/\"a,b\"\nlast-modified: {modified}"));
        for (request, expected) in [
            (String::new(), Conditional::Full),
            ("if-none-match: \"a,b\"".to_owned(), Conditional::NotModified),
            ("if-none-match: \"x\", W/\"a,b\"".to_owned(), Conditional::NotModified),
            ("if-none-match: \"x\"\nif-none-match: \"a,b\"".to_owned(), Conditional::NotModified),
            ("if-none-match: *".to_owned(), Conditional::NotModified),
            ("if-none-match: \"a\"".to_owned(), Conditional::Full),
            (format!("if-none-match: \"x\"\nif-modified-since: {modified}"), Conditional::Full),
            (format!("if-modified-since: {modified}"), Conditional::NotModified),
            (format!("if-modified-since: {}", date(-1001)), Conditional::Full),
            ("if-modified-since: yesterday".to_owned(), Conditional::Full),
        ] {
            assert_eq!(conditional(&req(&request), StatusCode::OK, &meta), expected, "{request}");
        }
        let any = req("if-none-match: *");
        assert_eq!(conditional(&any, StatusCode::NOT_FOUND, &meta), Conditional::Full);
    }

    #[test]
    fn a_stored_response_is_asked_about_by_its_validators() {
        let modified = date(-1000);
        for (stored, expected) in [
            (
                format!("etag: \"a\"\nlast-modified: {modified}"),
                format!("if-none-match: \"a\"\nif-modified-since: {modified}"),
            ),
            (format!("last-modified: {modified}"), format!("if-modified-since: {modified}")),
        ] {
            assert_eq!(validators(&meta(&stored)), fields(&expected), "{stored}");
        }
        let etags = ["\"a\"", "W/\"b\""];
        assert_eq!(
            candidates(etags.iter().map(|etag| etag.as_bytes())),
            fields("if-none-match: \"a\", W/\"b\"")
        );
    }

    #[test]
    fn an_unsafe_method_that_succeeds_invalidates() {
        for (method, status, expected) in [
            ("POST", 200, true),
            ("M-SEARCH", 204, true),
            ("DELETE", 303, true),
            ("POST", 404, false),
            ("PUT", 500, false),
            ("GET", 200, false),
            ("OPTIONS", 200, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(&method.parse().unwrap(), status), expected, "{method}");
        }
    }
}
