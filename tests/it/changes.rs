//! The feed of changes, and changes as events.

use std::collections::BTreeMap;
use std::time::Duration;

use cuspid::config::Config;
use reqwest::Response;
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::time::timeout;

use crate::harness::{EXPLICIT, Server, data_set, embedded};

/// The longest time in which what must come comes.
const LIMIT: Duration = Duration::from_secs(30);

fn file(study: &str, series: &str, instance: &str) -> Vec<u8> {
    data_set(study, series, instance).file(EXPLICIT)
}

async fn get(server: &Server, path: &str) -> Response {
    let url = format!("http://{}{path}", server.address);
    server.request("GET", url).header("Connection", "close").send().await.unwrap()
}

async fn page(server: &Server, query: &str) -> Value {
    let response = get(server, &format!("/changes{query}")).await;
    assert_eq!(response.status(), 200, "{query}");
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The changes without their times, and the place after them.
async fn changes(server: &Server, query: &str) -> (Vec<Value>, String) {
    let mut page = page(server, query).await;
    let mut changes = page["changes"].take();
    for change in changes.as_array_mut().unwrap() {
        assert!(change.as_object_mut().unwrap().remove("time").is_some_and(|time| time.is_string()));
    }
    (changes.as_array().unwrap().clone(), page["next"].as_str().unwrap().to_owned())
}

/// A stream of events that is read event by event.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let mut request = server.request("GET", format!("http://{}/events{query}", server.address));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self { response, text: String::new() };
        let first = events.block().await.unwrap();
        assert!(first.contains_key("retry") && first.contains_key("id"), "{first:?}");
        events
    }

    /// The fields of the next block; `None` at the end.
    async fn block(&mut self) -> Option<BTreeMap<String, String>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let fields = block.lines().filter_map(|line| line.split_once(": "));
                let block = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk = timeout(LIMIT, self.response.chunk()).await.expect("something comes in time");
            self.text.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    /// The next event: its name, its series, and the place after it.
    async fn event(&mut self) -> (String, String, Option<String>) {
        loop {
            let mut block = self.block().await.expect("the stream goes on");
            if let Some(name) = block.remove("event") {
                let data: Value = serde_json::from_str(&block["data"]).unwrap();
                assert_eq!(data["event"], json!(name));
                return (name, data["series"].as_str().unwrap().to_owned(), block.remove("id"));
            }
        }
    }
}

#[tokio::test]
async fn changes_are_listed_in_order_and_page_by_page() {
    let server = Server::start().await;
    let none = page(&server, "").await;
    assert_eq!((&none["changes"], &none["more"]), (&json!([]), &json!(false)));
    server.store(&[file("1.2", "1.2.1", "1.2.1.1")]).await;
    server.store(&[file("1.2", "1.2.1", "1.2.1.1")]).await;
    server.store(&[file("1.3", "1.3.1", "1.3.1.1")]).await;
    server.request("DELETE", server.url("/studies/1.2")).send().await.unwrap();
    let stored = |study: &str| {
        let (series, instance) = (format!("{study}.1"), format!("{study}.1.1"));
        json!({ "event": "stored", "study": study, "series": series, "instances": [instance] })
    };
    let mut deleted = stored("1.2");
    deleted["event"] = json!("deleted");
    deleted["gone"] = json!("study");
    let expected = [stored("1.2"), stored("1.3"), deleted];
    let (all, end) = changes(&server, "").await;
    assert_eq!(all, expected);
    assert_eq!(changes(&server, &format!("?after={end}")).await.0, [] as [Value; 0]);
    assert_eq!(changes(&server, "?after=now").await, (Vec::new(), end.clone()));
    assert_eq!(changes(&server, &format!("?after={}", none["next"].as_str().unwrap())).await.0, expected);
    assert_eq!(changes(&server, "?study=1.3").await, (vec![stored("1.3")], end));
    let (mut paged, mut after) = (Vec::new(), String::new());
    for number in 0..3 {
        let page = page(&server, &format!("?limit=1{after}")).await;
        assert_eq!(page["more"], json!(number < 2));
        paged.extend(page["changes"].as_array().unwrap().iter().map(|change| change["event"].clone()));
        after = format!("&after={}", page["next"].as_str().unwrap());
    }
    assert_eq!(paged, ["stored", "stored", "deleted"]);
}

#[tokio::test]
async fn a_wrong_place_is_refused_and_one_of_another_feed_is_gone() {
    let server = Server::start().await;
    for query in ["?after=", "?after=x", "?studies=1.2", "?limit=0", "?limit=x", "?study=x", "?after=1-0"] {
        for path in ["/changes", "/events"] {
            assert_eq!(get(&server, &format!("{path}{query}")).await.status(), 400, "{path}{query}");
        }
    }
    for path in ["/changes?after=18b-0.5", "/events?after=18b-0.5"] {
        assert_eq!(get(&server, path).await.status(), 410, "{path}");
    }
    let url = format!("http://{}/events", server.address);
    for (last, status) in [("x", 400), ("18b-0.5", 410)] {
        let request = server.request("GET", url.clone()).header("Last-Event-ID", last);
        assert_eq!(request.send().await.unwrap().status(), status, "{last}");
    }
}

#[tokio::test]
async fn changes_are_there_after_a_restart() {
    let place = tempdir().unwrap();
    let mut places = Vec::new();
    for round in 1..=2 {
        let server = cuspid::server::start(embedded(place.path())).await.unwrap();
        let client = reqwest::Client::new();
        let root = format!("http://{}", server.http);
        let store =
            client.post(format!("{root}/dicom-web/studies")).header("Content-Type", "application/dicom");
        let instance = file("1.2", "1.2.1", &format!("1.2.1.{round}"));
        assert_eq!(store.body(instance).send().await.unwrap().status(), 200);
        let page = client.get(format!("{root}/changes")).send().await.unwrap().bytes().await.unwrap();
        let page: Value = serde_json::from_slice(&page).unwrap();
        assert_eq!(page["changes"].as_array().unwrap().len(), round);
        places.push(page["next"].as_str().unwrap().to_owned());
        server.stop().await.unwrap();
    }
    assert_ne!(places[0], places[1]);
}

#[tokio::test]
async fn events_come_at_once_and_a_listener_that_comes_back_misses_none() {
    // Other processes are not looked for in the time of the test.
    let server = Server::with(|config| config.changes.poll_milliseconds = 1_000_000).await;
    server.store(&[file("1.1", "1.1.1", "1.1.1.1")]).await;
    let mut all = Events::open(&server, "", None).await;
    let mut of_study = Events::open(&server, "?study=1.3", None).await;
    server.store(&[file("1.2", "1.2.1", "1.2.1.1")]).await;
    let (name, series, last) = all.event().await;
    assert_eq!((name.as_str(), series.as_str()), ("stored", "1.2.1"));
    drop(all);
    server.request("DELETE", server.url("/studies/1.2")).send().await.unwrap();
    // Two series: two events, of which the last has the place after both.
    server.store(&[file("1.3", "1.3.1", "1.3.1.1"), file("1.3", "1.3.2", "1.3.2.1")]).await;
    let mut again = Events::open(&server, "", last.as_deref()).await;
    let (name, series, _) = again.event().await;
    assert_eq!((name.as_str(), series.as_str()), ("deleted", "1.2.1"));
    // Instances of one request may be committed in any order, which all listeners see alike.
    let mut orders = Vec::new();
    for events in [&mut again, &mut of_study] {
        let both = [events.event().await, events.event().await];
        assert!(both[1].2.is_some());
        orders.push(both.map(|(_, series, _)| series));
    }
    assert_eq!(orders[0], orders[1]);
    orders[0].sort();
    assert_eq!(orders[0], ["1.3.1", "1.3.2"]);
    // From the beginning of what is kept, by the place of an empty feed.
    let mut first = Events::open(&server, "?after=0", None).await;
    let (_, series, last) = first.event().await;
    assert_eq!(series, "1.1.1");
    let mut second = Events::open(&server, "", last.as_deref()).await;
    assert_eq!(second.event().await.1, "1.2.1");
}

#[tokio::test]
async fn a_listener_without_events_gets_its_place() {
    let server = Server::with(|config| config.changes.heartbeat_seconds = 1).await;
    let mut events = Events::open(&server, "?study=1.9", None).await;
    server.store(&[file("1.2", "1.2.1", "1.2.1.1")]).await;
    let (_, end) = changes(&server, "").await;
    loop {
        let block = events.block().await.unwrap();
        assert_eq!(block.keys().collect::<Vec<_>>(), ["id"]);
        if block["id"] == end {
            return;
        }
    }
}

#[tokio::test]
async fn listeners_have_places_of_their_own() {
    let limits = |config: &mut Config| {
        config.changes.max_listeners = 2;
        config.changes.max_listeners_per_client = 2;
        config.http.max_requests_per_client = 1;
    };
    let server = Server::with(limits).await;
    let first = Events::open(&server, "", None).await;
    let _second = Events::open(&server, "", None).await;
    let refused = get(&server, "/events").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.text().await.unwrap().contains("changes.max_listeners"));
    assert_eq!(get(&server, "/dicom-web/studies").await.status(), 200);
    drop(first);
    let free = async {
        while get(&server, "/events").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, free).await.expect("the place of a listener that has left is free");
}

#[tokio::test]
async fn a_connection_that_only_listens_makes_room_for_a_request() {
    let server = Server::with(|config| config.http.max_connections = 1).await;
    let mut events = Events::open(&server, "", None).await;
    assert_eq!(get(&server, "/dicom-web/studies").await.status(), 200);
    assert_eq!(events.block().await, None);
}
