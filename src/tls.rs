//! TLS of the listeners, and of connections to DIMSE peers: the certificates, and their renewal while the
//! server runs (PS3.15 §B.12, RFC 9325).
//!
//! TLS 1.2 and 1.3 are spoken, with the suites of rustls: forward secrecy and authenticated encryption only,
//! as RFC 9325 §4.2 recommends.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio_rustls::{Accept, TlsAcceptor, TlsConnector, client};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::TlsFiles;
use crate::telemetry;

/// The versions that are spoken.
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// The largest file of a certificate or a key.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificate of a listener, as it is used for new connections.
pub struct ServerTls {
    files: TlsFiles,
    /// The application protocols, the preferred one first (RFC 7301).
    protocols: Vec<Vec<u8>>,
    state: RwLock<TlsState>,
}

struct TlsState {
    config: Arc<ServerConfig>,
    /// The digest of the files when they were read last, whether or not they could be used.
    digest: blake3::Hash,
}

/// The files as they were read.
struct PemFiles<'a> {
    files: &'a TlsFiles,
    certificate: Vec<u8>,
    key: Vec<u8>,
    peer_issuers: Vec<u8>,
}

impl ServerTls {
    /// Reads the files that the settings name; `None` if they name no certificate.
    ///
    /// # Errors
    /// If a file cannot be read or used, or if the key is not that of the certificate. The error names the
    /// setting.
    pub fn open(files: TlsFiles, protocols: &[&[u8]]) -> anyhow::Result<Option<Arc<Self>>> {
        if files.certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let pem = PemFiles::read(&files)?;
        let state = TlsState { config: pem.server_config(&protocols)?, digest: pem.digest() };
        Ok(Some(Arc::new(Self { files, protocols, state: RwLock::new(state) })))
    }

    /// Begins the handshake of a connection.
    pub fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Accept<S> {
        let config = self.state.read().unwrap_or_else(PoisonError::into_inner).config.clone();
        TlsAcceptor::from(config).accept(stream)
    }

    /// Looks at the files once per `interval` until `stop`, and uses them for new connections when they have
    /// changed.
    pub async fn run(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
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
            Ok(true) => {
                info!(section = self.files.section, "certificates were read again, for new connections");
            }
            Err(error) => {
                telemetry::tls_reload_failed();
                let (section, error) = (self.files.section, format!("{error:#}"));
                error!(section, error, "the new certificates cannot be used; the old ones stay in use");
            }
        }
    }

    /// Whether new files are in use.
    fn try_reload(&self) -> anyhow::Result<bool> {
        let pem = PemFiles::read(&self.files)?;
        let digest = pem.digest();
        if self.state.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(false);
        }
        let config = pem.server_config(&self.protocols);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The same unusable files are reported once.
        state.digest = digest;
        state.config = config?;
        Ok(true)
    }
}

impl<'a> PemFiles<'a> {
    fn read(files: &'a TlsFiles) -> anyhow::Result<Self> {
        let read = |path: &Path, setting: &str| {
            let context = || format!("cannot read {} ({}.{setting})", path.display(), files.section);
            if path.as_os_str().is_empty() {
                return Ok(Vec::new());
            }
            let length = fs::metadata(path).with_context(context)?.len();
            ensure!(
                length <= MAX_FILE_BYTES,
                "{} is too large ({}.{setting})",
                path.display(),
                files.section
            );
            fs::read(path).with_context(context)
        };
        Ok(Self {
            files,
            certificate: read(&files.certificate, "tls_certificate")?,
            key: read(&files.key, "tls_key")?,
            peer_issuers: read(&files.peer_issuers, "tls_peer_issuers")?,
        })
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for file in [&self.certificate, &self.key, &self.peer_issuers] {
            hasher.update(&(file.len() as u64).to_le_bytes()).update(file);
        }
        hasher.finalize()
    }

    fn server_config(&self, protocols: &[Vec<u8>]) -> anyhow::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .context("TLS 1.2 and 1.3 are not available")?;
        let builder = if self.peer_issuers.is_empty() {
            builder.with_no_client_auth()
        } else {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(self.peer_roots()?), provider())
                    .build()
                    .with_context(|| format!("{}.tls_peer_issuers cannot be used", self.files.section))?;
            builder.with_client_cert_verifier(verifier)
        };
        let (chain, key) = self.chain_and_key()?;
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| self.unusable_key(error))?;
        config.alpn_protocols = protocols.to_vec();
        Ok(Arc::new(config))
    }

    /// The configuration of a connection to a peer, with the certificate of the server if there is one.
    fn client_config(&self) -> anyhow::Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .context("TLS 1.2 and 1.3 are not available")?
            .with_root_certificates(self.peer_roots()?);
        if self.certificate.is_empty() {
            return Ok(builder.with_no_client_auth());
        }
        let (chain, key) = self.chain_and_key()?;
        builder.with_client_auth_cert(chain, key).map_err(|error| self.unusable_key(error))
    }

    fn chain_and_key(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let section = self.files.section;
        let chain = certificates(&self.certificate, || format!("{section}.tls_certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key =
            key.with_context(|| format!("the file of {section}.tls_key has no private key in PEM format"))?;
        Ok((chain, key))
    }

    fn peer_roots(&self) -> anyhow::Result<RootCertStore> {
        let setting = || format!("{}.tls_peer_issuers", self.files.section);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.peer_issuers, setting)? {
            let added = roots.add(certificate);
            added.with_context(|| format!("a certificate of {} cannot be used", setting()))?;
        }
        Ok(roots)
    }

    fn unusable_key(&self, error: Error) -> anyhow::Error {
        let section = self.files.section;
        match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => anyhow!(
                "the key of {section}.tls_key is not that of the certificate of {section}.tls_certificate"
            ),
            error => anyhow!(error)
                .context(format!("{section}.tls_certificate and {section}.tls_key cannot be used")),
        }
    }
}

/// The certificates of a file in PEM format, of which there must be one.
fn certificates(pem: &[u8], setting: impl Fn() -> String) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates =
        certificates.with_context(|| format!("the file of {} is not in PEM format", setting()))?;
    if certificates.is_empty() {
        bail!("the file of {} has no certificate in PEM format", setting());
    }
    Ok(certificates)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Begins TLS on a connection to a peer, whose certificate must be for the name or address `host` and of one
/// of [`TlsFiles::peer_issuers`]. The files are read each time, so that renewed ones are used.
///
/// # Errors
/// If a file cannot be used, or the handshake fails.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    files: &TlsFiles,
) -> io::Result<client::TlsStream<S>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let files = files.clone();
    let config = spawn_blocking(move || PemFiles::read(&files)?.client_config()).await;
    let config = config.map_err(io::Error::other)?;
    let config = config.map_err(|error| io::Error::other(format!("{error:#}")))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
