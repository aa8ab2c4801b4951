//! Which route takes a request: (listener, host, path) in, an index and a reason out.
//!
//! Pure. The most specific match wins, and "specific" is decided in this order:
//!
//! 1. the host: an exact name, then the longest wildcard (`*.a.example` before `*.example`), then any;
//! 2. the path: an exact path, then the wildcard whose segments, from the left, are literal for
//!    longest (and that ends where the path ends rather than in `/*`), then the longest prefix;
//! 3. a route that names the listener before one that takes every listener;
//! 4. the order in the file.
//!
//! A path that some server reads as another, for which there is another route, has none: it is ambiguous.
//!
//! A host whose routes have no matching path does not end the search: the next less specific host is asked.
//! Both sides are compared in the form that [`path::normal`] and [`normal_host`] give them.
//!
//! Each listener has tables of its own, with rules 3 and 4 already applied, so a look-up never compares routes.

mod find;
pub mod path;

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::HostPattern;
use crate::config::Route;
use crate::router::find::Paths;

type Table = HashMap<Box<str>, Paths, foldhash::fast::RandomState>;

/// Every route of a configuration, ready to be asked.
#[derive(Debug)]
pub struct Router {
    /// By listener.
    listeners: Vec<Hosts>,
}

/// The route of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Index into the routes that the router was built from.
    pub route: usize,
    /// What made it the most specific one.
    pub reason: RouteReason,
}

/// Why a route was taken, or that none was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum RouteReason {
    HostExactPathExact,
    HostExactPathWildcard,
    HostExactPathPrefix,
    HostWildcardPathExact,
    HostWildcardPathWildcard,
    HostWildcardPathPrefix,
    HostAnyPathExact,
    HostAnyPathWildcard,
    HostAnyPathPrefix,
    NoRoute,
}

impl RouteReason {
    /// Every reason, for the label values of a metric; `reason as usize` is its place here.
    pub const ALL: [RouteReason; 10] = [
        RouteReason::HostExactPathExact,
        RouteReason::HostExactPathWildcard,
        RouteReason::HostExactPathPrefix,
        RouteReason::HostWildcardPathExact,
        RouteReason::HostWildcardPathWildcard,
        RouteReason::HostWildcardPathPrefix,
        RouteReason::HostAnyPathExact,
        RouteReason::HostAnyPathWildcard,
        RouteReason::HostAnyPathPrefix,
        RouteReason::NoRoute,
    ];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RouteReason::HostExactPathExact => "host-exact/path-exact",
            RouteReason::HostExactPathWildcard => "host-exact/path-wildcard",
            RouteReason::HostExactPathPrefix => "host-exact/path-prefix",
            RouteReason::HostWildcardPathExact => "host-wildcard/path-exact",
            RouteReason::HostWildcardPathWildcard => "host-wildcard/path-wildcard",
            RouteReason::HostWildcardPathPrefix => "host-wildcard/path-prefix",
            RouteReason::HostAnyPathExact => "host-any/path-exact",
            RouteReason::HostAnyPathWildcard => "host-any/path-wildcard",
            RouteReason::HostAnyPathPrefix => "host-any/path-prefix",
            RouteReason::NoRoute => "no-route",
        }
    }
}

impl Router {
    /// Compiles `routes` for a configuration that has `listeners` listeners.
    pub fn new(routes: &[Route], listeners: usize) -> Self {
        Router { listeners: (0..listeners).map(|listener| Hosts::new(routes, listener)).collect() }
    }

    /// The route for a request that came in on `listener`, with `host` as [`normal_host`] gives it and
    /// `path` as the client sent it, without its query.
    pub fn find(&self, listener: usize, host: &str, path: &str) -> Result<Match, RouteReason> {
        let hosts = self.listeners.get(listener).ok_or(RouteReason::NoRoute)?;
        let path = path::normal(path);
        hosts.find(host, &path).ok_or(RouteReason::NoRoute)
    }

    /// Whether some server may read `path` so that it is another route's than [`Router::find`] says: then the rules of
    /// either could be walked around.
    pub fn is_ambiguous(&self, listener: usize, host: &str, path: &str) -> bool {
        let readings = path::other_readings(path);
        let Some(hosts) = self.listeners.get(listener).filter(|_| !readings.is_empty()) else { return false };
        let route = |path: &str| hosts.find(host, &path::normal(path)).map(|found| found.route);
        let found = route(path);
        readings.iter().any(|reading| route(reading) != found)
    }
}

/// `host` in lower case, without port and without the trailing dot of a fully qualified name.
/// Borrows when there is nothing to change. The host is assumed to be well formed.
pub fn normal_host(host: &str) -> Cow<'_, str> {
    let name = match host.strip_prefix('[') {
        // The colons of an IPv6 address are within its brackets.
        Some(inner) => inner.find(']').map_or(host, |end| &host[..end + 2]),
        None => memchr::memchr(b':', host.as_bytes()).map_or(host, |colon| &host[..colon]),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The tables of one listener.
#[derive(Debug, Default)]
struct Hosts {
    exact: Table,
    /// By suffix, without `*.`.
    wildcard: Table,
    any: Paths,
}

impl Hosts {
    fn new(routes: &[Route], listener: usize) -> Self {
        let mut hosts = Hosts::default();
        // The first to come keeps a place: so those that name this listener come first.
        let named = routes.iter().enumerate().filter(|(_, r)| r.listener == Some(listener));
        let unnamed = routes.iter().enumerate().filter(|(_, r)| r.listener.is_none());
        for (index, route) in named.chain(unnamed) {
            hosts.paths_mut(&route.host).add(&route.path, index);
        }
        hosts
    }

    fn paths_mut(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(name) => self.exact.entry(normal_host(name).into()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(normal_host(suffix).into()).or_default(),
        }
    }

    fn find(&self, host: &str, path: &str) -> Option<Match> {
        use RouteReason::*;
        if let Some(found) = self.exact.get(host).and_then(|p| p.find(path)) {
            return Some(found.because(HostExactPathExact, HostExactPathWildcard, HostExactPathPrefix));
        }
        if !self.wildcard.is_empty() {
            let found = suffixes(host).find_map(|s| self.wildcard.get(s).and_then(|p| p.find(path)));
            if let Some(found) = found {
                let (exact, wildcard, prefix) =
                    (HostWildcardPathExact, HostWildcardPathWildcard, HostWildcardPathPrefix);
                return Some(found.because(exact, wildcard, prefix));
            }
        }
        let found = self.any.find(path)?;
        Some(found.because(HostAnyPathExact, HostAnyPathWildcard, HostAnyPathPrefix))
    }
}

/// What follows each dot of `host`, longest first. The part before must not be empty: `*` is at least one label.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    memchr::memchr_iter(b'.', host.as_bytes()).filter(|&dot| dot > 0).map(|dot| &host[dot + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::PathPattern;

    fn host(text: &str) -> HostPattern {
        match text.strip_prefix("*.") {
            _ if text == "*" => HostPattern::Any,
            Some(suffix) => HostPattern::Wildcard(suffix.into()),
            None => HostPattern::Exact(text.into()),
        }
    }

    fn path(text: &str) -> PathPattern {
        let (body, tail) = match text.strip_suffix("/*") {
            Some(body) => (body, true),
            None => (text, false),
        };
        if body.split('/').any(|s| s == "*") {
            let segments = body[1..].split('/').map(|s| (s != "*").then(|| s.to_owned())).collect();
            PathPattern::Wildcard { segments, tail }
        } else if tail {
            PathPattern::Prefix(format!("{body}/"))
        } else {
            PathPattern::Exact(text.into())
        }
    }

    fn route(listener: Option<usize>, h: &str, p: &str) -> Route {
        Route {
            name: format!("{h}{p}"),
            listener,
            host: host(h),
            path: path(p),
            upstream: 0,
            cache: None,
            max_body: None,
        }
    }

    fn ask(routes: &[(Option<usize>, &str, &str)], host: &str, path: &str) -> Option<(usize, &'static str)> {
        let routes: Vec<_> = routes.iter().map(|(l, h, p)| route(*l, h, p)).collect();
        Router::new(&routes, 2).find(0, host, path).ok().map(|m| (m.route, m.reason.as_str()))
    }

    #[test]
    fn the_most_specific_host_wins_and_less_specific_ones_are_asked_when_it_has_no_path() {
        let routes = [
            (None, "*", "/*"),
            (None, "*.example.com", "/*"),
            (None, "*.a.example.com", "/only"),
            (None, "www.example.com", "/www"),
        ];
        for (host, path, expected) in [
            ("www.example.com", "/www", Some((3, "host-exact/path-exact"))),
            ("www.example.com", "/else", Some((1, "host-wildcard/path-prefix"))),
            ("b.a.example.com", "/only", Some((2, "host-wildcard/path-exact"))),
            ("c.b.a.example.com", "/only", Some((2, "host-wildcard/path-exact"))),
            ("b.a.example.com", "/x", Some((1, "host-wildcard/path-prefix"))),
            ("example.com", "/", Some((0, "host-any/path-prefix"))),
            (".example.com", "/", Some((0, "host-any/path-prefix"))),
            ("", "*", Some((0, "host-any/path-prefix"))),
        ] {
            assert_eq!(ask(&routes, host, path), expected, "{host} {path}");
        }
    }

    #[test]
    fn an_exact_path_beats_a_wildcard_and_a_wildcard_beats_a_prefix() {
        let routes = [
            (None, "*", "/users/*"),
            (None, "*", "/users/*/photos"),
            (None, "*", "/users/*/photos/*"),
            (None, "*", "/users/me/photos"),
            (None, "*", "/users/me/*/last"),
            (None, "*", "/users/*/*/last"),
            (None, "*", "/users/me/albums/*"),
        ];
        for (path, expected) in [
            ("/users/me/photos", Some(3)),
            ("/users/you/photos", Some(1)),
            ("/users/you/photos/7", Some(2)),
            ("/users/me/x/last", Some(4)),
            ("/users/you/x/last", Some(5)),
            ("/users/me/albums/last", Some(4)),
            ("/users/me/albums/first", Some(6)),
            ("/users", Some(0)),
            ("/users/", Some(0)),
            ("/users//photos", Some(0)),
            ("/usersome", None),
            ("/", None),
        ] {
            assert_eq!(ask(&routes, "h", path).map(|m| m.0), expected, "{path}");
        }
    }

    #[test]
    fn a_wildcard_that_leads_nowhere_is_taken_back() {
        let routes = [(None, "*", "/a/b/*/d"), (None, "*", "/a/*/c/e"), (None, "*", "/*/b/c/*")];

        assert_eq!(ask(&routes, "h", "/a/b/c/d").map(|m| m.0), Some(0));
        assert_eq!(ask(&routes, "h", "/a/b/c/e").map(|m| m.0), Some(1));
        assert_eq!(ask(&routes, "h", "/a/b/c/f").map(|m| m.0), Some(2));
        assert_eq!(ask(&routes, "h", "/a/x/c/f"), None);
    }

    #[test]
    fn a_route_that_names_the_listener_comes_first_and_then_the_order_of_the_file() {
        assert_eq!(ask(&[(None, "*", "/*"), (Some(0), "*", "/*")], "h", "/").map(|m| m.0), Some(1));
        assert_eq!(ask(&[(None, "*", "/*"), (Some(1), "*", "/*")], "h", "/").map(|m| m.0), Some(0));
        assert_eq!(ask(&[(None, "*", "/*"), (None, "*", "/*")], "h", "/").map(|m| m.0), Some(0));
        // The path decides before the listener does.
        assert_eq!(ask(&[(None, "*", "/a"), (Some(0), "*", "/*")], "h", "/a").map(|m| m.0), Some(0));
        assert_eq!(ask(&[(Some(1), "*", "/a")], "h", "/a"), None);
    }

    #[test]
    fn dressed_up_paths_find_the_route_of_their_plain_form() {
        let routes = [(None, "*", "/*"), (None, "*", "/admin/*")];
        for path in ["/admin/x", "/%61dmin", "//admin//", "/./admin", "/x/../admin/y", "/x/%2E%2e/admin"] {
            assert_eq!(ask(&routes, "h", path).map(|m| m.0), Some(1), "{path}");
        }
    }

    #[test]
    fn hosts_lose_port_dot_and_capitals() {
        for (host, expected) in [
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(normal_host(host), expected);
        }
    }

    /// The oracle: every route is looked at, and the greatest rank wins.
    fn linear(routes: &[Route], listener: usize, host: &str, path: &str) -> Option<usize> {
        let segments: Vec<&str> = path[1..].split('/').collect();
        let mut best: Option<(_, usize)> = None;
        for (index, route) in routes.iter().enumerate() {
            if route.listener.is_some_and(|l| l != listener) {
                continue;
            }
            let (Some(h), Some(p)) = (host_rank(&route.host, host), path_rank(&route.path, path, &segments))
            else {
                continue;
            };
            let rank = (h, p, route.listener.is_some());
            if best.as_ref().is_none_or(|(b, _)| rank > *b) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn host_rank(pattern: &HostPattern, host: &str) -> Option<(u8, usize)> {
        match pattern {
            HostPattern::Any => Some((0, 0)),
            HostPattern::Exact(name) => (name == host).then_some((2, 0)),
            HostPattern::Wildcard(suffix) => {
                let label = host.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
                (!label.is_empty()).then_some((1, suffix.len()))
            }
        }
    }

    fn path_rank(pattern: &PathPattern, path: &str, segments: &[&str]) -> Option<(u8, Vec<u8>, usize)> {
        match pattern {
            PathPattern::Exact(exact) => (exact == path).then_some((2, vec![], 0)),
            PathPattern::Prefix(prefix) => {
                (format!("{path}/").starts_with(prefix.as_str())).then_some((0, vec![], prefix.len()))
            }
            PathPattern::Wildcard { segments: wanted, tail } => {
                if segments.len() < wanted.len() || (!tail && segments.len() > wanted.len()) {
                    return None;
                }
                let fits = wanted.iter().zip(segments).all(|(w, s)| match w {
                    Some(w) => w == s,
                    None => !s.is_empty(),
                });
                let mut rank: Vec<u8> = wanted.iter().map(|w| if w.is_some() { 3 } else { 2 }).collect();
                rank.push(if *tail { 0 } else { 1 });
                fits.then_some((1, rank, 0))
            }
        }
    }

    prop_compose! {
        fn any_route()(
            listener in prop_oneof![Just(None), Just(Some(0)), Just(Some(1))],
            labels in prop::collection::vec("[ab]", 1..3),
            kind in 0..4,
            segments in prop::collection::vec("[abc*]", 0..4),
            tail in any::<bool>(),
        ) -> Route {
            let name = labels.join(".");
            let h = match kind { 0 => "*".to_owned(), 1 => name, _ => format!("*.{name}") };
            let p = format!("/{}{}", segments.join("/"), if tail { "/*" } else { "" }).replace("//", "/");
            route(listener, &h, if p.is_empty() { "/" } else { &p })
        }
    }

    proptest! {
        #[test]
        fn the_tables_agree_with_looking_at_every_route(
            routes in prop::collection::vec(any_route(), 0..24),
            host in prop::collection::vec("[abc]", 1..5),
            segments in prop::collection::vec("[abcd]", 0..5),
            slash in any::<bool>(),
        ) {
            let host = host.join(".");
            let mut path = format!("/{}", segments.join("/"));
            if slash && path.len() > 1 { path.push('/'); }
            let router = Router::new(&routes, 2);
            for listener in 0..2 {
                let found = router.find(listener, &host, &path).ok().map(|m| m.route);
                prop_assert_eq!(found, linear(&routes, listener, &host, &path));
            }
        }

        #[test]
        fn no_text_makes_a_look_up_panic(host in ".{0,20}", path in ".{0,40}") {
            let router = Router::new(&[route(None, "*.a", "/*/b"), route(None, "*", "/a/*")], 1);
            let _ = router.find(0, &normal_host(&host), &path);
        }
    }
}
