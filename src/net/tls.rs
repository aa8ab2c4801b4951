//! TLS both ways: what we show to clients, and what we demand of servers.
//!
//! The crypto provider is named in one function, [`provider`], and passed to
//! every configuration: there is no process-wide default to disagree with.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::config::{Certificate, ListenerTls, TlsVersion, UpstreamTls};
use crate::net::Stream;

/// What a TLS configuration can be wrong about.
#[derive(Debug)]
pub enum TlsError {
    /// A PEM file that cannot be read or holds nothing of what it should.
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate file without a certificate.
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// A key that is not the certificate's, or of an unknown kind.
    Key {
        /// The key's file.
        file: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A name that can be nobody's.
    ServerName(String),
    /// The system's store of trusted roots is empty or unreadable.
    NoRoots,
    /// Anything else rustls refuses.
    Rustls(rustls::Error),
}

/// The server's side of TLS: one per listener.
#[derive(Clone)]
pub struct Acceptor {
    acceptor: TlsAcceptor,
    mark: Mark,
}

/// The client's side of TLS: one per server.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
    mark: Mark,
}

/// Whom the servers of an upstream are verified by.
#[derive(Clone)]
pub struct Trust {
    /// `None`: by nobody.
    roots: Option<Arc<RootCertStore>>,
    server_name: Option<String>,
    mark: Mark,
}

/// The trust of many upstreams; the system's roots are read once for all of them.
#[derive(Default)]
pub struct Trusts {
    system: OnceCell<Arc<RootCertStore>>,
}

/// Of all that a TLS configuration was made of, the contents of its files too: two that have the same are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark([u8; SHA256_OUTPUT_LEN]);

/// Certificates by the name that the client asks for (SNI).
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Keyed without the `*.`; takes exactly one label (RFC 9525 section 6.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

/// `insecure = true`: any certificate will do. Signatures are still checked, so that the peer
/// holds the key it shows.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl Acceptor {
    /// Reads every certificate and key that the listener names.
    pub fn new(tls: &ListenerTls) -> Result<Self, TlsError> {
        let provider = provider();
        let versions: &[_] = match tls.min_version {
            TlsVersion::V1_2 => rustls::ALL_VERSIONS,
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let mut marking = Marking::new();
        marking.add(&[u8::from(tls.min_version == TlsVersion::V1_3)]);
        let certificates = ByName::load(&tls.certificates, &provider, &mut marking)?;
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(TlsError::Rustls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets carry the session themselves: resumption works on every worker without a shared table.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::Rustls)?;
        Ok(Acceptor { acceptor: TlsAcceptor::from(Arc::new(config)), mark: marking.done() })
    }

    /// What it was made of.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The handshake; the caller limits its time.
    pub async fn handshake(&self, tcp: TcpStream) -> io::Result<Stream> {
        let tls = self.acceptor.accept(tcp).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Server(tls))))
    }
}

impl Connector {
    /// For a server at `host`, verified as `trust` says.
    pub fn new(trust: &Trust, host: &str) -> Result<Self, TlsError> {
        let name = trust.server_name.as_deref().unwrap_or(host);
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))?;
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?;
        let config = match &trust.roots {
            None => {
                let any = AnyCertificate(provider.signature_verification_algorithms);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(any)).with_no_client_auth()
            }
            Some(roots) => builder.with_root_certificates(roots.clone()).with_no_client_auth(),
        };
        Ok(Connector { connector: TlsConnector::from(Arc::new(config)), name, mark: trust.mark })
    }

    /// Of the trust that it was made of.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The same demands without memory of earlier sessions: each handshake is whole, so that a certificate that has
    /// expired meanwhile is seen. Offers `protocols` by ALPN.
    pub fn afresh(&self, protocols: &[&str]) -> Connector {
        let mut config = ClientConfig::clone(self.connector.config());
        config.resumption = Resumption::disabled();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Connector { connector: TlsConnector::from(Arc::new(config)), ..self.clone() }
    }

    /// The handshake; the caller limits its time.
    pub async fn handshake(&self, tcp: TcpStream) -> io::Result<Stream> {
        let tls = self.connector.connect(self.name.clone(), tcp).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(tls))))
    }
}

impl Trusts {
    /// Reads whom `tls` names.
    pub fn of(&self, tls: &UpstreamTls) -> Result<Trust, TlsError> {
        let roots = match (&tls.ca, tls.insecure) {
            (_, true) => None,
            (Some(file), false) => Some(Arc::new(roots(Some(file))?)),
            (None, false) => Some(self.system()?),
        };
        let mut marking = Marking::new();
        marking.add(tls.server_name.as_deref().unwrap_or_default().as_bytes());
        for anchor in roots.iter().flat_map(|roots| &roots.roots) {
            marking.add(&anchor.subject);
            marking.add(&anchor.subject_public_key_info);
            marking.add(anchor.name_constraints.as_deref().unwrap_or_default());
        }
        Ok(Trust { roots, server_name: tls.server_name.clone(), mark: marking.done() })
    }

    fn system(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if let Some(known) = self.system.get() {
            return Ok(known.clone());
        }
        let read = Arc::new(roots(None)?);
        Ok(self.system.get_or_init(|| read).clone())
    }
}

impl Trust {
    /// What it was made of.
    pub fn mark(&self) -> Mark {
        self.mark
    }
}

/// A [`Mark`] in the making.
struct Marking(Context);

impl Marking {
    fn new() -> Self {
        Marking(Context::new(&SHA256))
    }

    /// With its length, so that nothing can be cut in another way.
    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn done(self) -> Mark {
        let mut mark = [0; SHA256_OUTPUT_LEN];
        mark.copy_from_slice(self.0.finish().as_ref());
        Mark(mark)
    }
}

impl ByName {
    fn load(
        certificates: &[Certificate],
        provider: &CryptoProvider,
        marking: &mut Marking,
    ) -> Result<Self, TlsError> {
        let mut exact = HashMap::new();
        let mut wildcard = HashMap::new();
        let mut first = None;
        for certificate in certificates {
            let (chain, certified) = certified_key(certificate, provider, marking)?;
            for name in names(&chain) {
                match name.strip_prefix("*.") {
                    Some(rest) => wildcard.entry(rest.to_owned()).or_insert_with(|| certified.clone()),
                    None => exact.entry(name).or_insert_with(|| certified.clone()),
                };
            }
            first.get_or_insert(certified);
        }
        let first = first.ok_or_else(|| TlsError::NoCertificate { file: PathBuf::new() })?;
        Ok(ByName { exact, wildcard, first })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.exact.get(&name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| self.find(name));
        Some(found.unwrap_or(&self.first).clone())
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certified_key(
    certificate: &Certificate,
    provider: &CryptoProvider,
    marking: &mut Marking,
) -> Result<(CertificateDer<'static>, Arc<CertifiedKey>), TlsError> {
    let chain = read_chain(&certificate.cert)?;
    chain.iter().for_each(|certificate| marking.add(certificate));
    let leaf = chain[0].clone();
    let key = PrivateKeyDer::from_pem_file(&certificate.key)
        .map_err(|source| TlsError::Pem { file: certificate.key.clone(), source })?;
    marking.add(key.secret_der());
    let certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| TlsError::Key { file: certificate.key.clone(), source })?;
    Ok((leaf, Arc::new(certified)))
}

/// At least one certificate.
fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { file: file.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned() });
    }
    Ok(chain)
}

/// The DNS names in a certificate's subjectAltName, in lower case.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(leaf) else { return Vec::new() };
    parsed.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in read_chain(file)? {
                roots.add(certificate).map_err(TlsError::Rustls)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Pem { file, source } => write!(f, "{}: {source}", file.display()),
            TlsError::NoCertificate { file } => write!(f, "{}: no certificate in it", file.display()),
            TlsError::Key { file, source } => write!(f, "{}: {source}", file.display()),
            TlsError::ServerName(name) => {
                write!(f, "{name:?} is no name that a certificate could have; set tls.server-name")
            }
            TlsError::NoRoots => {
                f.write_str("no trusted root certificates (install ca-certificates, or set tls.ca)")
            }
            TlsError::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsError {}
