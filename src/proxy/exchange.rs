//! One request and its response: what is known of them, from the head to the record.

use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::answer::Answer;
use crate::body::{Body, BodyError, End, Meter, Metered, PIECE, Room, Share};
use crate::cache::{
    CacheReason, CacheStatus, Epoch, Key, RequestPlan, keyed_authority, keyed_target, plan_request,
};
use crate::clock::unix_seconds;
use crate::config::{CacheMode, RouteCache};
use crate::fields::{self, Known, RequestHead, ResponseHead};
use crate::filter::forward::{self, BodyLength, PeerKind, RequestId};
use crate::filter::guard;
use crate::observe::Record;
use crate::proxy::origin::Fetched;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::reply::{self, Failure};
use crate::proxy::{Client, Turn};
use crate::router;
use crate::state::{HIT_AGES, Local, Route, View};
use crate::upstream::interim::Interim;
use crate::upstream::pool::Upstream;
use crate::upstream::side::Side;

/// RFC 9110 section 7.6.3, of a stored response: it was received over HTTP/1.1.
const VIA: &[u8] = b"1.1 tidegate";

/// Response bytes that wait for the client of one HTTP/2 connection, all streams together: what feeds the socket, whose
/// own buffer is the kernel's. Beyond, each stream may have one small piece.
const HTTP2_ROOM: usize = 256 * 1024;

/// A request's own state. When it is dropped, the request is over and is counted and logged.
pub struct Exchange {
    pub local: Rc<Local>,
    /// The configuration it began with, and will end with.
    pub view: Rc<View>,
    pub client: Rc<Client>,
    /// Index of the listener that it came by.
    listener: usize,
    pub peer_kind: PeerKind,
    /// As the client sent it.
    pub head: RequestHead,
    pub request_id: RequestId,
    /// Whom it is from, as far as that is believed.
    pub client_ip: IpAddr,
    /// Host and port, as the client sent them.
    pub authority: Box<str>,
    route: usize,
    /// The target, where the server does not get all of it.
    narrowed: Option<PathAndQuery>,
    /// Host and port, where the server gets another spelling of them.
    respelled: Option<Box<str>>,
    pub facts: Facts,
    /// What the client gets, once that is known.
    body: Option<Metered>,
    /// Of HTTP/2: its part of what may wait for the client.
    share: Option<Arc<Share>>,
    /// `None`: no client waits for it.
    turn: Option<Rc<dyn Turn>>,
}

/// What the record will say.
pub struct Facts {
    began: Instant,
    time: SystemTime,
    pub status: u16,
    /// Of the last attempt: among whom, and which.
    pub server: Option<(Rc<Side>, usize)>,
    pub attempts: u32,
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    /// Waiting for another request's fetch.
    pub queued: Option<Duration>,
    /// A word of `state::CACHE_RESULTS`, or "" where there is no cache.
    pub cache: &'static str,
    pub cache_reason: &'static str,
    /// Why the status is what it is, when it is ours.
    pub reason: &'static str,
    /// `None`: the request has no body.
    received: Option<Rc<Meter>>,
    pub sent: Rc<Meter>,
}

/// What the guard found out about a head.
pub struct Asked {
    pub wants_websocket: bool,
    /// It is ours to answer.
    pub ends_here: bool,
}

impl Exchange {
    pub fn begin(
        local: Rc<Local>,
        client: Rc<Client>,
        head: RequestHead,
        sent: Rc<Meter>,
        turn: Rc<dyn Turn>,
    ) -> Box<Self> {
        let (view, listener) = client.door.place();
        let peer_kind = client.peer.kind(&view.config.listeners[listener].trusted_proxies);
        let fresh = local.rng.borrow_mut().u128(..);
        let request_id = RequestId::of(&head.fields, peer_kind, fresh);
        local.cells.gauge_add(view.listeners[listener].handles.in_flight, 1);
        Box::new(Exchange {
            route: view.routes.len() - 1,
            client_ip: client.peer.ip(),
            authority: Box::default(),
            facts: Facts::begin(&local, sent),
            turn: Some(turn),
            narrowed: None,
            respelled: None,
            body: None,
            share: None,
            local,
            view,
            client,
            listener,
            peer_kind,
            head,
            request_id,
        })
    }

    /// Step: is it one request, and only one?
    pub fn check(&mut self) -> Result<Asked, Failure> {
        let config = &self.view.config;
        let checked = guard::check_request(&self.head, &config.limits).map_err(Failure::Refused)?;
        let authority = checked.authority.into();
        let asked = Asked { wants_websocket: checked.wants_websocket, ends_here: checked.ends_here };
        self.authority = authority;
        if self.peer_kind == PeerKind::TrustedProxy {
            let trusted = &config.listeners[self.listener].trusted_proxies;
            self.client_ip = forward::client_ip(self.client.peer.ip(), &self.head.fields, trusted);
        }
        Ok(asked)
    }

    /// Step: whose is it?
    pub fn find_route(&mut self) -> Result<(), Failure> {
        let host = router::normal_host(&self.authority);
        let (listener, path) = (self.listener, self.head.uri.path());
        if self.view.router.is_ambiguous(listener, &host, path) {
            return Err(Failure::Refused(guard::Refusal::Path));
        }
        match self.view.router.find(listener, &host, path) {
            Ok(found) => {
                self.route = found.route;
                Ok(())
            }
            Err(_) => Err(Failure::NoRoute),
        }
    }

    /// Step: what goes out. The body is counted, and held to its limits.
    pub fn outgoing(&mut self, body: Body, asked: Asked) -> Result<Outgoing, Failure> {
        let view = self.view.clone();
        let limit = view.config.routes[self.route].max_body;
        let exact = body.size_hint().exact();
        let length = match exact {
            _ if body.is_end_stream() => BodyLength::None,
            Some(bytes) => BodyLength::Known(bytes),
            None => BodyLength::Unknown,
        };
        if length == BodyLength::None {
            return Ok(Outgoing { wants_websocket: asked.wants_websocket, ..Outgoing::nothing() });
        }
        if let (Some(limit), BodyLength::Known(bytes)) = (limit, length)
            && bytes > limit
        {
            return Err(Failure::BodyTooLarge);
        }
        let idle = self.local.timers.deadline(view.config.limits.body_idle);
        let body = Metered::new(body, limit, Some(idle)).at_least(view.config.limits.body_rate);
        let meter = body.meter();
        self.facts.received = Some(meter.clone());
        Ok(Outgoing { body: Body::wrap(body), meter, length, wants_websocket: asked.wants_websocket })
    }

    /// Step: may the cache answer?
    pub fn cache_plan(&self, out: &Outgoing) -> RequestPlan {
        let config = &self.view.config.routes[self.route];
        if config.cache.is_some() && out.length != BodyLength::None {
            return RequestPlan::Bypass(match self.head.method {
                Method::GET | Method::HEAD => CacheReason::RequestBody,
                _ => CacheReason::Method,
            });
        }
        // The server is told of two hosts or schemes, and only one of them is in the key.
        if config.cache.is_some() && self.is_told_otherwise() {
            return RequestPlan::Bypass(CacheReason::UnkeyedInput);
        }
        plan_request(&self.head, config.cache.as_ref())
    }

    /// True when a trusted peer says anything of host and scheme that the key does not hold byte for byte.
    fn is_told_otherwise(&self) -> bool {
        if self.peer_kind != PeerKind::TrustedProxy {
            return false;
        }
        let is_in_key = |proto: &[u8]| {
            fields::visible(proto).is_some_and(|proto| !proto.bytes().any(|b| b.is_ascii_uppercase()))
        };
        let (scheme, authority) = (self.keyed_scheme(), self.keyed_authority());
        self.told(Known::XForwardedHost).any(|host| host != authority.as_bytes())
            || self.told(Known::XForwardedProto).enumerate().any(|(n, proto)| n > 0 || !is_in_key(proto))
            || self.told(Known::Forwarded).any(|line| {
                forward::says_other(line, "host", &authority) || forward::says_other(line, "proto", scheme)
            })
    }

    /// What a trusted peer says, if it says anything.
    fn told(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        let lines = (self.peer_kind == PeerKind::TrustedProxy).then(|| self.head.fields.get_all(name));
        lines.into_iter().flatten()
    }

    /// The cache has no part in this request, because of `reason`.
    pub fn note_bypass(&mut self, reason: CacheReason) {
        if self.route_config().cache.is_some() {
            self.note_cache("bypass", reason.as_str());
            self.local.cells.inc(self.view.cache.bypassed[reason as usize]);
        }
    }

    /// Whether a response was stored, or why not.
    pub fn note_stored(&self, outcome: Result<(), CacheReason>) {
        note_stored(&self.local, &self.view, outcome);
    }

    /// How old the stored response was that answered.
    pub fn note_hit_age(&self, seconds: u64) {
        let band = HIT_AGES.partition_point(|(most, _)| *most < seconds);
        if let Some(counter) = self.view.cache.hit_ages.get(band) {
            self.local.cells.inc(*counter);
        }
    }

    /// What the cache did: a word of `state::CACHE_RESULTS`, and why.
    pub fn note_cache(&mut self, result: &'static str, reason: &'static str) {
        (self.facts.cache, self.facts.cache_reason) = (result, reason);
    }

    fn keyed_scheme(&self) -> &str {
        match self.told(Known::XForwardedProto).next().and_then(fields::visible) {
            // Else a redirection to https, stored for http, would be sent to https too.
            Some(told) => told,
            None if self.client.is_tls => "https",
            None => "http",
        }
    }

    fn keyed_authority(&self) -> Cow<'_, str> {
        keyed_authority(self.keyed_scheme(), &self.authority)
    }

    fn keyed_target(&self) -> Cow<'_, str> {
        let target = self.head.uri.path_and_query().map_or("/", |target| target.as_str());
        match &self.route_config().cache {
            Some(rules) => keyed_target(target, &rules.key.query),
            None => Cow::Borrowed(target),
        }
    }

    /// Under which stored responses for this request are found: as received, before any change.
    pub fn cache_key(&self) -> Key {
        let owner = &self.upstream().config.name;
        Key::new(owner, self.keyed_scheme(), &self.authority, &self.keyed_target())
    }

    /// What of the address is not in the key does not reach the server either: nothing that it does
    /// because of it may be stored. That is how the host is spelled, and parameters that do not count.
    pub fn narrow(&mut self) {
        let keyed = self.keyed_authority();
        if *keyed != *self.authority {
            self.respelled = Some(keyed.into());
        }
        if let Cow::Owned(narrowed) = self.keyed_target() {
            self.narrowed = PathAndQuery::try_from(narrowed).ok();
        }
    }

    /// Whether a GET like this one would be looked up, and the server be told just what it was told now.
    pub fn is_all_keyed(&self) -> bool {
        let get = self.head.clone().with(|parts| {
            parts.method = Method::GET;
            // What a POST brings is in no key, but its answer says that it is the address's own.
            parts.fields.remove(Known::ContentLength);
            parts.fields.remove(Known::TransferEncoding);
        });
        matches!(self.keyed_target(), Cow::Borrowed(_))
            && *self.keyed_authority() == *self.authority
            && !self.is_told_otherwise()
            && plan_request(&get, Some(self.rules())) == RequestPlan::Lookup
    }

    /// Host and port, as the server gets them.
    pub fn authority_for_server(&self) -> &str {
        self.respelled.as_ref().unwrap_or(&self.authority)
    }

    /// Path and query, as the server gets them.
    pub fn target_for_server(&self) -> Option<&PathAndQuery> {
        self.narrowed.as_ref().or(self.head.uri.path_and_query())
    }

    /// The same request once more, on nobody's behalf: to bring the store up to date. It is not counted
    /// among the requests of clients, nor logged.
    pub fn behind(&self) -> Exchange {
        let head = self.head.clone().with(|parts| {
            parts.method = Method::GET;
            parts.fields.remove(Known::Range);
        });
        Exchange {
            local: self.local.clone(),
            view: self.view.clone(),
            client: self.client.clone(),
            listener: self.listener,
            peer_kind: self.peer_kind,
            head,
            request_id: self.request_id.clone(),
            client_ip: self.client_ip,
            authority: self.authority.clone(),
            route: self.route,
            narrowed: self.narrowed.clone(),
            respelled: self.respelled.clone(),
            facts: Facts::begin(&self.local, Rc::default()),
            body: None,
            share: None,
            turn: None,
        }
    }

    /// The moment before a request that may change what is stored for its own key; `None` where nothing is.
    pub fn epoch_of_change(&self) -> Option<Epoch> {
        if self.head.method.is_safe() || self.route_config().cache.is_none() {
            return None;
        }
        Some(self.local.keep.cache.epoch(&self.cache_key()))
    }

    /// After a request that was not looked up: what it made worthless, on any route to the same upstream, is forgotten or
    /// validated before it is used again. `began`, and what comes of it, are for the next response of its own key.
    pub fn invalidate(&self, parts: &ResponseHead, began: Option<Epoch>) -> Option<Epoch> {
        let keyed_by = &self.view.keyed_by[self.upstream_index()];
        if keyed_by.is_empty() || self.head.method.is_safe() {
            return None;
        }
        let cache = &self.local.keep.cache;
        cache.invalidate_after(&self.cache_key(), &self.head.method, parts, keyed_by, began)
    }

    /// Time since the request came.
    pub fn age(&self) -> Duration {
        self.local.timers.now() - self.facts.began
    }

    /// When the request began, in seconds since 1970.
    pub fn began_unix(&self) -> u64 {
        unix_seconds(self.facts.time)
    }

    /// What the cache may do here; only for a route that caches.
    pub fn rules(&self) -> &RouteCache {
        self.route_config().cache.as_ref().expect("only a route that caches comes to the cache")
    }

    pub fn route_config(&self) -> &crate::config::Route {
        &self.view.config.routes[self.route]
    }

    pub fn upstream(&self) -> &Upstream {
        &self.view.upstreams[self.route_config().upstream]
    }

    pub fn upstream_index(&self) -> usize {
        self.route_config().upstream
    }

    /// What a server says before its response goes to a client that can hear it: HTTP/1.0 has no interim responses
    /// (RFC 9110 section 15.2). `100 Continue` is ours to say.
    pub fn interim(&self, interim: &Interim) {
        if self.head.version < Version::HTTP_11 || interim.status == StatusCode::CONTINUE {
            return;
        }
        if let Some(turn) = &self.turn {
            turn.interim(interim.status, &forward::interim_to_client(&interim.fields));
        }
    }

    /// Step: what goes back, of a response that is the server's own.
    pub fn to_client(&self, fetched: Fetched) -> Answer {
        let mut answer = forward::to_client(&fetched.parts, self.head.version, &self.request_id);
        answer.body = fetched.body;
        if let Some(cookie) = &fetched.cookie {
            answer.append(Known::SetCookie, cookie.as_bytes());
        }
        let is_on = || self.route_config().cache.as_ref().is_some_and(|rules| rules.mode == CacheMode::On);
        if self.facts.cache == "bypass" && is_on() {
            let why = self.facts.cache_reason;
            answer
                .append_with("cache-status", |text| drop(write!(text, "tidegate; fwd=bypass; detail={why}")));
        }
        answer
    }

    /// What goes back, of a response that the cache has made.
    pub fn stored_to_client(&self, mut answer: Answer, status: CacheStatus) -> Answer {
        answer.append(Known::Via, VIA);
        answer.append(Known::XRequestId, self.request_id.as_bytes());
        status.append(&mut answer);
        answer
    }

    /// The last step of what has waited for a server.
    pub fn conclude(self: Box<Self>, outcome: Result<Answer, Failure>) -> Answer {
        match outcome {
            Ok(answer) => self.finish(answer),
            Err(failure) => self.fail(&failure),
        }
    }

    /// The last step for what failed.
    pub fn fail(mut self: Box<Self>, failure: &Failure) -> Answer {
        let answer = reply::answer(&mut self, failure);
        self.finish(answer)
    }

    /// The last step: from here on the exchange is the response's body, and ends with it.
    pub fn finish(mut self: Box<Self>, mut answer: Answer) -> Answer {
        let status = answer.status();
        self.facts.status = status.as_u16();
        if !answer.has_date() && status != StatusCode::SWITCHING_PROTOCOLS {
            let date = httpdate::HttpDate::from(SystemTime::now());
            answer.append_with(Known::Date, |text| drop(write!(text, "{date}")));
        }
        let mut body = std::mem::take(&mut answer.body);
        if self.head.method == Method::HEAD && !body.is_empty() {
            body = left_out(&body, &mut answer);
        }
        // The server's pace is limited where the body comes from, the client's where it goes.
        let is_http2 = self.head.version == Version::HTTP_2;
        let room = if body.is_empty() { None } else { self.client_room() };
        self.share = room.map(Share::new);
        let piece_max = if is_http2 { PIECE } else { usize::MAX };
        self.body = Some(Metered::by(self.facts.sent.clone(), body, piece_max));
        answer.body = Body::Wrapped(Box::into_pin(self));
        answer
    }

    /// For what waits for a client of HTTP/2. The streams share its connection: what is not taken of one of them must not
    /// be read for it.
    pub fn client_room(&self) -> Option<Arc<Room>> {
        let new = || Room::new(HTTP2_ROOM, Some(self.local.room.clone()));
        (self.head.version == Version::HTTP_2).then(|| self.client.room.get_or_init(new).clone())
    }

    fn count(&self, total: Duration) {
        let (cells, facts) = (&self.local.cells, &self.facts);
        let listener = &self.view.listeners[self.listener].handles;
        let route: &Route = &self.view.routes[self.route];
        let handles = &route.handles[self.listener];
        cells.gauge_add(listener.in_flight, -1);
        cells.inc(handles.requests.of(facts.status));
        cells.observe(handles.duration, total);
        cells.add(listener.received, facts.received_bytes());
        cells.add(listener.sent, facts.sent.bytes());
        if let Some(counter) = route.cache_counter(facts.cache) {
            cells.inc(counter);
        }
        if !facts.reason.is_empty()
            && let Some(counter) = listener.refusal(facts.reason)
        {
            cells.inc(counter);
        }
    }

    fn log(&self, total: Duration) {
        let Some(access) = &mut *self.local.access.borrow_mut() else { return };
        let facts = &self.facts;
        let has_route = self.route + 1 < self.view.routes.len();
        let upstream = has_route.then(|| self.upstream());
        let server = facts.server.as_ref().map(|(side, server)| side.members.servers[*server].id.as_str());
        let field = |name: Known| self.head.fields.get(name).unwrap_or_default();
        let us = |time: Option<Duration>| time.map(|t| t.as_micros() as u64);
        let cut = facts.sent.end().is_some_and(|end| end != End::Whole);
        access.record(&Record {
            time: facts.time,
            client: self.client_ip,
            listener: &self.view.listeners[self.listener].name,
            method: self.head.method.as_str(),
            scheme: if self.client.is_tls { "https" } else { "http" },
            host: self.authority.as_bytes(),
            target: self.head.uri.path_and_query().map_or(&b"*"[..], |t| t.as_str().as_bytes()),
            version: version(self.head.version),
            status: facts.status,
            route: &self.view.routes[self.route].name,
            upstream: upstream.map_or("", |u| &u.config.name),
            server: server.unwrap_or(""),
            bytes_received: facts.received_bytes(),
            bytes_sent: facts.sent.bytes(),
            total_us: total.as_micros() as u64,
            queue_us: us(facts.queued),
            connect_us: us(facts.connect),
            first_byte_us: us(facts.first_byte),
            cache: facts.cache,
            cache_reason: facts.cache_reason,
            attempts: facts.attempts,
            request_id: self.request_id.as_bytes(),
            reason: if facts.reason.is_empty() && cut { "response-cut" } else { facts.reason },
            user_agent: field(Known::UserAgent),
            referer: field(Known::Referer),
        });
    }
}

impl Facts {
    fn received_bytes(&self) -> u64 {
        self.received.as_ref().map_or(0, |meter| meter.bytes())
    }

    fn begin(local: &Local, sent: Rc<Meter>) -> Self {
        let began = local.timers.now();
        Facts {
            began,
            time: local.time_of_day(began),
            status: 0,
            server: None,
            attempts: 0,
            connect: None,
            first_byte: None,
            queued: None,
            cache: "",
            cache_reason: "",
            reason: "",
            received: None,
            sent,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // First, so that it is known how it ended.
        self.body = None;
        let Some(turn) = self.turn.take() else { return };
        let total = self.facts.began.elapsed();
        self.count(total);
        self.log(total);
        turn.ended();
    }
}

/// The body that the client gets.
impl HttpBody for Exchange {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let Some(share) = &this.share else { return Pin::new(body).poll_frame(cx) };
        if share.poll_room(cx).is_pending() {
            // What it waits for is its own client, so that it is the client's time that runs.
            this.facts.sent.awaits_reader();
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| share.hold(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Metered::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Metered::size_hint)
    }
}

/// Counts whether a response was stored, or why not.
pub fn note_stored(local: &Local, view: &View, outcome: Result<(), CacheReason>) {
    local.cells.inc(match outcome {
        Ok(()) => view.cache.stored,
        Err(reason) => view.cache.not_stored[reason as usize],
    });
}

/// What is left of an answer to HEAD that has a body (RFC 9110 section 9.3.2): its length.
fn left_out(body: &Body, answer: &mut Answer) -> Body {
    if let Some(length) = body.size_hint().exact().filter(|_| !answer.has_length()) {
        answer.append_number(Known::ContentLength, length);
    }
    Body::Empty
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
