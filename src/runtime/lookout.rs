//! What the control thread does for each upstream: it follows the names of its servers, probes them, and looks each
//! second who stands out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::net::resolve::{ResolveError, Resolver};
use crate::state::{Keep, Snapshot, renew};
use crate::upstream::discovery::{Endpoint, Entry, Limits, Meters, Watch};
use crate::upstream::outlier::Outliers;
use crate::upstream::pool::Upstream;
use crate::upstream::probe::{self, Prober, Subject};

/// Between two looks; [`Outliers`] counts in seconds.
const LOOK: Duration = Duration::from_secs(1);
/// How long the start waits for names: whoever answers later joins later.
const FIRST_NAMES: Duration = Duration::from_secs(5);

/// What follows the name of one entry of one upstream.
pub struct Name {
    upstream: usize,
    entry: usize,
    watch: Watch,
}

/// The control thread's side of an upstream.
struct Lookout {
    upstream: Arc<Upstream>,
    keep: Arc<Keep>,
    prober: Rc<Prober>,
    /// By the server's id.
    probes: RefCell<HashMap<String, AbortHandle>>,
}

/// Asks for all names at once, so that the first request finds servers. A name that does not resolve keeps nobody
/// waiting for long, and the process from nothing.
///
/// # Errors
/// What DNS servers there are cannot be found out.
pub async fn first_names(snapshot: &Snapshot, keep: &Arc<Keep>) -> Result<Vec<Name>, ResolveError> {
    let mut names = Vec::new();
    let mut resolver = None;
    for (upstream, of) in snapshot.config.upstreams.iter().enumerate() {
        for (entry, server) in of.servers.iter().enumerate() {
            let Some(question) = Entry::of(of, server) else { continue };
            // Only where there are names: a broken resolv.conf is nobody's business who has none.
            let resolver = match &resolver {
                Some(resolver) => Rc::clone(resolver),
                None => resolver.insert(Rc::new(Resolver::new(&snapshot.config.dns)?)).clone(),
            };
            let meters = Meters::new(&keep.metrics, keep.metrics.cells(keep.workers()), &question);
            let watch = Watch::new(question, resolver, Limits::from(&snapshot.config.dns), meters);
            names.push(Name { upstream, entry, watch });
        }
    }
    let mut asked = JoinSet::new();
    for mut name in names {
        asked.spawn_local(async move {
            if tokio::time::timeout(FIRST_NAMES, name.watch.ask()).await.is_err() {
                warn!(name = name.watch.name(), after = ?FIRST_NAMES, "dns is slow: not waiting for it any longer");
            }
            name
        });
    }
    let names = asked.join_all().await;
    for name in &names {
        renew(&snapshot.upstreams[name.upstream], name.entry, name.watch.endpoints(), keep, None);
    }
    Ok(names)
}

/// Looks after all upstreams for ever.
pub fn look_after(snapshot: &Snapshot, keep: &Arc<Keep>, prober: &Rc<Prober>, names: Vec<Name>) {
    let lookouts: Vec<_> =
        snapshot.upstreams.iter().map(|upstream| Lookout::new(upstream, keep, prober)).collect();
    let servers = snapshot.upstreams.iter().map(|upstream| upstream.members().servers.len()).sum();
    for lookout in &lookouts {
        lookout.probe(servers);
        tokio::task::spawn_local(lookout.clone().watch());
    }
    for Name { upstream, entry, watch } in names {
        let lookout = lookouts[upstream].clone();
        tokio::task::spawn_local(watch.run(move |endpoints: &[Endpoint]| lookout.renew(entry, endpoints)));
    }
}

impl Lookout {
    fn new(upstream: &Arc<Upstream>, keep: &Arc<Keep>, prober: &Rc<Prober>) -> Rc<Self> {
        let (upstream, keep, prober) = (upstream.clone(), keep.clone(), prober.clone());
        Rc::new(Lookout { upstream, keep, prober, probes: RefCell::default() })
    }

    /// A name stands for other servers.
    fn renew(&self, entry: usize, endpoints: &[Endpoint]) {
        renew(&self.upstream, entry, endpoints, &self.keep, Some(self.keep.now()));
        self.probe(endpoints.len());
    }

    /// Begins to probe servers that are new, with a `crowd` of others, and ends it for those that are gone.
    fn probe(&self, crowd: usize) {
        let (members, mut probes) = (self.upstream.members(), self.probes.borrow_mut());
        probes.retain(|id, task| {
            let stays = members.index_of(id).is_some();
            if !stays {
                task.abort();
            }
            stays
        });
        for server in members.servers.iter() {
            let Some(subject) = Subject::of(&self.upstream, server) else { return };
            probes.entry(server.id.clone()).or_insert_with(|| {
                let watch = probe::watch(subject, crowd, self.prober.clone(), fastrand::Rng::new());
                tokio::task::spawn_local(watch).abort_handle()
            });
        }
    }

    async fn watch(self: Rc<Self>) {
        let (upstream, keep) = (&self.upstream, &self.keep);
        let cells = keep.metrics.cells(keep.workers());
        let (mut outliers, mut was_panicking) = (Outliers::default(), false);
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = keep.now();
            upstream.look_for_outliers(&mut outliers, now, &cells);
            let is_panicking = upstream.roster(now).is_panicking;
            let (name, threshold) = (&upstream.config.name, upstream.config.panic_threshold);
            match (was_panicking, is_panicking) {
                (false, true) => {
                    warn!(upstream = name, threshold, "panic: so few servers are healthy that all serve")
                }
                (true, false) => info!(upstream = name, threshold, "panic over: only healthy servers serve"),
                _ => {}
            }
            was_panicking = is_panicking;
        }
    }
}
