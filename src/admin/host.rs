//! Which host a request to the admin listener may be for.
//!
//! The listener has no passwords: it trusts whoever reaches it, and a browser on the operator's machine does. A page there
//! can let a name of its own stand for our address (DNS rebinding); then the browser takes us for the page's own site, and
//! lets it read and command. What such a request cannot do is hide that name: it is in `Host`.

use http::{HeaderMap, Uri, Version, header, request};

use crate::config::HostPattern;
use crate::filter::authority::Authority;

/// Whether a request with this head is meant for us: for an IP address or `localhost`, which nobody can rebind, or for one of
/// `hosts`.
pub(super) fn is_ours(head: &request::Parts, hosts: &[HostPattern]) -> bool {
    target_is_ours(&head.uri, hosts) && field_is_ours(&head.headers, head.version, hosts)
}

fn target_is_ours(target: &Uri, hosts: &[HostPattern]) -> bool {
    target.authority().is_none_or(|authority| is_one_of(authority.as_str(), hosts))
}

/// HTTP/1.0 needs no `Host`: probes speak it, and no browser does.
fn field_is_ours(fields: &HeaderMap, version: Version, hosts: &[HostPattern]) -> bool {
    let mut said = fields.get_all(header::HOST).iter();
    match (said.next(), said.next()) {
        (Some(host), None) => host.to_str().is_ok_and(|host| is_one_of(host, hosts)),
        (None, _) => version == Version::HTTP_10,
        _ => false,
    }
}

fn is_one_of(host: &str, hosts: &[HostPattern]) -> bool {
    let Some(authority) = Authority::parse(host) else { return false };
    let name = authority.normal_name();
    name == "localhost" || authority.is_address() || hosts.iter().any(|pattern| takes(pattern, &name))
}

fn takes(pattern: &HostPattern, name: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(exact) => exact == name,
        HostPattern::Wildcard(parent) => {
            name.strip_suffix(parent.as_str()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_ours_of(version: Version, target: &str, said: &[&str], hosts: &[HostPattern]) -> bool {
        let mut request = Request::builder().version(version).uri(target);
        for host in said {
            request = request.header(header::HOST, *host);
        }
        is_ours(&request.body(()).unwrap().into_parts().0, hosts)
    }

    #[test]
    fn addresses_and_localhost_are_ours_and_names_only_when_they_are_named() {
        let named = [
            HostPattern::Exact("metrics.internal".to_owned()),
            HostPattern::Wildcard("ops.example".to_owned()),
        ];
        for (host, alone, with_names) in [
            ("127.0.0.1:9900", true, true),
            ("10.1.2.3", true, true),
            ("[::1]:9900", true, true),
            ("[fd00::7]", true, true),
            ("localhost", true, true),
            ("LocalHost.:9900", true, true),
            ("metrics.internal", false, true),
            ("Metrics.Internal.:9900", false, true),
            ("a.ops.example:9900", false, true),
            ("a.b.ops.example", false, true),
            ("ops.example", false, false),
            ("xops.example", false, false),
            ("metrics.internal.evil.example", false, false),
            ("evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("evil.localhost", false, false),
            ("127.1", false, false),
            ("2130706433", false, false),
            ("0x7f.0.0.1", false, false),
            ("::1", false, false),
            ("user@127.0.0.1", false, false),
            ("127.0.0.1, evil.example", false, false),
            ("127.0.0.1:x", false, false),
            ("", false, false),
        ] {
            let is_ours = |hosts| is_ours_of(Version::HTTP_11, "/metrics", &[host], hosts);
            assert_eq!((is_ours(&[]), is_ours(&named)), (alone, with_names), "{host:?}");
        }
        assert!(is_ours_of(Version::HTTP_11, "/", &["evil.example"], &[HostPattern::Any]));
    }

    #[test]
    fn there_is_one_host_and_the_targets_counts_too() {
        for (version, target, said, expected) in [
            (Version::HTTP_11, "/", &[][..], false),
            (Version::HTTP_10, "/", &[], true),
            (Version::HTTP_10, "/", &["evil.example"], false),
            (Version::HTTP_11, "/", &["127.0.0.1", "127.0.0.1"], false),
            (Version::HTTP_11, "/", &["127.0.0.1", "evil.example"], false),
            (Version::HTTP_11, "http://127.0.0.1/", &["localhost"], true),
            (Version::HTTP_11, "http://evil.example/", &["localhost"], false),
            (Version::HTTP_11, "http://127.0.0.1/", &["evil.example"], false),
        ] {
            assert_eq!(is_ours_of(version, target, said, &[]), expected, "{version:?} {target} {said:?}");
        }
    }
}
