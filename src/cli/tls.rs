//! `cuspid tls`: certificates for a first try, and fingerprints.

use std::fs::{OpenOptions, create_dir_all};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::digest::DigestAlgorithm;

const SECONDS_OF_DAY: u64 = 24 * 60 * 60;
/// The mode of the file of the key: for its user alone.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// Arguments of `cuspid tls`.
#[derive(Debug, Args)]
pub(super) struct TlsArguments {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    /// Make a certificate that no authority has signed, for a first try: browsers warn of it.
    SelfSigned(SelfSignedArguments),
    /// Print the SHA-256 of certificates in PEM format, for dimse.tls_fingerprints.
    Fingerprint(FingerprintArguments),
}

/// Arguments of `cuspid tls self-signed`.
#[derive(Debug, Args)]
struct SelfSignedArguments {
    /// A name or an IP address of the server; may be repeated [default: localhost, 127.0.0.1 and ::1].
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// The days for which the certificate is valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// The folder for the files certificate.pem and key.pem; made if it does not exist. Files that exist are
    /// not overwritten.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

/// Arguments of `cuspid tls fingerprint`.
#[derive(Debug, Args)]
struct FingerprintArguments {
    /// Files in PEM format.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl TlsArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            TlsCommand::SelfSigned(command) => command.run(),
            TlsCommand::Fingerprint(command) => command.run(),
        }
    }
}

impl SelfSignedArguments {
    fn run(self) -> anyhow::Result<()> {
        let names = match self.names.is_empty() {
            true => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into(),
            false => self.names,
        };
        let first = names.first().cloned().unwrap_or_default();
        let mut parameters = CertificateParams::new(names).context("--name cannot be used")?;
        parameters.distinguished_name.push(DnType::CommonName, first);
        // An hour for clocks that differ.
        let begin = SystemTime::now() - Duration::from_secs(60 * 60);
        parameters.not_before = begin.into();
        parameters.not_after = (begin + Duration::from_secs(u64::from(self.days) * SECONDS_OF_DAY)).into();
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A DIMSE peer shows the same certificate when it calls.
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = parameters.self_signed(&key).context("cannot make a certificate")?;
        create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        let (certificate_file, key_file) = (self.out.join("certificate.pem"), self.out.join("key.pem"));
        write_new(&key_file, KEY_MODE, &key.serialize_pem())?;
        write_new(&certificate_file, CERTIFICATE_MODE, &certificate.pem())?;
        writeln!(
            io::stdout(),
            "# of [http] or [dimse]\ntls_certificate = \"{}\"\ntls_key = \"{}\"\n# SHA-256: {}",
            certificate_file.display(),
            key_file.display(),
            fingerprint(certificate.der())
        )?;
        Ok(())
    }
}

impl FingerprintArguments {
    fn run(self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for file in &self.files {
            let context = || format!("cannot read certificates of {}", file.display());
            let certificates = CertificateDer::pem_file_iter(file).with_context(context)?;
            let mut is_empty = true;
            for certificate in certificates {
                is_empty = false;
                writeln!(out, "{}  {}", fingerprint(&certificate.with_context(context)?), file.display())?;
            }
            if is_empty {
                bail!("{} has no certificate in PEM format", file.display());
            }
        }
        Ok(())
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    DigestAlgorithm::Sha256.digest(certificate).to_string()
}

fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
