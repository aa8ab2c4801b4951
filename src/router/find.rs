//! The paths of one host: a map of exact paths and two tries over segments.
//!
//! A look-up visits a node at most once (a node has one parent, and stands at one depth), so going back
//! from a wildcard that leads nowhere costs at most the number of nodes, whatever the client sends.

use std::collections::HashMap;

use crate::config::PathPattern;
use crate::router::Match;
use crate::router::RouteReason;
use crate::router::path;

/// Routes by path, for one host of one listener.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    wildcards: Option<Node>,
    prefixes: Node,
}

/// A route, and the kind of pattern that found it.
pub(super) enum Found {
    Exact(usize),
    Wildcard(usize),
    Prefix(usize),
}

impl Found {
    /// The match, with the reason for its kind.
    pub(super) fn because(self, exact: RouteReason, wildcard: RouteReason, prefix: RouteReason) -> Match {
        match self {
            Found::Exact(route) => Match { route, reason: exact },
            Found::Wildcard(route) => Match { route, reason: wildcard },
            Found::Prefix(route) => Match { route, reason: prefix },
        }
    }
}

impl Paths {
    /// Adds a route; one that has the same pattern already keeps its place.
    pub(super) fn add(&mut self, pattern: &PathPattern, route: usize) {
        match pattern {
            PathPattern::Exact(exact) => {
                self.exact.entry(path::normal(exact).into()).or_insert(route);
            }
            PathPattern::Prefix(prefix) => {
                let prefix = path::normal(prefix);
                let literals = prefix.split('/').filter(|s| !s.is_empty());
                let node = literals.fold(&mut self.prefixes, |node, s| node.literal_mut(s));
                node.below.get_or_insert(route);
            }
            PathPattern::Wildcard { segments, tail } => {
                let root = self.wildcards.get_or_insert_default();
                let node = segments.iter().fold(root, |node, segment| match segment {
                    Some(literal) => node.literal_mut(&path::normal_segment(literal)),
                    None => node.star.get_or_insert_default(),
                });
                let place = if *tail { &mut node.below } else { &mut node.here };
                place.get_or_insert(route);
            }
        }
    }

    /// The route of `path`, which is normal.
    pub(super) fn find(&self, path: &str) -> Option<Found> {
        if let Some(&route) = self.exact.get(path) {
            return Some(Found::Exact(route));
        }
        // `OPTIONS *` has no segments: only the prefix of everything takes it.
        let segments = path.strip_prefix('/');
        if let Some(route) = self.wildcards.as_ref().and_then(|root| root.find(segments)) {
            return Some(Found::Wildcard(route));
        }
        self.prefixes.find_deepest(segments).map(Found::Prefix)
    }
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node, foldhash::fast::RandomState>,
    star: Option<Box<Node>>,
    /// The route of a pattern that ends here.
    here: Option<usize>,
    /// The route of a pattern that ends here in `/*`.
    below: Option<usize>,
}

impl Node {
    fn literal_mut(&mut self, segment: &str) -> &mut Node {
        self.literals.entry(segment.into()).or_default()
    }

    /// Literal before `*`, either before `/*`. `rest` is what remains of the path; `None` is its end. The
    /// recursion is as deep as the longest pattern in the file, never as the path.
    fn find(&self, rest: Option<&str>) -> Option<usize> {
        let Some(rest) = rest else { return self.here.or(self.below) };
        let (segment, after) = cut(rest);
        let literal = self.literals.get(segment).and_then(|node| node.find(after));
        if literal.is_some() {
            return literal;
        }
        let star = self.star.as_ref().filter(|_| !segment.is_empty());
        star.and_then(|node| node.find(after)).or(self.below)
    }

    /// Follows literals as far as they go; the last `/*` on the way wins.
    fn find_deepest(&self, mut rest: Option<&str>) -> Option<usize> {
        let (mut node, mut deepest) = (self, self.below);
        while let Some(segments) = rest.filter(|_| !node.literals.is_empty()) {
            let (segment, after) = cut(segments);
            let Some(next) = node.literals.get(segment) else { break };
            deepest = next.below.or(deepest);
            (node, rest) = (next, after);
        }
        deepest
    }
}

/// The first segment, and what follows its slash.
fn cut(segments: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'/', segments.as_bytes()) {
        Some(slash) => (&segments[..slash], Some(&segments[slash + 1..])),
        None => (segments, None),
    }
}
