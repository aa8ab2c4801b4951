//! The servers of an upstream at one time. Where names stand for servers, it is made anew when they mean others; requests
//! keep the one they began with.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config;
use crate::upstream::balance::{Factory, PoolSpec, ServerSpec, Strategy};
use crate::upstream::roster::{Known, Roster, Rules};
use crate::upstream::server::Server;
use crate::upstream::sticky::{StickyKey, StickyTable};

/// The servers of an upstream.
pub struct Members {
    /// By priority, and within it in the order of the file.
    pub servers: Vec<Arc<Server>>,
    /// In the order of priority.
    pub groups: Vec<Group>,
    /// What cookies of ours name them.
    pub sticky: Option<StickyTable>,
    by_id: HashMap<String, usize>,
}

/// Servers of one priority.
pub struct Group {
    /// Which of [`Members::servers`].
    pub range: Range<usize>,
    /// Each worker makes its own from it.
    strategy: Mutex<Box<dyn Strategy>>,
    /// The same, for sessions that are told by a hash.
    by_hash: Option<Mutex<Box<dyn Strategy>>>,
}

/// How an upstream's members are put together.
pub struct Recipe {
    /// What `balance` names.
    pub strategy: Factory,
    /// Of `consistent-hash`.
    pub load_factor: Option<u32>,
    /// For sessions that are told by a hash.
    pub by_hash: Option<Factory>,
    /// The upstream's name and its keys, for cookies of ours: the first signs.
    pub cookies: Option<(String, Vec<StickyKey>)>,
}

impl Members {
    /// Puts `servers` in order.
    pub fn new(mut servers: Vec<Arc<Server>>, recipe: &Recipe) -> Self {
        servers.sort_by_key(|server| server.priority);
        let mut groups = Vec::new();
        let mut first = 0;
        for group in servers.chunk_by(|one, other| one.priority == other.priority) {
            let spec = |server: &Arc<Server>| ServerSpec { name: server.id.clone(), weight: server.weight };
            let specs: Vec<_> = group.iter().map(spec).collect();
            let pool = PoolSpec { servers: &specs, load_factor: recipe.load_factor };
            groups.push(Group {
                range: first..first + group.len(),
                strategy: Mutex::new((recipe.strategy)(&pool)),
                by_hash: recipe.by_hash.as_ref().map(|factory| Mutex::new(factory(&pool))),
            });
            first += group.len();
        }
        let ids = || servers.iter().map(|server| server.id.as_str());
        let sticky = recipe.cookies.as_ref().map(|(upstream, keys)| StickyTable::new(keys, upstream, ids()));
        let by_id = ids().enumerate().map(|(index, id)| (id.to_owned(), index)).collect();
        Members { sticky, by_id, groups, servers }
    }

    /// Who may serve now, as `config` wants it.
    pub fn roster(&self, config: &config::Upstream, now: Duration) -> Roster {
        let known = |server: &Arc<Server>| Known {
            condition: server.state.condition(now),
            is_draining: server.state.is_draining(),
            weight: server.weight,
            changes_at: server.state.changes_at(now),
        };
        let known: Vec<_> = self.servers.iter().map(known).collect();
        let rules = Rules { spill_over: config.spill_over, panic_threshold: config.panic_threshold };
        Roster::new(self.groups.iter().map(|group| &known[group.range.clone()]), rules)
    }

    /// The group of a server, and its index in it.
    pub fn place_of(&self, server: usize) -> (usize, usize) {
        let group = self.groups.partition_point(|group| group.range.end <= server);
        (group, server - self.groups[group].range.start)
    }

    /// Which server has this id.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}

impl Group {
    /// One worker's strategy, and the one for its sessions.
    pub fn for_worker(&self, seed: u64) -> (Box<dyn Strategy>, Option<Box<dyn Strategy>>) {
        let own = |prototype: &Mutex<Box<dyn Strategy>>| {
            prototype.lock().unwrap_or_else(PoisonError::into_inner).for_worker(seed)
        };
        (own(&self.strategy), self.by_hash.as_ref().map(own))
    }
}
