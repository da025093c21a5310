//! Tests of requests that are throttled, fail, or lose their answer, with a proxy that injects these faults.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use tokio::net::TcpListener;

use crate::table::contract::{item, key, whole};
use crate::table::dynamodb::DynamodbTable;
use crate::table::dynamodb::testing::{DynamodbServer, each_server, settings};
use crate::table::{Error, Expect, Item, ItemKey, Table, Write};

/// The fault that the proxy injects for a request.
#[derive(Debug, Clone)]
enum RequestFault {
    /// Refuses the request with an error and the reasons of a cancelled transaction, if there are any.
    Refuse(&'static str, Vec<&'static str>),
    /// Fails without passing on the request.
    Fail,
    /// Passes on the request, and fails instead of passing on the answer.
    FailAfter,
    /// Passes on the request, and closes the connection within the answer.
    CutAfter,
}

type Script = Arc<Mutex<VecDeque<RequestFault>>>;

/// A table behind a proxy that injects the faults of the script into the next requests, and passes on all
/// others.
async fn behind_a_proxy(server: &DynamodbServer) -> (DynamodbTable, Script) {
    let mut settings = settings(server);
    DynamodbTable::connect(&settings).await.create(false).await.unwrap();
    let script = Script::default();
    let (upstream, faults) = (server.endpoint.clone(), script.clone());
    let answer = move |headers: HeaderMap, body: Bytes| {
        let fault = faults.lock().unwrap().pop_front();
        pass(upstream.clone(), headers, body, fault)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap());
    settings.retry_seconds = 5;
    settings.max_attempts = 6;
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (DynamodbTable::connect(&settings).await, script)
}

async fn pass(
    upstream: String,
    mut headers: HeaderMap,
    body: Bytes,
    fault: Option<RequestFault>,
) -> Response {
    let error = |status, code: &str, reasons: &[&str]| {
        let reasons: Vec<_> = reasons.iter().map(|code| serde_json::json!({ "Code": code })).collect();
        let text = serde_json::json!({
            "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
            "message": "for a test",
            "CancellationReasons": reasons,
        });
        Response::builder().status(status).body(Body::from(text.to_string())).unwrap()
    };
    let failure = || error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", &[]);
    match &fault {
        Some(RequestFault::Refuse(code, reasons)) => return error(StatusCode::BAD_REQUEST, code, reasons),
        Some(RequestFault::Fail) => return failure(),
        Some(RequestFault::FailAfter | RequestFault::CutAfter) | None => {}
    }
    headers.remove(header::HOST);
    let answer = reqwest::Client::new().post(upstream).headers(headers).body(body).send().await.unwrap();
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    match fault {
        Some(RequestFault::FailAfter) => failure(),
        Some(RequestFault::CutAfter) => {
            let cut = futures_util::stream::iter([Ok(body), Err(std::io::Error::other("cut"))]);
            Response::builder().status(status).body(Body::from_stream(cut)).unwrap()
        }
        _ => Response::builder().status(status).body(Body::from(body)).unwrap(),
    }
}

fn counter(version: u64) -> Item {
    item(key("fault", "counter"), version, &[])
}

fn other() -> ItemKey {
    key("fault", "other")
}

async fn reset(table: &DynamodbTable) {
    table.transact(vec![Write::Put(counter(1), Expect::Anything)]).await.unwrap();
    table.transact(vec![Write::Put(item(other(), 1, &[]), Expect::Anything)]).await.unwrap();
}

/// Every kind of conditional write; each changes the counter from version 1 to 2, or deletes it.
fn conditional_writes() -> Vec<Vec<Write>> {
    vec![
        vec![Write::Put(counter(2), Expect::Version(1))],
        vec![Write::Delete(counter(1).key, Expect::Version(1))],
        vec![Write::Put(counter(2), Expect::Version(1)), Write::Delete(other(), Expect::Version(1))],
        vec![Write::Check(other(), Expect::Version(1)), Write::Put(counter(2), Expect::Version(1))],
    ]
}

async fn set(script: &Script, faults: &[RequestFault]) {
    *script.lock().unwrap() = faults.iter().cloned().collect();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_takes_effect_once() {
    for server in each_server() {
        let (table, script) = behind_a_proxy(&server).await;
        for faults in [
            &[RequestFault::CutAfter][..],
            &[RequestFault::FailAfter, RequestFault::Fail, RequestFault::CutAfter],
        ] {
            for writes in conditional_writes() {
                reset(&table).await;
                set(&script, faults).await;
                let outcome = table.transact(writes.clone()).await;
                assert!(outcome.is_ok(), "{} {writes:?}: {outcome:?}", server.name);
                assert!(script.lock().unwrap().is_empty());
                let found = table.get(&[counter(1).key]).await.unwrap().remove(0);
                assert!(found.is_none_or(|found| found.version == 2), "{writes:?}");
                let again = table.transact(writes).await;
                assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_of_another_client_is_not_taken_for_the_own_write() {
    for server in each_server() {
        let (table, script) = behind_a_proxy(&server).await;
        reset(&table).await;
        // The same write as of another client, for example of one that counts the same.
        let write = || vec![Write::Put(counter(2), Expect::Version(1))];
        table.transact(write()).await.unwrap();
        set(&script, &[RequestFault::Fail]).await;
        let outcome = table.transact(write()).await;
        assert!(matches!(outcome, Err(Error::Backend { .. })), "the outcome is unknown: {outcome:?}");
        let outcome = table.transact(write()).await;
        assert!(matches!(outcome, Err(Error::Conflict(0))), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_request_is_retried() {
    let refuse = |code| RequestFault::Refuse(code, Vec::new());
    let cancel =
        |reasons: &[&'static str]| RequestFault::Refuse("TransactionCanceledException", reasons.to_vec());
    let throttled = [
        refuse("ThrottlingException"),
        refuse("ProvisionedThroughputExceededException"),
        refuse("RequestLimitExceeded"),
    ];
    let cancelled = [
        cancel(&["None", "ThrottlingError"]),
        cancel(&["ProvisionedThroughputExceeded", "None"]),
        refuse("TransactionInProgressException"),
    ];
    for server in each_server() {
        let (table, script) = behind_a_proxy(&server).await;
        for writes in conditional_writes() {
            reset(&table).await;
            set(&script, &throttled).await;
            table.transact(writes.clone()).await.unwrap();
            if writes.len() > 1 {
                reset(&table).await;
                set(&script, &cancelled).await;
                table.transact(writes).await.unwrap();
            }
        }
        reset(&table).await;
        set(&script, &throttled).await;
        assert!(table.get(&[other()]).await.unwrap()[0].is_some());
        set(&script, &throttled).await;
        let found = table.get(&[other(), counter(1).key]).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        set(&script, &throttled).await;
        assert_eq!(table.range(&whole(None, "fault")).await.unwrap().items.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_conflicts_again_and_again_is_a_conflict() {
    let cancel =
        |reasons: &[&'static str]| RequestFault::Refuse("TransactionCanceledException", reasons.to_vec());
    for server in each_server() {
        let (table, script) = behind_a_proxy(&server).await;
        reset(&table).await;
        let writes = vec![
            Write::Check(key("fault", "anything"), Expect::Anything),
            Write::Put(counter(2), Expect::Version(1)),
            Write::Delete(other(), Expect::Anything),
        ];
        for (faults, expected) in [
            (vec![cancel(&["None", "TransactionConflict"]); 4], Some(2)),
            (vec![cancel(&["TransactionConflict", "None"])], Some(1)),
            (vec![cancel(&["TransactionConflict", "ConditionalCheckFailed"])], Some(2)),
            (vec![cancel(&["ConditionalCheckFailed", "ConditionalCheckFailed"])], Some(1)),
            (vec![cancel(&["None", "ValidationError"])], None),
            (vec![cancel(&["ItemCollectionSizeLimitExceeded", "TransactionConflict"])], None),
        ] {
            set(&script, &faults).await;
            let outcome = table.transact(writes.clone()).await;
            match (expected, &outcome) {
                (Some(index), Err(Error::Conflict(found))) => assert_eq!(*found, index, "{faults:?}"),
                (None, Err(Error::Backend { .. })) => {}
                _ => panic!("{faults:?}: {outcome:?}"),
            }
            assert!(script.lock().unwrap().is_empty(), "{faults:?}");
        }
        table.transact(writes).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_again_and_again_is_an_error() {
    for server in each_server() {
        let (table, script) = behind_a_proxy(&server).await;
        for fault in [
            RequestFault::Fail,
            RequestFault::CutAfter,
            RequestFault::Refuse("ThrottlingException", Vec::new()),
        ] {
            reset(&table).await;
            set(&script, &vec![fault.clone(); 6]).await;
            let outcome = table.get(&[other()]).await;
            assert!(matches!(outcome, Err(Error::Backend { .. })), "{fault:?} {outcome:?}");
            assert!(script.lock().unwrap().is_empty(), "{fault:?}");
            assert!(table.get(&[other()]).await.unwrap()[0].is_some(), "the table can be read again");
        }
    }
}
