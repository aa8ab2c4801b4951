//! What DNS says of a name: addresses and services, with the time they are good for.
//!
//! hickory-resolver has its only home here, and carries questions and answers, nothing else. Its cache is off:
//! whoever asks knows when an answer is over, and asks then. The search domains are walked here, because it would
//! go on to the next one when a question *fails*: a lost packet could lead to another name's addresses.
//!
//! For the control thread alone: nothing of it is on the path of a request.

mod sources;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use self::sources::{Files, Sources};
use crate::config::{Dns, Family};

/// How long a line of the hosts file is good for. It has no TTL, reading it costs next to nothing, and whoever edits it
/// by hand waits for the effect.
const HOSTS_VALID: Duration = Duration::from_secs(5);

/// Asks DNS, and the hosts file before it.
pub struct Resolver {
    config: Dns,
    files: Files,
    /// As the files were when they were last looked at.
    sources: RefCell<Rc<Sources>>,
}

/// What was found, and how long it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// At least one.
    pub values: Vec<T>,
    /// The least TTL in the answer.
    pub valid_for: Duration,
}

/// The addresses of a name.
#[derive(Debug)]
pub struct Addresses {
    /// What was found.
    pub found: Found<IpAddr>,
    /// Why one of the two families is not in it; `None`: this is all there is.
    pub missing: Option<ResolveError>,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Whose addresses are asked for next; it ends in a dot, for it is a whole name.
    pub target: String,
    /// Not 0.
    pub port: u16,
    /// The lowest comes first.
    pub priority: u16,
    /// Its share among those of its priority; 0 is a very small one.
    pub weight: u16,
}

/// Why a name has no answer.
#[derive(Debug, Clone)]
pub enum ResolveError {
    /// DNS says that there is no such name.
    NoSuchName,
    /// DNS knows the name, and nothing of the kind asked for.
    NoRecords,
    /// Nobody answered.
    TimedOut {
        /// The limit, over all attempts.
        after: Duration,
    },
    /// The name server cannot or does not want to.
    Refused(ResponseCode),
    /// No way to a name server, or an answer that is none.
    Failed(NetError),
    /// Text that no name in DNS could be.
    NotAName(ProtoError),
}

impl Resolver {
    /// Reads the system's files; a question is the first thing that is sent.
    pub fn new(config: &Dns) -> Result<Self, ResolveError> {
        Self::with_files(config, Files::of_the_system())
    }

    fn with_files(config: &Dns, files: Files) -> Result<Self, ResolveError> {
        let sources = Rc::new(Sources::read(config, &files)?);
        Ok(Resolver { config: config.clone(), files, sources: RefCell::new(sources) })
    }

    /// The addresses of a host, of the families that the configuration wants.
    pub async fn addresses(&self, host: &str) -> Result<Addresses, ResolveError> {
        let sources = self.sources();
        let name = Name::from_ascii(host).map_err(ResolveError::NotAName)?;
        if let Some(values) = from_hosts(&sources.hosts, &name, self.config.family) {
            return Ok(Addresses { found: Found { values, valid_for: HOSTS_VALID }, missing: None });
        }
        first_of(sources.candidates(&name), async |name| {
            let ipv4 = || self.ask(&sources, name, RecordType::A, address);
            let ipv6 = || self.ask(&sources, name, RecordType::AAAA, address);
            match self.config.family {
                Family::Ipv4 => whole(ipv4().await),
                Family::Ipv6 => whole(ipv6().await),
                Family::PreferIpv4 => whole(preferring(ipv4().await, ipv6).await),
                Family::PreferIpv6 => whole(preferring(ipv6().await, ipv4).await),
                Family::Both => {
                    let (ipv4, ipv6) = tokio::join!(ipv4(), ipv6());
                    both(ipv4, ipv6)
                }
            }
        })
        .await
    }

    /// The SRV records of a service (RFC 2782).
    pub async fn services(&self, name: &str) -> Result<Found<Service>, ResolveError> {
        let sources = self.sources();
        let name = Name::from_ascii(name).map_err(ResolveError::NotAName)?;
        first_of(sources.candidates(&name), async |name| {
            self.ask(&sources, name, RecordType::SRV, service).await
        })
        .await
    }

    /// One question, with a limit on all of its attempts.
    async fn ask<T>(
        &self,
        sources: &Sources,
        name: &Name,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, ResolveError> {
        let after = self.config.timeout * u32::try_from(self.config.attempts).unwrap_or(u32::MAX);
        match tokio::time::timeout(after, sources.dns.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => found(&lookup, read),
            Ok(Err(NetError::Timeout)) | Err(_) => Err(ResolveError::TimedOut { after }),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// As the files are now: a host that moves to another network gets other name servers, a process that runs for
    /// months would never hear of them. Files that cannot be made sense of change nothing.
    fn sources(&self) -> Rc<Sources> {
        let mut sources = self.sources.borrow_mut();
        if self.files.stamps() != sources.stamps
            && let Ok(new) = Sources::read(&self.config, &self.files)
        {
            *sources = Rc::new(new);
        }
        sources.clone()
    }
}

impl ResolveError {
    /// DNS did answer, and there is nothing. The others are failures: of the name we know no more than before.
    pub fn is_nothing(&self) -> bool {
        matches!(self, ResolveError::NoSuchName | ResolveError::NoRecords)
    }
}

/// The addresses that the hosts file has for a name; `None`: it has none that count.
fn from_hosts(hosts: &Hosts, name: &Name, family: Family) -> Option<Vec<IpAddr>> {
    let of = |kind| -> Vec<IpAddr> {
        let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind));
        lookup.iter().flat_map(Lookup::answers).filter_map(|record| address(&record.data)).collect()
    };
    let (ipv4, ipv6) = (of(RecordType::A), of(RecordType::AAAA));
    let addresses = match family {
        Family::Ipv4 => ipv4,
        Family::Ipv6 => ipv6,
        Family::PreferIpv4 if ipv4.is_empty() => ipv6,
        Family::PreferIpv4 => ipv4,
        Family::PreferIpv6 if ipv6.is_empty() => ipv4,
        Family::PreferIpv6 => ipv6,
        Family::Both => [ipv4, ipv6].concat(),
    };
    (!addresses.is_empty()).then_some(addresses)
}

/// The answer for the first name that has one. A failure ends the search: what the next name says would be about
/// another one.
async fn first_of<T>(
    names: Vec<Name>,
    ask: impl AsyncFn(&Name) -> Result<T, ResolveError>,
) -> Result<T, ResolveError> {
    let mut nothing = ResolveError::NoSuchName;
    for name in &names {
        match ask(name).await {
            Err(error) if error.is_nothing() => nothing = error,
            answer => return answer,
        }
    }
    Err(nothing)
}

/// The first family's addresses, or the other's where DNS says that there are none. A failure is no such word.
async fn preferring<F>(
    first: Result<Found<IpAddr>, ResolveError>,
    other: impl FnOnce() -> F,
) -> Result<Found<IpAddr>, ResolveError>
where
    F: Future<Output = Result<Found<IpAddr>, ResolveError>>,
{
    match first {
        Err(error) if error.is_nothing() => other().await,
        answer => answer,
    }
}

fn whole(found: Result<Found<IpAddr>, ResolveError>) -> Result<Addresses, ResolveError> {
    found.map(|found| Addresses { found, missing: None })
}

/// Both families together. One that fails leaves half an answer, and says so.
fn both(
    ipv4: Result<Found<IpAddr>, ResolveError>,
    ipv6: Result<Found<IpAddr>, ResolveError>,
) -> Result<Addresses, ResolveError> {
    match (ipv4, ipv6) {
        (Ok(ipv4), Ok(ipv6)) => {
            let valid_for = ipv4.valid_for.min(ipv6.valid_for);
            let values = [ipv4.values, ipv6.values].concat();
            Ok(Addresses { found: Found { values, valid_for }, missing: None })
        }
        (Ok(found), Err(error)) | (Err(error), Ok(found)) => {
            Ok(Addresses { found, missing: Some(error).filter(|error| !error.is_nothing()) })
        }
        (Err(nothing), Err(error)) | (Err(error), Err(nothing)) if nothing.is_nothing() => Err(error),
        (Err(error), Err(_)) => Err(error),
    }
}

/// The records of the kind that was asked for. The TTL is that of the whole chain: where a name is another's
/// alias, the alias may be the first to change.
fn found<T>(lookup: &Lookup, read: fn(&RData) -> Option<T>) -> Result<Found<T>, ResolveError> {
    let values: Vec<T> = lookup.answers().iter().filter_map(|record| read(&record.data)).collect();
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    if values.is_empty() {
        return Err(ResolveError::NoRecords);
    }
    Ok(Found { values, valid_for: Duration::from_secs(ttl.into()) })
}

/// An address that one server can have. Others are how a filter says "no" (0.0.0.0), and to Linux that is the proxy's
/// own machine.
fn address(data: &RData) -> Option<IpAddr> {
    let address = match data {
        RData::A(a) => IpAddr::V4(a.0),
        RData::AAAA(aaaa) => IpAddr::V6(aaaa.0).to_canonical(),
        _ => return None,
    };
    let is_one = !address.is_unspecified() && !address.is_multicast() && address != Ipv4Addr::BROADCAST;
    is_one.then_some(address)
}

/// RFC 2782: a target of "." means that the service is decidedly not available.
fn service(data: &RData) -> Option<Service> {
    let RData::SRV(srv) = data else { return None };
    let is_one = !srv.target.is_root() && srv.port > 0;
    is_one.then(|| Service {
        target: srv.target.to_ascii(),
        port: srv.port,
        priority: srv.priority,
        weight: srv.weight,
    })
}

impl From<NetError> for ResolveError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(nothing)) => match nothing.response_code {
                ResponseCode::NXDomain => ResolveError::NoSuchName,
                _ => ResolveError::NoRecords,
            },
            NetError::Dns(DnsError::ResponseCode(code)) => ResolveError::Refused(code),
            error => ResolveError::Failed(error),
        }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NoSuchName => f.write_str("there is no such name"),
            ResolveError::NoRecords => f.write_str("the name has no such records"),
            ResolveError::TimedOut { after } => write!(f, "no answer within {after:?}"),
            ResolveError::Refused(code) => {
                write!(f, "the name server answers {}", format!("{code:?}").to_ascii_lowercase())
            }
            ResolveError::Failed(_) => f.write_str("the name servers cannot be asked"),
            ResolveError::NotAName(_) => f.write_str("this is no name"),
        }
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ResolveError::Failed(error) => Some(error),
            ResolveError::NotAName(error) => Some(error),
            _ => None,
        }
    }
}
