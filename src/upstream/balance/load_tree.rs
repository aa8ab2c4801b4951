//! The least loads of many servers, found without asking them all.
//!
//! A tournament tree (Knuth, volume 3, section 5.4.1): the leaves are servers, a node knows the least load below it and how
//! many have it. A change plays its matches again up to the root: log n of them.

use super::Load;

/// Loads as they were last seen, by server.
#[derive(Debug, Clone, Default)]
pub(super) struct LoadTree {
    /// Node 1 is the root, those of node k are 2k and 2k + 1; the leaves are the second half.
    nodes: Vec<Node>,
    /// As last seen, also of who stands aside.
    in_flight: Vec<u32>,
    /// Of those who take part; 0 for the others.
    weights: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    /// [`rank`] of the least load.
    least: u64,
    /// How many have it.
    equals: u32,
}

const NOBODY: Node = Node { least: u64::MAX, equals: 0 };

/// A load as a number that can be compared without branches, for which a processor could only guess. Of weights up to
/// 65,535 equal loads, and only these, are equal numbers.
fn rank(load: &Load) -> u64 {
    (u64::from(load.in_flight.saturating_add(1)) << 32) / u64::from(load.weight.max(1))
}

impl LoadTree {
    /// For servers 0 to `len`; they are `loads`, with their indices.
    pub(super) fn new(len: usize, loads: impl Iterator<Item = (usize, Load)>) -> Self {
        let first = len.next_power_of_two();
        let (in_flight, weights) = (vec![0; len], vec![0; len]);
        let mut tree = LoadTree { nodes: vec![NOBODY; 2 * first], in_flight, weights };
        for (server, load) in loads {
            tree.nodes[first + server] = Node { least: rank(&load), equals: 1 };
            tree.in_flight[server] = load.in_flight;
            tree.weights[server] = load.weight;
        }
        for node in (1..first).rev() {
            tree.nodes[node] = tree.play(node);
        }
        tree
    }

    /// One of those with the least load, each as likely.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let root = self.nodes.get(1).filter(|root| root.equals > 0)?;
        let mut place = rng.u32(..root.equals);
        let mut node = 1;
        while node < self.first() {
            let left = self.nodes[2 * node];
            let before = if left.least == root.least { left.equals } else { 0 };
            let goes_right = place >= before;
            place -= if goes_right { before } else { 0 };
            node = 2 * node + usize::from(goes_right);
        }
        Some(node - self.first())
    }

    /// As last seen.
    pub(super) fn in_flight(&self, server: usize) -> u32 {
        self.in_flight.get(server).copied().unwrap_or(0)
    }

    /// What is now seen of a server; it takes part again if it stood aside.
    pub(super) fn set(&mut self, server: usize, in_flight: u32) {
        match self.weights.get(server) {
            None | Some(0) => {}
            Some(&weight) => {
                self.in_flight[server] = in_flight;
                self.put(server, Node { least: rank(&Load { in_flight, weight }), equals: 1 });
            }
        }
    }

    /// A server is not drawn until it is [`LoadTree::set`] again.
    pub(super) fn set_aside(&mut self, server: usize) {
        if server < self.weights.len() {
            self.put(server, NOBODY);
        }
    }

    fn put(&mut self, server: usize, leaf: Node) {
        let mut node = self.first() + server;
        let mut played = leaf;
        // From where a match ends as before, all above do.
        while node > 0 && self.nodes[node] != played {
            self.nodes[node] = played;
            node /= 2;
            played = self.play(node);
        }
    }

    fn play(&self, node: usize) -> Node {
        // Of node 0, which is above the root, this is nothing that anyone reads.
        let (left, right) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
        let least = left.least.min(right.least);
        let of = |node: Node| if node.least == least { node.equals } else { 0 };
        Node { least, equals: of(left) + of(right) }
    }

    fn first(&self) -> usize {
        self.nodes.len() / 2
    }
}
