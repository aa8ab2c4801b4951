//! What the control thread does for each upstream: it follows the names of its servers, probes them, and looks each
//! second who stands out.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
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
    probes: RefCell<HashMap<String, (Rc<Subject>, AbortHandle)>>,
    outliers: RefCell<Outliers>,
    was_panicking: Cell<bool>,
}

/// All lookouts of the configuration in force.
pub struct Lookouts {
    keep: Arc<Keep>,
    prober: Rc<Prober>,
    /// By the upstream's name.
    all: RefCell<HashMap<String, Running>>,
}

/// A lookout at work.
struct Running {
    lookout: Rc<Lookout>,
    /// Its own, and those that follow names.
    tasks: Vec<AbortHandle>,
}

/// Asks for all names at once that nothing is known of, so that the first request finds servers. A name that does not
/// resolve keeps nobody waiting for long, and the process from nothing. Upstreams that are those of `before` have who
/// follows their names.
///
/// # Errors
/// What DNS servers there are cannot be found out.
pub async fn first_names(
    snapshot: &Snapshot,
    keep: &Arc<Keep>,
    before: Option<&Snapshot>,
) -> Result<Vec<Name>, ResolveError> {
    let before: HashSet<_> = before.iter().flat_map(|before| &before.upstreams).map(Arc::as_ptr).collect();
    let (mut known, mut asked) = (Vec::new(), JoinSet::new());
    let mut resolver = None;
    for (upstream, of) in snapshot.config.upstreams.iter().enumerate() {
        let questions: Vec<_> = of.servers.iter().map(|server| Entry::of(of, server)).collect();
        if questions.iter().all(Option::is_none)
            || before.contains(&Arc::as_ptr(&snapshot.upstreams[upstream]))
        {
            continue;
        }
        let entries = snapshot.upstreams[upstream].entries();
        for (entry, question) in questions.into_iter().enumerate() {
            let Some(question) = question else { continue };
            // Only where there are names: a broken resolv.conf is nobody's business who has none.
            let resolver = match &resolver {
                Some(resolver) => Rc::clone(resolver),
                None => resolver.insert(Rc::new(Resolver::new(&snapshot.config.dns)?)).clone(),
            };
            let meters = Meters::new(&keep.metrics, keep.metrics.cells(keep.workers()), &question);
            let watch = Watch::new(question, resolver, Limits::from(&snapshot.config.dns), meters);
            let endpoints = &entries[entry].1;
            if endpoints.is_empty() {
                asked.spawn_local(first_answer(Name { upstream, entry, watch }));
            } else {
                known.push(Name { upstream, entry, watch: watch.knowing(endpoints) });
            }
        }
    }
    let asked = asked.join_all().await;
    for name in &asked {
        renew(&snapshot.upstreams[name.upstream], name.entry, name.watch.endpoints(), keep, None);
    }
    known.extend(asked);
    Ok(known)
}

async fn first_answer(mut name: Name) -> Name {
    if tokio::time::timeout(FIRST_NAMES, name.watch.ask()).await.is_err() {
        warn!(name = name.watch.name(), after = ?FIRST_NAMES, "dns is slow: not waiting for it any longer");
    }
    name
}

impl Lookouts {
    /// Nobody is looked after yet.
    pub fn new(keep: &Arc<Keep>, prober: &Rc<Prober>) -> Rc<Self> {
        Rc::new(Lookouts { keep: keep.clone(), prober: prober.clone(), all: RefCell::default() })
    }

    /// Looks after these upstreams from now on, and no others. Whoever stays as it is hears nothing of it; who has changed
    /// keeps the probes that are as before.
    pub fn follow(&self, snapshot: &Snapshot, names: Vec<Name>) {
        let mut before = self.all.take();
        let (mut all, mut new) = (HashMap::with_capacity(snapshot.upstreams.len()), HashMap::new());
        for (index, upstream) in snapshot.upstreams.iter().enumerate() {
            let name = upstream.config.name.clone();
            let running = match before.remove(&name) {
                Some(running) if Arc::ptr_eq(&running.lookout.upstream, upstream) => running,
                last => {
                    let lookout = Lookout::new(upstream, &self.keep, &self.prober, last);
                    new.insert(index, lookout.clone());
                    Running { lookout, tasks: Vec::new() }
                }
            };
            all.insert(name, running);
        }
        before.into_values().for_each(Running::end);
        let crowd = new.values().map(|lookout| lookout.upstream.members().servers.len()).sum();
        for lookout in new.values() {
            lookout.probe(crowd);
            let task = tokio::task::spawn_local(lookout.clone().watch()).abort_handle();
            all.entry(lookout.upstream.config.name.clone()).and_modify(|running| running.tasks.push(task));
        }
        for Name { upstream, entry, watch } in names {
            let Some(lookout) = new.get(&upstream).cloned() else { continue };
            let name = lookout.upstream.config.name.clone();
            let run = watch.run(move |endpoints: &[Endpoint]| lookout.renew(entry, endpoints));
            let task = tokio::task::spawn_local(run).abort_handle();
            all.entry(name).and_modify(|running| running.tasks.push(task));
        }
        self.all.replace(all);
    }
}

impl Running {
    fn end(self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.lookout.probes.take().into_values().for_each(|(_, task)| task.abort());
    }
}

impl Lookout {
    /// `last` looked after the upstream of this name before.
    fn new(
        upstream: &Arc<Upstream>,
        keep: &Arc<Keep>,
        prober: &Rc<Prober>,
        last: Option<Running>,
    ) -> Rc<Self> {
        let (upstream, keep, prober) = (upstream.clone(), keep.clone(), prober.clone());
        let lookout = Lookout {
            upstream,
            keep,
            prober,
            probes: RefCell::default(),
            outliers: RefCell::default(),
            was_panicking: Cell::new(false),
        };
        if let Some(last) = last {
            last.tasks.iter().for_each(AbortHandle::abort);
            lookout.probes.replace(last.lookout.probes.take());
            lookout.outliers.replace(last.lookout.outliers.take());
            lookout.was_panicking.set(last.lookout.was_panicking.get());
        }
        Rc::new(lookout)
    }

    /// A name stands for other servers.
    fn renew(&self, entry: usize, endpoints: &[Endpoint]) {
        renew(&self.upstream, entry, endpoints, &self.keep, Some(self.keep.now()));
        self.probe(endpoints.len());
    }

    /// Begins to probe servers that are new, with a `crowd` of others, and ends it for those that are gone, or are asked in
    /// another way from now on.
    fn probe(&self, crowd: usize) {
        let (members, mut probes) = (self.upstream.members(), self.probes.borrow_mut());
        let subjects = members.servers.iter().filter_map(|server| Subject::of(&self.upstream, server));
        let mut wanted: HashMap<_, _> = subjects.map(|subject| (subject.server.clone(), subject)).collect();
        probes.retain(|id, (known, task)| {
            let stays = wanted.get(id).is_some_and(|subject| subject.is_same(known));
            match stays {
                true => drop(wanted.remove(id)),
                false => task.abort(),
            }
            stays
        });
        for (id, subject) in wanted {
            let subject = Rc::new(subject);
            let watch = probe::watch(subject.clone(), crowd, self.prober.clone(), fastrand::Rng::new());
            probes.insert(id, (subject, tokio::task::spawn_local(watch).abort_handle()));
        }
    }

    async fn watch(self: Rc<Self>) {
        let (upstream, keep) = (&self.upstream, &self.keep);
        let cells = keep.metrics.cells(keep.workers());
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = keep.now();
            upstream.look_for_outliers(&mut self.outliers.borrow_mut(), now, &cells);
            let is_panicking = upstream.roster(now).is_panicking;
            let (name, threshold) = (&upstream.config.name, upstream.config.panic_threshold);
            match (self.was_panicking.replace(is_panicking), is_panicking) {
                (false, true) => {
                    warn!(upstream = name, threshold, "panic: so few servers are healthy that all serve")
                }
                (true, false) => info!(upstream = name, threshold, "panic over: only healthy servers serve"),
                _ => {}
            }
        }
    }
}
