//! The SDK's client, configured by our settings, with a limit on concurrent requests.

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

use crate::backoff::Backoff;
use crate::blobs::s3::failure::RequestFailure;
use crate::config;
use crate::telemetry;

/// The region of a custom endpoint if none is set: other services with this protocol have this one or accept
/// any.
const DEFAULT_REGION: &str = "us-east-1";

/// The longest first wait before a retry. The next waits are longer, and each wait is a random part of its
/// longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// The longest of these waits.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// The waits before further requests for an answer that was cut off.
pub(super) const BACKOFF: Backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);

/// The SDK's own configuration: credentials, and the region if the settings name none, from where all AWS
/// SDKs find them.
pub(super) async fn sdk_config(settings: &config::S3Settings) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    let loader = match (settings.region.is_empty(), settings.endpoint.is_empty()) {
        (false, _) => loader.region(Region::new(settings.region.clone())),
        (true, true) => loader,
        // The metadata service of a machine is not asked for the region: outside AWS that takes seconds to
        // fail.
        (true, false) => {
            let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
            loader
                .region(chain.or_else(ProfileFileRegionProvider::new()).or_else(Region::new(DEFAULT_REGION)))
        }
    };
    loader.load().await
}

/// Sends requests, a bounded number at a time.
#[derive(Debug)]
pub(super) struct Requests {
    /// The client for requests without a body.
    pub(super) client: Client,
    /// The client for requests that send an object, with a longer time-out.
    pub(super) uploads: Client,
    permits: Semaphore,
    /// The longest wait for a permit.
    permit_timeout: Duration,
}

impl Requests {
    /// Makes the clients.
    ///
    /// # Errors
    /// A value that neither the settings nor the SDK's configuration has.
    pub(super) fn new(settings: &config::S3Settings, sdk_config: &SdkConfig) -> Result<Self, String> {
        if sdk_config.region().is_none() {
            return Err("no region is known: set s3.region, or AWS_REGION in the environment".into());
        }
        let mut builder = Builder::from(sdk_config);
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
            .retry_classifier(RetryConflicts)
            .interceptor(CountRetries)
            // We send checksums ourselves: other services than Amazon refuse the trailers that the SDK sends.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // A slow reader of the stream must not be taken for a slow service: see `read`.
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
            permit_timeout: Duration::from_secs(settings.operation_timeout_seconds),
        })
    }

    /// Waits for a permit, sends a request, and counts the request. The permit ends with the head of the
    /// answer: the number of bodies is limited by the readers.
    pub(super) async fn send<T, E>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, RequestFailure>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let permit = timeout(self.permit_timeout, self.permits.acquire()).await;
        let outcome = match permit {
            // The semaphore is never closed, so that there is always a permit.
            Ok(_permit) => request.await.map_err(|error| RequestFailure::of(&error)),
            Err(_) => {
                Err(RequestFailure::NoResponse("too many requests were waiting (s3.max_requests)".into()))
            }
        };
        telemetry::s3_answered(operation, outcome.as_ref().map_or_else(RequestFailure::label, |_| "ok"));
        outcome
    }
}

/// Retries a conditional put that conflicts with another request for the same key: that may be its own first
/// attempt, which the service has not finished.
#[derive(Debug)]
struct RetryConflicts;

impl ClassifyRetry for RetryConflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let status = context.response().map(|answer| answer.status().as_u16());
        if status == Some(409) { RetryAction::transient_error() } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "retry conflicts"
    }
}

/// Counts retries.
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
