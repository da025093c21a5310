//! `cuspid ae`: the DIMSE peers of the settings.

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::cli::{Settings, runtime};
use crate::config::{Config, PeerAddress};
use crate::dicom::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::dicom::uids::VERIFICATION;
use crate::dimse::requestor::{ProposedContext, Requestor, Target};

/// Arguments of `cuspid ae`.
#[derive(Debug, Args)]
pub(super) struct AeArguments {
    #[command(subcommand)]
    command: AeCommand,
}

#[derive(Debug, Subcommand)]
enum AeCommand {
    /// List the AE titles of dimse.peers with their operations and addresses.
    List(ListArguments),
    /// Verify by C-ECHO that the AE titles of dimse.peers can be reached.
    Echo(EchoArguments),
}

/// Arguments of `cuspid ae list`.
#[derive(Debug, Args)]
struct ListArguments {
    #[command(flatten)]
    settings: Settings,
}

/// Arguments of `cuspid ae echo`.
#[derive(Debug, Args)]
struct EchoArguments {
    #[command(flatten)]
    settings: Settings,
    /// AE titles with an address in dimse.peers [default: all of them].
    #[arg(value_name = "TITLE")]
    titles: Vec<String>,
}

impl AeArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            AeCommand::List(command) => command.run(),
            AeCommand::Echo(command) => command.run(),
        }
    }
}

impl ListArguments {
    fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        if config.dimse.peers.is_empty() {
            eprintln!("dimse.peers has no AE titles");
        }
        let mut out = io::stdout().lock();
        for peer in &config.dimse.peers {
            let title = peer.ae_title.as_deref().unwrap_or("*");
            let address = peer.address.as_ref().map_or_else(|| "-".into(), ToString::to_string);
            writeln!(out, "{title:<16} {address:<28} {}", peer.operations.names())?;
        }
        Ok(())
    }
}

impl EchoArguments {
    fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        let known =
            config.dimse.peers.iter().filter_map(|peer| peer.ae_title.as_deref().zip(peer.address.as_ref()));
        let known: Vec<(&str, &PeerAddress)> = known.collect();
        let mut targets = Vec::new();
        for title in &self.titles {
            let found = known.iter().find(|(known, _)| known == title);
            targets.push(*found.with_context(|| format!("dimse.peers has no address of `{title}`"))?);
        }
        if self.titles.is_empty() {
            targets.clone_from(&known);
        }
        let runtime = runtime()?;
        let mut failed = 0;
        for (title, address) in targets {
            let outcome = runtime.block_on(echo(&config, title, address));
            failed += usize::from(outcome.is_err());
            let outcome = outcome.map_or_else(|error| format!("failed: {error:#}"), |()| "ok".to_owned());
            writeln!(io::stdout(), "{title} at {address}: {outcome}")?;
        }
        if failed > 0 {
            bail!("{failed} AE titles cannot be verified");
        }
        Ok(())
    }
}

async fn echo(config: &Config, title: &str, address: &PeerAddress) -> anyhow::Result<()> {
    let target = Target { address, called: title, calling: &config.dimse.ae_title };
    let context = ProposedContext {
        abstract_syntax: VERIFICATION.to_owned(),
        transfer_syntaxes: [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN].map(str::to_owned).into(),
    };
    let mut requestor = Requestor::connect(target, &[context], false, &config.dimse).await?;
    let status = requestor.echo().await?;
    requestor.release().await;
    match status {
        Some(0) => Ok(()),
        Some(status) => bail!("the status is {status:04X}H"),
        None => bail!("the peer does not accept Verification"),
    }
}
