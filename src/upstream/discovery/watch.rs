//! Asks DNS for one entry of `servers`, again and again, and tells what changed.
//!
//! Only the control thread does that. What it says about DNS in the log, it says once: when an answer changes the set,
//! when DNS begins to fail and when it answers again.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::{self, Source};
use crate::net::resolve::{Addresses, ResolveError, Resolver, Service};
use crate::observe::{Cells, Counter, Family, Gauge, Metrics};
use crate::upstream::discovery::{
    ADDRESSES_MAX, Answer, Change, Endpoint, Known, Lesson, Limits, Trouble, of_name, of_services,
};
use crate::upstream::probe::causes;

/// Targets of a service whose addresses are asked for at once: a name server need not think that it is attacked.
const TARGETS_AT_ONCE: usize = 16;
/// When a target without addresses is asked for again, whatever the TTL of the others: a service is often announced
/// before its hosts are.
const TARGET_RETRY: Duration = Duration::from_secs(30);
/// Addresses that one line of the log names.
const LOGGED_MAX: usize = 8;
/// What may come of a look-up, as metrics say it.
const OUTCOMES: [&str; 5] = ["ok", "partial", "nothing", "timed-out", "failed"];

/// One entry of `servers` that is a name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose it is.
    pub upstream: String,
    /// What logs and metrics call it: as it was written, but for its scheme.
    pub name: String,
    question: Question,
}

/// What DNS is asked.
#[derive(Debug, Clone)]
enum Question {
    Host { name: String, port: u16, weight: u32 },
    Service(String),
}

/// Where look-ups are counted.
pub struct Meters {
    /// In the order of `OUTCOMES`.
    lookups: [Counter; OUTCOMES.len()],
    addresses: Gauge,
    metrics: Arc<Metrics>,
    /// The control thread's.
    cells: Cells,
}

/// Follows what DNS says of one entry.
pub struct Watch {
    entry: Entry,
    resolver: Rc<Resolver>,
    limits: Limits,
    meters: Meters,
    rng: fastrand::Rng,
    known: Known,
    wait: Duration,
    left_out: usize,
}

impl Entry {
    /// `None` for an address, about which there is nothing to ask.
    pub fn of(upstream: &config::Upstream, server: &config::Server) -> Option<Entry> {
        let (name, question) = match &server.source {
            Source::Address(_) => return None,
            Source::Name(name) => {
                let question =
                    Question::Host { name: name.clone(), port: server.port, weight: server.weight };
                (format!("{}:{}", server.host, server.port), question)
            }
            Source::Service(name) => (name.clone(), Question::Service(name.clone())),
        };
        Some(Entry { upstream: upstream.name.clone(), name, question })
    }
}

impl Meters {
    /// For one entry. `cells` are those of the thread that watches.
    pub fn new(metrics: &Arc<Metrics>, cells: Cells, entry: &Entry) -> Self {
        let upstream = entry.upstream.as_str();
        Meters {
            lookups: OUTCOMES.map(|word| metrics.counter(Family::DnsLookups, &[upstream, word])),
            addresses: metrics.gauge(Family::DnsAddresses, &[upstream, &entry.name]),
            metrics: metrics.clone(),
            cells,
        }
    }

    fn count(&self, answer: &Result<Answer, ResolveError>, addresses: usize) {
        let outcome = match answer {
            Ok(Answer { missing: None, .. }) => 0,
            Ok(_) => 1,
            Err(error) if error.is_nothing() => 2,
            Err(ResolveError::TimedOut { .. }) => 3,
            Err(_) => 4,
        };
        self.cells.inc(self.lookups[outcome]);
        self.metrics.set(self.addresses, i64::try_from(addresses).unwrap_or(i64::MAX));
    }
}

impl Watch {
    /// Nothing is known yet, and nothing has been asked.
    pub fn new(entry: Entry, resolver: Rc<Resolver>, limits: Limits, meters: Meters) -> Self {
        Watch {
            entry,
            resolver,
            limits,
            meters,
            rng: fastrand::Rng::new(),
            known: Known::default(),
            wait: Duration::ZERO,
            left_out: 0,
        }
    }

    /// It has been asked about before, and these are known.
    pub fn knowing(mut self, endpoints: &[Endpoint]) -> Self {
        self.known = Known::of(endpoints);
        self
    }

    /// Asks for ever, and hands over each set that differs from the one before. The first question comes at once,
    /// unless [`Watch::ask`] was there before.
    pub async fn run(mut self, publish: impl Fn(&[Endpoint])) {
        loop {
            tokio::time::sleep(self.wait).await;
            if self.ask().await {
                publish(self.endpoints());
            }
        }
    }

    /// Asks once; whether the set has changed. It takes as long as `timeout` and `attempts` allow, twice that for a
    /// service.
    pub async fn ask(&mut self) -> bool {
        let answer = look(&self.resolver, &self.entry.question).await;
        let lesson = self.known.learn(&answer, self.limits, self.rng.f64());
        self.meters.count(&answer, self.known.endpoints().len());
        self.tell(&answer, &lesson);
        self.wait = lesson.wait;
        self.left_out = lesson.left_out;
        lesson.change.is_some()
    }

    /// What logs and metrics call it.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// The set as it is now: empty until the first good answer, and never again.
    pub fn endpoints(&self) -> &[Endpoint] {
        self.known.endpoints()
    }

    fn tell(&self, answer: &Result<Answer, ResolveError>, lesson: &Lesson) {
        let Entry { upstream, name, .. } = &self.entry;
        let (upstream, name, servers) = (upstream.as_str(), name.as_str(), self.known.endpoints().len());
        match lesson.trouble {
            Trouble::Began => {
                let cause = cause(answer);
                warn!(upstream, name, cause, servers, "dns fails: the last good servers are kept");
            }
            Trouble::Ended => info!(upstream, name, servers, "dns answers again"),
            Trouble::None | Trouble::Lasts => {}
        }
        if let Some(Change { added, removed, altered }) = &lesson.change {
            let (added, removed, altered) = (listed(added), listed(removed), listed(altered));
            info!(upstream, name, servers, added, removed, altered, "dns names other servers");
        }
        if lesson.left_out > 0 && self.left_out == 0 {
            let left_out = lesson.left_out;
            warn!(upstream, name, left_out, limit = ADDRESSES_MAX, "dns names more servers than are used");
        }
    }
}

/// Why there was no whole answer.
fn cause(answer: &Result<Answer, ResolveError>) -> String {
    match answer {
        Err(error) | Ok(Answer { missing: Some(error), .. }) => causes(error),
        Ok(_) => causes(&ResolveError::NoRecords),
    }
}

/// Addresses for a line of the log: the first few, and how many more there are.
fn listed(endpoints: &[Endpoint]) -> String {
    let some = endpoints.iter().take(LOGGED_MAX).map(|endpoint| endpoint.address.to_string());
    let text = some.collect::<Vec<_>>().join(", ");
    match endpoints.len().saturating_sub(LOGGED_MAX) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

async fn look(resolver: &Rc<Resolver>, question: &Question) -> Result<Answer, ResolveError> {
    match question {
        Question::Host { name, port, weight } => {
            let Addresses { found, missing } = resolver.addresses(name).await?;
            let endpoints = of_name(&found.values, *port, *weight);
            Ok(Answer { endpoints, valid_for: found.valid_for, missing })
        }
        Question::Service(name) => {
            let mut found = resolver.services(name).await?;
            // The best of them, should there be more than are ever used.
            found.values.sort_by_key(|service| (service.priority, u16::MAX - service.weight));
            found.values.truncate(ADDRESSES_MAX);
            let targets = resolve_targets(resolver, &found.values).await;
            answer_of(found.values, targets, found.valid_for)
        }
    }
}

/// The addresses of each target, in the order of the services.
async fn resolve_targets(
    resolver: &Rc<Resolver>,
    services: &[Service],
) -> Vec<Result<Addresses, ResolveError>> {
    let mut answers = Vec::with_capacity(services.len());
    for some in services.chunks(TARGETS_AT_ONCE) {
        let mut asked = JoinSet::new();
        for (index, service) in some.iter().enumerate() {
            let (resolver, target) = (resolver.clone(), service.target.clone());
            asked.spawn_local(async move { (index, resolver.addresses(&target).await) });
        }
        let mut answered = asked.join_all().await;
        answered.sort_by_key(|(index, _)| *index);
        answers.extend(answered.into_iter().map(|(_, answer)| answer));
    }
    answers
}

/// A service's answer from those of its targets. A target without addresses is none; one that cannot be asked about
/// is missing.
fn answer_of(
    services: Vec<Service>,
    targets: Vec<Result<Addresses, ResolveError>>,
    valid_for: Duration,
) -> Result<Answer, ResolveError> {
    let (mut valid_for, mut missing) = (valid_for, None);
    let mut known: Vec<(Service, Vec<IpAddr>)> = Vec::with_capacity(services.len());
    for (service, target) in services.into_iter().zip(targets) {
        match target {
            Ok(addresses) => {
                valid_for = valid_for.min(addresses.found.valid_for);
                missing = missing.or(addresses.missing);
                known.push((service, addresses.found.values));
            }
            Err(error) if error.is_nothing() => valid_for = valid_for.min(TARGET_RETRY),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    let endpoints = of_services(&known);
    if endpoints.is_empty() {
        return Err(missing.unwrap_or(ResolveError::NoRecords));
    }
    Ok(Answer { endpoints, valid_for, missing })
}
