//! The SDK's client, set up by our settings, and the number of requests that it may have under way.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, InterceptorContext};
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction, RetryConfig};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, ConfigBag, Intercept, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::blobs::s3::failure::Failure;
use crate::config;
use crate::telemetry;

/// The region that is signed for where nothing names one: what speaks S3's protocol elsewhere has this one or any.
const REGION_ELSEWHERE: &str = "us-east-1";

/// The first wait before a request is sent again; the next ones are longer, and each is a random part of that.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// The longest of these waits.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What this machine says of credentials and region, found as all AWS SDKs find it, where the settings do not say it.
pub(super) async fn machine(settings: &config::S3) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    let loader = match (settings.region.is_empty(), settings.endpoint.is_empty()) {
        (false, _) => loader.region(Region::new(settings.region.clone())),
        (true, true) => loader,
        // Elsewhere there is nobody to ask, which would take seconds to find out.
        (true, false) => {
            let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
            loader.region(
                chain.or_else(ProfileFileRegionProvider::new()).or_else(Region::new(REGION_ELSEWHERE)),
            )
        }
    };
    loader.load().await
}

/// Sends requests, a bounded number at a time.
#[derive(Debug)]
pub(super) struct Requests {
    /// For requests without a body.
    pub(super) client: Client,
    /// For requests that send an object, which may take longer.
    pub(super) uploads: Client,
    permits: Semaphore,
    /// How long a request waits for its turn.
    turn_timeout: Duration,
}

impl Requests {
    /// # Errors
    /// What neither the settings nor the machine say.
    pub(super) fn new(settings: &config::S3, machine: &SdkConfig) -> Result<Self, String> {
        if machine.region().is_none() {
            return Err("no region is known: set s3.region, or AWS_REGION in the environment".into());
        }
        let mut builder = Builder::from(machine);
        if !settings.endpoint.is_empty() {
            builder = builder.endpoint_url(&settings.endpoint);
        }
        let retries = RetryConfig::standard()
            .with_max_attempts(settings.max_attempts)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(MAX_BACKOFF);
        let builder = builder
            .force_path_style(settings.path_style)
            .retry_config(retries)
            .retry_classifier(Conflicts)
            .interceptor(CountRetries)
            // Checksums are ours: others than Amazon refuse what the SDK sends after a body.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // A client that reads slowly must not look like a store that sends slowly: see `read`.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let client = |attempt_seconds: u64| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(settings.connect_timeout_seconds))
                .operation_attempt_timeout(Duration::from_secs(attempt_seconds))
                .operation_timeout(Duration::from_secs(settings.operation_timeout_seconds));
            Client::from_conf(builder.clone().timeout_config(timeouts.build()).build())
        };
        Ok(Self {
            client: client(settings.read_timeout_seconds),
            uploads: client(settings.upload_timeout_seconds),
            permits: Semaphore::new(settings.max_requests),
            turn_timeout: Duration::from_secs(settings.operation_timeout_seconds),
        })
    }

    /// Waits for its turn, sends a request, and counts it. Its turn ends with the head of the answer: bodies that are
    /// read are bounded by who reads them.
    pub(super) async fn send<T, E>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let permit = timeout(self.turn_timeout, self.permits.acquire()).await;
        let outcome = match permit {
            // It is never closed, so that there is always a permit to come.
            Ok(_permit) => request.await.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Silence("so many requests were waiting for it (s3.max_requests)".into())),
        };
        telemetry::s3_answered(operation, outcome.as_ref().map_or_else(Failure::label, |_| "ok"));
        outcome
    }
}

/// The time to wait before another attempt, after `failed` ones.
pub(super) fn backoff(failed: u32) -> Duration {
    let longest = FIRST_BACKOFF.saturating_mul(1 << failed.min(16)).min(MAX_BACKOFF);
    longest.mul_f64(fastrand::f64())
}

/// Sends a conditional put again that met another request for the same key: that may be its own first attempt, which the
/// store has not finished with.
#[derive(Debug)]
struct Conflicts;

impl ClassifyRetry for Conflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let status = context.response().map(|answer| answer.status().as_u16());
        if status == Some(409) { RetryAction::transient_error() } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "conflicts"
    }
}

/// Counts requests that are sent again.
#[derive(Debug)]
struct CountRetries;

impl Intercept for CountRetries {
    fn name(&self) -> &'static str {
        "count retries"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The SDK writes `attempt=2; max=4`.
        let attempt = context.request().headers().get("amz-sdk-request").unwrap_or_default();
        if !attempt.starts_with("attempt=1;") && attempt.starts_with("attempt=") {
            telemetry::s3_retried();
        }
        Ok(())
    }
}
