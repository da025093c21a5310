//! TLS of the HTTP listener: the certificate, and its renewal while the server runs (PS3.15 §B.12, RFC 9325).
//!
//! TLS 1.2 and 1.3 are spoken, with the suites of rustls: forward secrecy and authenticated encryption only,
//! as RFC 9325 §4.2 recommends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::HttpSettings;
use crate::telemetry;

/// HTTP/2 over TLS as ALPN names it (RFC 9113 §3.2).
const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// The largest file of a certificate or a key.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificate of the server, as it is used for new connections.
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    state: RwLock<TlsState>,
}

struct TlsState {
    config: Arc<ServerConfig>,
    /// The digest of the two files when they were read last, whether or not they could be used.
    digest: blake3::Hash,
}

/// The two files as they were read.
struct PemFiles {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ServerTls {
    /// Reads the certificate and the key that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// If a file cannot be read or used, or if the key is not that of the certificate. The error names the
    /// setting.
    pub fn open(settings: &HttpSettings) -> anyhow::Result<Option<Arc<Self>>> {
        let HttpSettings { tls_certificate, tls_key, .. } = settings;
        if tls_certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let (certificate, key) = (tls_certificate.clone(), tls_key.clone());
        let files = PemFiles::read(&certificate, &key)?;
        let state = TlsState { config: files.config()?, digest: files.digest() };
        Ok(Some(Arc::new(Self { certificate, key, state: RwLock::new(state) })))
    }

    /// Begins the handshake of a connection.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        let config = self.state.read().unwrap_or_else(PoisonError::into_inner).config.clone();
        TlsAcceptor::from(config).accept(stream)
    }

    /// Looks at the files once per `interval` until `stop`, and uses them for new connections when they have
    /// changed.
    pub(super) async fn run(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let rounds = async {
            loop {
                sleep(interval).await;
                let tls = Arc::clone(&self);
                // A panic is logged by the runtime; the next round follows.
                let _ = spawn_blocking(move || tls.reload()).await;
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    /// Uses the files if they have changed. Files that cannot be used leave the certificate as it is.
    fn reload(&self) {
        match self.try_reload() {
            Ok(false) => {}
            Ok(true) => info!("the certificate of HTTPS was read again, and is used for new connections"),
            Err(error) => {
                telemetry::tls_reload_failed();
                let error = format!("{error:#}");
                error!(error, "the new certificate of HTTPS cannot be used; the old one stays in use");
            }
        }
    }

    /// Whether new files are in use.
    fn try_reload(&self) -> anyhow::Result<bool> {
        let files = PemFiles::read(&self.certificate, &self.key)?;
        let digest = files.digest();
        if self.state.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(false);
        }
        let config = files.config();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The same unusable files are reported once.
        state.digest = digest;
        state.config = config?;
        Ok(true)
    }
}

impl PemFiles {
    fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path, setting: &str| {
            let context = || format!("cannot read {} ({setting})", path.display());
            let length = fs::metadata(path).with_context(context)?.len();
            ensure!(length <= MAX_FILE_BYTES, "{} is too large ({setting})", path.display());
            fs::read(path).with_context(context)
        };
        let certificate = read(certificate, "http.tls_certificate")?;
        Ok(Self { certificate, key: read(key, "http.tls_key")? })
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.certificate.len() as u64).to_le_bytes());
        hasher.update(&self.certificate).update(&self.key);
        hasher.finalize()
    }

    fn config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("the file of http.tls_certificate is not in PEM format")?;
        ensure!(!chain.is_empty(), "the file of http.tls_certificate has no certificate in PEM format");
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.context("the file of http.tls_key has no private key in PEM format")?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .context("TLS 1.2 and 1.3 are not available")?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = match config {
            Ok(config) => config,
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                bail!("the key of http.tls_key is not that of the certificate of http.tls_certificate")
            }
            Err(error) => {
                return Err(error).context("http.tls_certificate and http.tls_key cannot be used");
            }
        };
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }
}

/// Whether the two ends of a connection have agreed on HTTP/2.
pub(super) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}
