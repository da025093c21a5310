//! Jobs in a queue of Amazon SQS, or of another service with its protocol.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::Message;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::queue::{Delivery, Error, Job, Queue};

/// The longest wait for a message that SQS allows.
const WAIT_SECONDS: i32 = 20;
/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for an answer, which must be longer than that for a message.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest delay of a message that SQS allows.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// The longest visibility time-out that SQS allows.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);
/// The most announcements that are remembered so that they are not repeated.
const MAX_REMEMBERED: usize = 10_000;

/// A queue of Amazon SQS. A message that is received too often without being deleted should go to its dead
/// letter queue.
pub struct SqsQueue {
    client: Client,
    queue_url: String,
    /// The jobs that this process announced, with the time from which they can be received.
    announced: Mutex<HashMap<Job, Instant>>,
}

/// A job in a message.
#[derive(Serialize, Deserialize)]
struct Body {
    tenant: String,
    study: StudyUid,
    series: SeriesUid,
}

impl SqsQueue {
    /// Opens a queue. An empty region or endpoint is that of the environment.
    ///
    /// # Errors
    /// If the queue does not answer.
    pub async fn open(queue_url: &str, region: &str, endpoint: &str) -> Result<Self, Error> {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
        let timeouts = timeouts.operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
        if !region.is_empty() {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if !endpoint.is_empty() {
            loader = loader.endpoint_url(endpoint);
        }
        let client = Client::new(&loader.load().await);
        client.get_queue_attributes().queue_url(queue_url).send().await.map_err(failed("open the queue"))?;
        Ok(Self { client, queue_url: queue_url.to_owned(), announced: Mutex::default() })
    }

    /// Whether a job has to be announced: not if it is delayed in the queue already. Remembers the
    /// announcement.
    fn must_announce(&self, job: &Job, delay: Duration) -> bool {
        let now = Instant::now();
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        if announced.get(job).is_some_and(|ready| *ready > now) {
            return false;
        }
        if announced.len() >= MAX_REMEMBERED {
            announced.retain(|_, ready| *ready > now);
        }
        if announced.len() < MAX_REMEMBERED {
            announced.insert(job.clone(), now + delay);
        }
        true
    }

    fn forget(&self, job: &Job) {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn announce(&self, job: &Job, delay: Duration) -> Result<(), Error> {
        let delay = whole_seconds(delay.min(MAX_DELAY));
        if !self.must_announce(job, delay) {
            return Ok(());
        }
        let Job { tenant, study, series } = job.clone();
        let body = serde_json::to_string(&Body { tenant, study, series });
        let body = body.map_err(|source| Error { operation: "write a job", source: source.into() })?;
        let message = self.client.send_message().queue_url(&self.queue_url).message_body(body);
        let sent = message.delay_seconds(delay.as_secs() as i32).send().await;
        if sent.is_err() {
            self.forget(job);
        }
        sent.map(drop).map_err(failed("announce a job"))
    }

    async fn receive(&self, lease: Duration) -> Result<Vec<Delivery>, Error> {
        let request = self.client.receive_message().queue_url(&self.queue_url).max_number_of_messages(1);
        let request = request.wait_time_seconds(WAIT_SECONDS).visibility_timeout(seconds(lease));
        let answer = request.send().await.map_err(failed("receive jobs"))?;
        let mut deliveries = Vec::new();
        for message in answer.messages.unwrap_or_default() {
            match delivery(&message) {
                Some(delivery) => deliveries.push(delivery),
                // The message goes to the dead letter queue when it has been received often enough.
                None => warn!("a message in the queue is no job of this version"),
            }
        }
        Ok(deliveries)
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), Error> {
        let request = self.client.change_message_visibility().queue_url(&self.queue_url);
        let request = request.receipt_handle(&delivery.receipt).visibility_timeout(seconds(lease));
        request.send().await.map(drop).map_err(failed("extend the lease of a job"))
    }

    async fn delete(&self, delivery: &Delivery) -> Result<(), Error> {
        let request = self.client.delete_message().queue_url(&self.queue_url);
        request.receipt_handle(&delivery.receipt).send().await.map(drop).map_err(failed("delete a job"))
    }
}

fn delivery(message: &Message) -> Option<Delivery> {
    let Body { tenant, study, series } = serde_json::from_str(message.body()?).ok()?;
    Some(Delivery { job: Job { tenant, study, series }, receipt: message.receipt_handle()?.to_owned() })
}

/// A delay in whole seconds, the unit of SQS. Rounded up: the announcement of a job that is received too
/// early would be skipped as a repetition.
fn whole_seconds(delay: Duration) -> Duration {
    Duration::from_secs(delay.as_millis().div_ceil(1000) as u64)
}

fn seconds(lease: Duration) -> i32 {
    lease.min(MAX_VISIBILITY).as_secs() as i32
}

fn failed<E: std::error::Error + Send + Sync + 'static>(operation: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error { operation, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::env;

    use uuid::Uuid;

    use super::*;

    fn job(series: &str) -> Job {
        Job { tenant: "clinic".into(), study: "1.2".parse().unwrap(), series: series.parse().unwrap() }
    }

    /// A new queue, and the URL of its dead letter queue, to which messages go when they were received twice.
    async fn queue() -> (SqsQueue, String) {
        let endpoint = env::var("CUSPID_TEST_SQS").expect("run this under tools/cloud.py");
        let endpoint = endpoint.split_once('=').map_or(endpoint.as_str(), |(_, url)| url).to_owned();
        let settings = aws_config::defaults(BehaviorVersion::latest()).endpoint_url(&endpoint).load().await;
        let client = Client::new(&settings);
        let name = Uuid::new_v4().simple().to_string();
        let create = async |name: &str, policy: Option<String>| {
            let policy = policy.map(|policy| (aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy, policy));
            let request =
                client.create_queue().queue_name(name).set_attributes(Some(policy.into_iter().collect()));
            request.send().await.unwrap().queue_url.unwrap()
        };
        let dead = create(&format!("{name}-dead"), None).await;
        let policy = format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:123456789012:{name}-dead","maxReceiveCount":"2"}}"#
        );
        let url = create(&name, Some(policy)).await;
        (SqsQueue::open(&url, "us-east-1", &endpoint).await.unwrap(), dead)
    }

    #[tokio::test]
    async fn a_job_is_received_by_one_until_it_is_deleted_or_its_lease_ends() {
        let (queue, _) = queue().await;
        queue.announce(&job("1.3"), Duration::ZERO).await.unwrap();
        let first = queue.receive(Duration::from_secs(1)).await.unwrap();
        assert_eq!(first.iter().map(|delivery| &delivery.job).collect::<Vec<_>>(), [&job("1.3")]);
        queue.extend(&first[0], Duration::from_secs(2)).await.unwrap();
        let begun = Instant::now();
        let second = queue.receive(Duration::from_secs(60)).await.unwrap();
        assert_eq!(second.len(), 1);
        assert!(begun.elapsed() > Duration::from_millis(1500), "the lease was {:?}", begun.elapsed());
        queue.delete(&second[0]).await.unwrap();
    }

    #[tokio::test]
    async fn a_job_that_is_received_too_often_goes_to_the_dead_letter_queue() {
        let (queue, dead) = queue().await;
        queue.announce(&job("1.3"), Duration::ZERO).await.unwrap();
        let letters = SqsQueue { client: queue.client.clone(), queue_url: dead, announced: Mutex::default() };
        let mut received = 0;
        let watch = async {
            loop {
                received += queue.receive(Duration::from_secs(1)).await.unwrap().len();
            }
        };
        let found = async {
            loop {
                if let Some(letter) = letters.receive(Duration::from_secs(1)).await.unwrap().pop() {
                    return letter.job;
                }
            }
        };
        let found = tokio::select! { () = watch => unreachable!("it has no end"), found = found => found };
        assert_eq!((found, received), (job("1.3"), 2));
    }

    #[tokio::test]
    async fn a_job_does_not_come_before_its_delay_and_can_be_announced_again_then() {
        let (queue, _) = queue().await;
        let begun = Instant::now();
        queue.announce(&job("1.3"), Duration::from_millis(1200)).await.unwrap();
        let received = queue.receive(Duration::from_secs(60)).await.unwrap();
        assert_eq!(received.len(), 1);
        assert!(begun.elapsed() >= Duration::from_millis(1200), "after {:?}", begun.elapsed());
        while !queue.must_announce(&job("1.3"), Duration::ZERO) {
            assert!(begun.elapsed() < Duration::from_secs(3));
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_job_that_is_delayed_in_the_queue_is_not_announced_again() {
        let (queue, _) = queue().await;
        assert!(queue.must_announce(&job("1.3"), Duration::from_secs(60)));
        assert!(!queue.must_announce(&job("1.3"), Duration::from_secs(60)));
        assert!(queue.must_announce(&job("1.4"), Duration::ZERO));
        assert!(queue.must_announce(&job("1.4"), Duration::ZERO));
    }

    #[tokio::test]
    async fn a_missing_queue_is_an_error() {
        let endpoint = env::var("CUSPID_TEST_SQS").expect("run this under tools/cloud.py");
        let endpoint = endpoint.split_once('=').map_or(endpoint.as_str(), |(_, url)| url);
        assert!(
            SqsQueue::open(&format!("{endpoint}/123456789012/none"), "us-east-1", endpoint).await.is_err()
        );
    }
}
