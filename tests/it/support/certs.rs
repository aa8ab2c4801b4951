//! Self-signed certificates, and TLS connections from both ends.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{StreamOwned, SupportedProtocolVersion};

/// A certificate for some names, in memory and on disk.
pub struct Cert {
    der: CertificateDer<'static>,
    /// One for all connections, so that it remembers their sessions.
    config: Arc<ServerConfig>,
    pub pem_path: PathBuf,
    pub key_path: PathBuf,
    _dir: tempfile::TempDir,
}

/// A client's side of TLS: whom it believes, what it speaks, and the sessions it remembers.
pub struct Trust(Arc<ClientConfig>);

impl Cert {
    pub fn of(names: &[&str]) -> Cert {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (pem_path, key_path) = (dir.path().join("cert.pem"), dir.path().join("cert.key"));
        std::fs::write(&pem_path, made.cert.pem()).unwrap();
        std::fs::write(&key_path, made.signing_key.serialize_pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let der = made.cert.der().clone();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key)
            .unwrap();
        Cert { der, config: Arc::new(config), pem_path, key_path, _dir: dir }
    }

    /// A server's side of TLS that agrees on HTTP/2 alone.
    pub fn http2(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// As an element of `tls.certificates`.
    pub fn toml(&self) -> String {
        format!("{{ cert = {:?}, key = {:?} }}", self.pem_path, self.key_path)
    }

    pub fn trust(&self) -> Trust {
        self.trust_with(rustls::ALL_VERSIONS)
    }

    pub fn trust_with(&self, versions: &[&'static SupportedProtocolVersion]) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Trust(Arc::new(config))
    }

    /// The server's side of a connection.
    pub fn accept(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        StreamOwned::new(ServerConnection::new(self.config.clone()).unwrap(), stream)
    }
}

impl Trust {
    /// The same, of a client that speaks HTTP/2 alone.
    pub fn http2(&self) -> Trust {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Trust(Arc::new(config))
    }

    pub fn dial(&self, stream: TcpStream, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        StreamOwned::new(ClientConnection::new(self.0.clone(), name).unwrap(), stream)
    }

    /// One GET; the answer and how the session came about, or why there is none.
    pub fn get(
        &self,
        address: std::net::SocketAddr,
        name: &str,
    ) -> std::io::Result<(super::Message, Option<rustls::HandshakeKind>)> {
        use std::io::Write;
        let mut stream = self.dial(super::client::dial(address), name);
        write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
        let mut reader = std::io::BufReader::new(stream);
        let head = super::wire::read_head(&mut reader)?;
        let mut message = head.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        super::wire::read_response_body(&mut reader, &mut message)?;
        Ok((message, reader.get_ref().conn.handshake_kind()))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
