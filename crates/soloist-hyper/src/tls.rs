//! TLS with rustls (feature `tls`).

use std::io;
use std::sync::{Arc, OnceLock};

pub use futures_rustls::rustls;
pub use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use futures_rustls::TlsConnector;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use soloist::net::TcpStream;

use crate::stream::BoxStream;

/// Returns a configuration of a client that trusts `roots`, for
/// [`Connector::with_tls`](crate::Connector::with_tls). It offers HTTP/2 and HTTP/1.1, and sends
/// no certificate.
///
/// # Examples
///
/// A client that trusts only one certificate authority:
///
/// ```no_run
/// use soloist_hyper::{Connector, tls};
/// use soloist_hyper::tls::rustls::pki_types::{CertificateDer, pem::PemObject};
///
/// let mut roots = tls::RootCertStore::empty();
/// roots.add(CertificateDer::from_pem_file("ca.pem")?)?;
/// let connector = Connector::with_tls(tls::client_config(roots));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn client_config(roots: RootCertStore) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Returns the certificate authorities that the system trusts.
///
/// # Errors
///
/// Returns an error if there are none.
///
/// # Examples
///
/// ```no_run
/// let roots = soloist_hyper::tls::system_roots()?;
/// println!("{} certificate authorities", roots.len());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn system_roots() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems have certificates that rustls does not read.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        let why = why.unwrap_or_default();
        let why = format!("the system has no certificate authorities{why}");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(roots)
}

/// Returns the certificate authorities that Mozilla trusts, which are part of the program.
///
/// # Examples
///
/// ```
/// use soloist_hyper::{Connector, tls};
///
/// let connector = Connector::with_tls(tls::client_config(tls::mozilla_roots()));
/// ```
#[cfg(feature = "webpki-roots")]
pub fn mozilla_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// Connects with a configuration that is made at the first connection, and shared by clones.
#[derive(Clone, Default)]
pub(crate) struct Client {
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Client {
    pub(crate) fn with_config(config: ClientConfig) -> Client {
        let config = OnceLock::from(Arc::new(config));
        Client {
            config: Arc::new(config),
        }
    }

    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let roots = system_roots();
        #[cfg(feature = "webpki-roots")]
        let roots = roots.or_else(|_| Ok::<_, io::Error>(mozilla_roots()));
        let config = Arc::new(client_config(roots?));
        Ok(self.config.get_or_init(|| config).clone())
    }

    /// Returns the encrypted stream, and whether the server has chosen HTTP/2.
    pub(crate) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<(BoxStream, bool)> {
        let name = ServerName::try_from(host.to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(self.config()?);
        let stream = connector.connect(name, stream).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), h2))
    }
}
