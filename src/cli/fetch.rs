//! `cuspid fetch`: has another archive send studies to the server, by C-MOVE (PS3.4 §C.4.2).

use std::io::{self, Write};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Settings, runtime};
use crate::config::Config;
use crate::dicom::attributes::{Attribute, Attributes};
use crate::dicom::tags;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::dicom::uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
use crate::dimse::command::{DimseResponse, SubOperations};
use crate::dimse::identifier::QueryLevel;
use crate::dimse::requestor::{ProposedContext, Requestor, Target};

/// Arguments of `cuspid fetch`.
#[derive(Debug, Args)]
pub(super) struct FetchArguments {
    #[command(flatten)]
    settings: Settings,
    /// AE title of the other archive, with an address in dimse.peers.
    #[arg(long, value_name = "TITLE")]
    from: String,
    /// Study Instance UID; may be repeated.
    #[arg(long = "study", required = true, value_name = "UID")]
    studies: Vec<StudyUid>,
    /// Series Instance UID, if only one series of the study is to be fetched.
    #[arg(long, value_name = "UID")]
    series: Option<SeriesUid>,
    /// AE title to send to [default: dimse.ae_title]. The other archive must know its address.
    #[arg(long, value_name = "TITLE")]
    to: Option<String>,
}

impl FetchArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        ensure!(
            self.series.is_none() || self.studies.len() == 1,
            "--series needs exactly one --study, which has the series"
        );
        runtime()?.block_on(self.fetch(&config))
    }

    async fn fetch(&self, config: &Config) -> anyhow::Result<()> {
        let mut peers = config.dimse.peers.iter();
        let peer = peers.find(|peer| peer.ae_title.as_deref() == Some(&self.from));
        let address = peer.and_then(|peer| peer.address.as_ref());
        let address = address.with_context(|| format!("dimse.peers has no address of `{}`", self.from))?;
        let target = Target { address, called: &self.from, calling: &config.dimse.ae_title };
        let context = ProposedContext::of_plain_data_sets(STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE);
        let mut requestor = Requestor::connect(target, &[context], false, &config.dimse).await?;
        let mut is_whole = true;
        for study in &self.studies {
            let response = self.fetch_study(&mut requestor, config, study).await?;
            is_whole &= response.status == 0;
            writeln!(io::stdout(), "{study}: {}", outcome(&response))?;
        }
        requestor.release().await;
        ensure!(is_whole, "not everything was fetched");
        Ok(())
    }

    async fn fetch_study(
        &self,
        requestor: &mut Requestor,
        config: &Config,
        study: &StudyUid,
    ) -> anyhow::Result<DimseResponse> {
        let Some(context) = requestor.contexts.first().cloned() else {
            bail!("`{}` does not accept C-MOVE in the Study Root model", self.from);
        };
        let destination = self.to.as_deref().unwrap_or(&config.dimse.ae_title);
        let identifier = identifier(study, self.series.as_ref());
        let bar = ProgressBar::no_length().with_message(study.to_string());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        let progress = |counts: SubOperations| {
            let SubOperations { remaining, completed, failed, warning } = counts;
            let done = u64::from(completed) + u64::from(failed) + u64::from(warning);
            bar.set_length(done + u64::from(remaining.unwrap_or(0)));
            bar.set_position(done);
        };
        let response = requestor.move_to(destination, &context, &identifier, progress).await;
        bar.finish_and_clear();
        response.with_context(|| format!("study {study} was not fetched to its end"))
    }
}

fn identifier(study: &StudyUid, series: Option<&SeriesUid>) -> Attributes {
    let level = if series.is_some() { QueryLevel::Series } else { QueryLevel::Study };
    let mut identifier = Attributes::new();
    identifier.insert(tags::QUERY_RETRIEVE_LEVEL, Attribute::text(b"CS", level.name()));
    identifier.insert(tags::STUDY_INSTANCE_UID, Attribute::text(b"UI", study.as_str()));
    if let Some(series) = series {
        identifier.insert(tags::SERIES_INSTANCE_UID, Attribute::text(b"UI", series.as_str()));
    }
    identifier
}

/// The end of a C-MOVE, in words (PS3.4 Table C.4-2).
fn outcome(response: &DimseResponse) -> String {
    let SubOperations { completed, failed, warning, .. } = response.counts;
    let came = u32::from(completed) + u32::from(warning);
    match response.status {
        0 => format!("{came} instances"),
        0xB000 => format!("{came} instances, and {failed} that could not be sent"),
        0xA801 => "the other archive does not know the AE title to send to (--to)".into(),
        status => format!("failed with status {status:04X}H after {came} instances, {failed} failed"),
    }
}
