//! Whom to ask, and what to ask them for: the configuration, and the two files that tell a Unix system about names.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts};
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{Hosts, TokioResolver, system_conf};

use super::ResolveError;
use crate::config::Dns;

/// Where the files are; they may be absent.
pub(super) struct Files {
    pub(super) resolv_conf: PathBuf,
    pub(super) hosts: PathBuf,
}

/// When each file was last written; `None`: it is not there.
pub(super) type Stamps = [Option<SystemTime>; 2];

/// What the files and the configuration come to.
pub(super) struct Sources {
    pub(super) stamps: Stamps,
    pub(super) dns: TokioResolver,
    pub(super) hosts: Hosts,
    search: Vec<Name>,
    /// A name with fewer dots is tried in the search domains before it is tried as it is.
    ndots: usize,
}

impl Files {
    pub(super) fn of_the_system() -> Self {
        Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }

    pub(super) fn stamps(&self) -> Stamps {
        [&self.resolv_conf, &self.hosts].map(|file| fs::metadata(file).and_then(|data| data.modified()).ok())
    }
}

impl Sources {
    pub(super) fn read(config: &Dns, files: &Files) -> Result<Self, ResolveError> {
        // Before the files: what is written in between is found by the next look.
        let stamps = files.stamps();
        let (servers, mut options) = match &config.servers {
            Some(servers) => (asked(servers), ResolverOpts::default()),
            None => system(files),
        };
        options.timeout = config.timeout;
        // hickory counts the attempts after the first.
        options.attempts = config.attempts.saturating_sub(1);
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let ndots = options.ndots;
        let search = match (servers.search(), servers.domain()) {
            ([], domain) => domain.into_iter().cloned().collect(),
            (search, _) => search.to_vec(),
        };
        let dns = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        Ok(Sources { stamps, dns, hosts: read_hosts(files), search, ndots })
    }

    /// The whole names that a name may mean, in the order in which they are tried.
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name.clone()];
        }
        let mut whole = name.clone();
        whole.set_fqdn(true);
        // A name that would grow beyond 255 bytes has no place in that domain.
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = searched.collect();
        // Labels are one more than dots.
        let is_whole_first = usize::from(name.num_labels()) > self.ndots;
        names.insert(if is_whole_first { 0 } else { names.len() }, whole);
        names
    }
}

/// The name servers of the configuration. Names are whole then: search domains belong to the system's servers.
fn asked(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.to_vec())
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

/// The system's name servers. Without any, the one on this machine is asked, as resolv.conf(5) has it.
fn system(files: &Files) -> (ResolverConfig, ResolverOpts) {
    let text = fs::read(&files.resolv_conf).unwrap_or_default();
    system_conf::parse_resolv_conf(text).unwrap_or_else(|_| {
        let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
    })
}

/// What can be read of it: a machine without a hosts file has DNS.
fn read_hosts(files: &Files) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(file) = fs::File::open(&files.hosts)
        && let Err(error) = hosts.read_hosts_conf(file)
    {
        tracing::warn!(file = %files.hosts.display(), %error, "cannot be read to its end");
    }
    hosts
}
