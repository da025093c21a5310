//! The settings of TLS, which sections `[http]` and `[dimse]` have.

use std::path::PathBuf;

use anyhow::ensure;

use crate::config::{DimseSettings, HttpSettings};

/// The files of a section of the settings, all in PEM format.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The section: `http` or `dimse`.
    pub section: &'static str,
    /// The certificate, and those of its issuers after it; empty for no TLS.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The certificates of the issuers of peers' certificates; empty if peers need none.
    pub peer_issuers: PathBuf,
}

impl HttpSettings {
    /// The files of HTTPS.
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            section: "http",
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
            peer_issuers: PathBuf::new(),
        }
    }
}

impl DimseSettings {
    /// The files of DIMSE over TLS.
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            section: "dimse",
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
            peer_issuers: self.tls_peer_issuers.clone(),
        }
    }

    /// Refuses settings of TLS that need others.
    pub(super) fn validate_tls(&self) -> anyhow::Result<()> {
        let has_issuers = !self.tls_peer_issuers.as_os_str().is_empty();
        ensure!(
            self.tls_listen.is_empty() || !self.tls_certificate.as_os_str().is_empty(),
            "dimse.tls_listen needs dimse.tls_certificate and dimse.tls_key"
        );
        ensure!(
            self.tls_fingerprints.is_empty() || has_issuers,
            "dimse.tls_fingerprints needs dimse.tls_peer_issuers: without it peers show no certificates"
        );
        let mut addresses = self.peers.iter().filter_map(|peer| peer.address.as_ref());
        if let Some(address) = addresses.find(|address| address.is_tls) {
            ensure!(has_issuers, "`{address}` of dimse.peers needs dimse.tls_peer_issuers");
        }
        Ok(())
    }
}

impl TlsFiles {
    /// Refuses a certificate without a key, and a key without a certificate.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let section = self.section;
        ensure!(
            self.certificate.as_os_str().is_empty() == self.key.as_os_str().is_empty(),
            "{section}.tls_certificate and {section}.tls_key need each other"
        );
        Ok(())
    }
}
