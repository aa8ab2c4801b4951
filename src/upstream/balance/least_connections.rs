//! The least busy of all.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;
use super::load::least;
use super::load_tree::LoadTree;

/// Candidates up to which all are asked at each pick. Below, that is as quick as the tree and sees everything.
const SCANNED_MAX: usize = 64;

/// Entries of the tree that are read again at each pick, in turn: what other workers did is noticed after a quarter as
/// many picks as there are servers. More would make every pick slower.
const READ_AGAIN: usize = 4;

/// Servers taken off the top of the tree in one pick, because they may not serve or are busier than they were.
const CORRECTIONS_MAX: usize = 16;

/// The server with the fewest requests in flight for its weight (weighted least connections, as in LVS: Zhang, "Linux
/// Virtual Server for Scalable Network Services", 2000); chance decides between equals.
///
/// Up to 64 candidates all are asked. Above, a tree remembers them, O(log n): exact in what this worker does. Of what
/// the others do it notices what makes the chosen one busier at once, and the rest within len / 4 picks.
#[derive(Debug, Clone, Default)]
pub struct LeastConnections {
    epoch: Option<u64>,
    /// `None`: few enough to ask them all.
    tree: Option<LoadTree>,
    /// Who is read again next.
    next: usize,
    /// Who stands aside in the tree because this request was there.
    tried: Vec<usize>,
}

impl LeastConnections {
    fn update(&mut self, pool: &Pool<'_>) {
        if self.epoch == Some(pool.epoch()) {
            return;
        }
        self.epoch = Some(pool.epoch());
        let candidates = pool.candidates();
        let loads = candidates.iter().map(|&server| (server as usize, pool.load(server as usize)));
        self.tree = (candidates.len() > SCANNED_MAX).then(|| LoadTree::new(pool.len(), loads));
    }
}

impl Strategy for LeastConnections {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        self.update(pool);
        let found = self.tree.as_mut().and_then(|tree| {
            self.next = read_again(tree, pool, self.next);
            from_tree(tree, pool, rng, &mut self.tried)
        });
        let server = found.or_else(|| least(pool, rng, |server| pool.load(server)))?;
        if let Some(tree) = &mut self.tree {
            tree.set(server, pool.in_flight(server).saturating_add(1));
        }
        Some(Pick { server, reason: PickReason::LeastConnections })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(LeastConnections::default())
    }

    fn ended(&mut self, server: usize) {
        // It may have stood aside because it was full, which it no longer is.
        if let Some(tree) = &mut self.tree {
            tree.set(server, tree.in_flight(server).saturating_sub(1));
        }
    }
}

/// The next few entries as they are now. Returns who is next after them.
fn read_again(tree: &mut LoadTree, pool: &Pool<'_>, next: usize) -> usize {
    for step in 0..READ_AGAIN {
        let server = (next + step) % pool.len().max(1);
        if pool.is_candidate(server) && pool.has_room(server) {
            tree.set(server, pool.in_flight(server));
        } else {
            tree.set_aside(server);
        }
    }
    (next + READ_AGAIN) % pool.len().max(1)
}

/// The top of the tree, corrected until what it says of its top is true.
fn from_tree(
    tree: &mut LoadTree,
    pool: &Pool<'_>,
    rng: &mut fastrand::Rng,
    tried: &mut Vec<usize>,
) -> Option<usize> {
    let mut found = None;
    for correction in 0..=CORRECTIONS_MAX {
        let Some(server) = tree.draw(rng) else { break };
        if !pool.may_serve(server) {
            tree.set_aside(server);
            if pool.is_candidate(server) && pool.has_room(server) {
                tried.push(server);
            }
            continue;
        }
        let (seen, now) = (tree.in_flight(server), pool.in_flight(server));
        // The last is taken as it is: the others were found busier a moment ago.
        if now <= seen || correction == CORRECTIONS_MAX {
            found = Some(server);
            break;
        }
        tree.set(server, now);
    }
    tried.drain(..).for_each(|server| tree.set(server, pool.in_flight(server)));
    found
}
