//! The state that all associations of a listener share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::budget::Budget;
use crate::config::DimseSettings;
use crate::dimse::callers::Callers;
use crate::dimse::report_sender::ReportSender;

/// The state that all associations share.
pub struct Acceptor {
    /// The archive that stores instances.
    pub archive: Arc<Archive>,
    /// Section `[dimse]`.
    pub settings: Arc<DimseSettings>,
    /// The callers by their AE titles.
    pub callers: Arc<Callers>,
    /// The senders of reports of storage commitment.
    pub reports: Arc<ReportSender>,
    /// The places of associations, shared by addresses.
    pub places: Budget,
    /// The places of associations that the server requests, shared by destinations.
    pub outgoing: Budget,
    /// Cancelled when the server stops.
    pub shutdown: CancellationToken,
}
