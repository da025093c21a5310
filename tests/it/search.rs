//! QIDO-RS: results, their URLs, paging and errors (PS3.18 §10.6). Matching is tested in `query`.

use std::collections::BTreeMap;
use std::io::Read;

use cuspid::dicom::xml;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::harness::{Server, native};

async fn two_studies() -> Server {
    let server = Server::start().await;
    let instances = [
        native("1.1", "1.2", "1.3"),
        native("1.1", "1.2", "1.4"),
        native("1.1", "1.5", "1.6"),
        native("2.1", "2.2", "2.3"),
    ];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

#[tokio::test]
async fn each_resource_finds_what_is_within_it() {
    let server = two_studies().await;
    for (path, results, url) in [
        ("/studies", 2, "/studies/"),
        ("/series", 3, "/studies/"),
        ("/instances", 4, "/studies/"),
        ("/studies/1.1/series", 2, "/studies/1.1/series/"),
        ("/studies/1.1/instances", 3, "/studies/1.1/series/"),
        ("/studies/1.1/series/1.2/instances", 2, "/studies/1.1/series/1.2/instances/"),
        ("/studies?StudyInstanceUID=1.1%5C2.1", 2, "/studies/"),
        ("/studies?limit=1&offset=1&fuzzymatching=true&includefield=00081030%2C00080060", 1, "/studies/"),
        ("/studies?PatientName=nobody", 0, ""),
        ("/studies/9.9/series", 0, ""),
        ("/studies?accept=application/dicom+json&charset=utf-8", 2, "/studies/"),
        ("/studies?TimezoneOffsetFromUTC=+0100&orderby=-StudyInstanceUID", 2, "/studies/"),
    ] {
        let json = server.json(path).await;
        let found = json.as_array().unwrap();
        assert_eq!(found.len(), results, "{path}");
        for result in found {
            let retrieve_url = result["00081190"]["Value"][0].as_str().unwrap();
            assert!(retrieve_url.starts_with(&server.url(url)), "{path}: {retrieve_url}");
        }
    }
}

#[tokio::test]
async fn studies_are_found_by_the_day_on_which_they_arrived() {
    let server = two_studies().await;
    let hours = |hours| {
        let moment = time::OffsetDateTime::now_utc() + time::Duration::hours(hours);
        let (date, hour) = (moment.date(), moment.hour());
        format!("{:04}{:02}{:02}{hour:02}0000", date.year(), u8::from(date.month()), date.day())
    };
    for (arrived, results) in [
        (format!("{}-", hours(-1)), 2),
        (format!("{}%2B0000-", hours(-1)), 2),
        (format!("{}-{}", hours(-1), hours(1)), 2),
        // Clocks in Seoul are nine hours ahead.
        (format!("{}%2B0900-", hours(9 - 1)), 2),
        (format!("{}%2B0900-", hours(9 + 1)), 0),
        (format!("{}-0500-", hours(-5 - 1)), 2),
        (format!("-{}", hours(-1)), 0),
        ("2001".to_owned(), 0),
    ] {
        for more in ["", "&fuzzymatching=true&StudyInstanceUID=1.1%5C2.1", "&orderby=PatientID"] {
            let found = server.json(&format!("/studies?arrived={arrived}{more}")).await;
            assert_eq!(found.as_array().unwrap().len(), results, "{arrived} {more}");
        }
    }
    for (path, results) in [("/series", 3), ("/instances", 4), ("/studies/1.1/series", 2)] {
        let found = server.json(&format!("{path}?arrived={}-", hours(-1))).await;
        assert_eq!(found.as_array().unwrap().len(), results, "{path}");
        let found = server.json(&format!("{path}?arrived=2001")).await;
        assert_eq!(found.as_array().unwrap().len(), 0, "{path}");
    }
}

#[tokio::test]
async fn more_results_than_given_are_announced() {
    let server = two_studies().await;
    let response = server.get("/instances?limit=3").send().await.unwrap();
    assert!(response.headers()["warning"].to_str().unwrap().starts_with("299 "));
    let response = server.get("/instances?limit=4").send().await.unwrap();
    assert!(!response.headers().contains_key("warning"));
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let server = Server::start().await;
    for (path, name) in [
        ("/studies?limit=many", "limit"),
        ("/studies?00091001=1", "00091001"),
        ("/studies?orderby=SeriesNumber", "orderby"),
        ("/studies?arrived=today", "arrived"),
        ("/studies?emptyvaluematching=2", "emptyvaluematching"),
        ("/studies/1..1/series", "study"),
    ] {
        let response = server.get(path).send().await.unwrap();
        assert_eq!(response.status(), 400, "{path}");
        let problem: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["parameter"], name, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_parameter_is_ignored_and_named() {
    let server = two_studies().await;
    let response = server.get("/studies?NoSuchKeyword=1&_=123&StudyDate=").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("NoSuchKeyword") && warning.contains("parameter _ is unknown"), "{warning}");
    assert_eq!(response.json::<Vec<serde_json::Value>>().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_media_type_is_negotiated() {
    let server = Server::start().await;
    for (accept, status, content_type) in [
        ("application/dicom+json", 200, "application/dicom+json"),
        ("application/json", 200, "application/json"),
        ("*/*", 200, "application/dicom+json"),
        ("text/html", 406, "application/problem+json"),
    ] {
        let response = server.get("/studies").header("Accept", accept).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (status, &content_type.parse().unwrap())
        );
    }
}

const XML_PARTS: &str = "multipart/related; type=\"application/dicom+xml\"";

#[tokio::test]
async fn results_in_xml_say_what_those_in_json_say() {
    let server = two_studies().await;
    for path in ["/studies", "/series?PatientID=*", "/instances?includefield=all"] {
        let response = server.get(path).header("Accept", XML_PARTS).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(content_type.starts_with(XML_PARTS), "{content_type}");
        let boundary = format!("--{}", content_type.rsplit("boundary=").next().unwrap());
        let text = response.text().await.unwrap();
        let documents: Vec<Value> = text
            .split(&boundary)
            .filter_map(|section| section.split_once("\r\n\r\n"))
            .map(|(_, document)| {
                xml::read(document.strip_suffix("\r\n").unwrap().as_bytes(), 64, 1000).unwrap()
            })
            .collect();
        assert_eq!(Value::Array(documents), server.json(path).await, "{path}");
    }
    let response = server.get("/studies?PatientID=x").header("Accept", XML_PARTS).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().len()), (204, 0));
}

#[tokio::test]
async fn results_in_csv_are_a_table_with_a_column_for_each_attribute() {
    let server = two_studies().await;
    let path = "/series?includefield=00081030,00091001&limit=2";
    let response = server.get(path).header("Accept", "text/csv").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    let text = response.text().await.unwrap();
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let columns = table.headers().unwrap().clone();
    for name in ["PatientName", "SeriesInstanceUID", "StudyDescription", "RetrieveURL", "00091001"] {
        assert!(columns.iter().any(|column| column == name), "{name}: {columns:?}");
    }
    let rows: Vec<_> = table.records().map(Result::unwrap).collect();
    let json = server.json("/series?limit=2").await;
    assert_eq!(rows.len(), 2);
    for (row, result) in rows.iter().zip(json.as_array().unwrap()) {
        let cell = |name: &str| &row[columns.iter().position(|column| column == name).unwrap()];
        assert_eq!(cell("SeriesInstanceUID"), result["0020000E"]["Value"][0]);
        assert_eq!(cell("RetrieveURL"), result["00081190"]["Value"][0]);
    }
    let response = server.get("/studies?PatientID=x").header("Accept", "text/csv").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().lines().count()), (200, 1));
}

#[tokio::test]
async fn a_form_that_there_is_not_is_406_with_those_that_there_are() {
    let server = Server::start().await;
    for accept in ["text/html", "application/dicom+xml", "image/png"] {
        let response = server.get("/studies").header("Accept", accept).send().await.unwrap();
        assert_eq!(response.status(), 406, "{accept}");
        let problem = response.text().await.unwrap();
        for form in ["application/dicom+json", "application/dicom+xml", "text/csv"] {
            assert!(problem.contains(form), "{problem}");
        }
    }
}

/// The targets of a Link field by their relations.
fn links(response: &reqwest::Response) -> BTreeMap<String, String> {
    let field = response.headers().get("link").map_or("", |field| field.to_str().unwrap());
    let links = field.split(", <").filter_map(|link| link.split_once(">; rel="));
    links.map(|(url, name)| (name.trim_matches('"').into(), url.trim_start_matches('<').into())).collect()
}

#[tokio::test]
async fn following_the_links_gives_every_result_once() {
    let server = two_studies().await;
    let uids = |results: &Value| -> Vec<String> {
        results.as_array().unwrap().iter().map(|one| one["00080018"]["Value"][0].to_string()).collect()
    };
    let everything = uids(&server.json("/instances").await);
    let mut url = server.url("/studies/1.1/instances?limit=2&PatientName=*");
    let (mut found, mut pages) = (Vec::new(), Vec::new());
    loop {
        let response = server.request("GET", url.clone()).send().await.unwrap();
        let next = links(&response);
        pages.push(next.keys().cloned().collect::<Vec<_>>().join(" "));
        found.extend(uids(&serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()));
        match next.get("next") {
            Some(target) => url = target.clone(),
            None => break,
        }
    }
    assert_eq!((found.as_slice(), pages), (&everything[1..], vec!["next".into(), "prev".to_owned()]));
}

/// Follows the links from a path; returns the UIDs of all results, and the number of pages.
async fn follow(server: &Server, path: &str, uid: &str) -> (Vec<String>, usize) {
    let (mut url, mut found) = (server.url(path), Vec::new());
    for page in 1..100 {
        let response = server.request("GET", url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let next = links(&response).remove("next");
        let results: Vec<Value> = response.json().await.unwrap();
        found.extend(results.iter().map(|one| one[uid]["Value"][0].as_str().unwrap().to_owned()));
        match next {
            Some(target) => url = target,
            None => return (found, page),
        }
    }
    panic!("the links do not end");
}

#[tokio::test]
async fn links_lead_on_where_a_search_ends_after_its_work() {
    let server = Server::with(|config| config.search.max_rows_read = 30).await;
    let instances: Vec<_> =
        (0..90).map(|n| native(&format!("1.1.{n}"), "1.2", &format!("1.3.{n}"))).collect();
    for instance in instances.chunks(30) {
        assert_eq!(server.store(instance).await.status(), 200);
    }
    // What is not in the sort keys is matched on records, of which each page reads thirty at most.
    let (found, pages) = follow(&server, "/studies?StudyID=none", "0020000D").await;
    assert!(found.is_empty() && pages >= 3, "{pages}");
    let (found, pages) = follow(&server, "/instances?limit=50", "00080018").await;
    let distinct: std::collections::BTreeSet<&String> = found.iter().collect();
    assert!(found.len() == 90 && distinct.len() == 90 && pages >= 6, "{} {pages}", found.len());
    let response = server.get("/studies?StudyID=none").send().await.unwrap();
    assert!(response.headers()["warning"].to_str().unwrap().contains("there may be more"));
    assert!(links(&response)["next"].contains("cursor="));
}

#[tokio::test]
async fn a_cursor_of_another_search_is_refused_and_named() {
    let server = two_studies().await;
    let response = server.get("/instances?limit=1").send().await.unwrap();
    let next = links(&response).remove("next").unwrap();
    let cursor = next.split("cursor=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    for (path, status) in [
        (format!("/instances?cursor={cursor}"), 200),
        (format!("/instances?cursor={cursor}&limit=2&offset=1&includefield=all"), 200),
        (format!("/instances?cursor={cursor}&PatientID=1"), 400),
        (format!("/instances?cursor={cursor}&orderby=PatientID"), 400),
        (format!("/instances?cursor={cursor}&cursor={cursor}"), 400),
        (format!("/series?cursor={cursor}"), 400),
        (format!("/studies/1.1/instances?cursor={cursor}"), 400),
        (format!("/instances?cursor=B{}", &cursor[1..]), 400),
        ("/instances?cursor=".to_owned(), 400),
    ] {
        let response = server.get(&path).send().await.unwrap();
        let found = response.status().as_u16();
        let body = response.text().await.unwrap();
        assert_eq!(found, status, "{path} {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(found == 200 || body["parameter"] == "cursor", "{path} {body}");
    }
}

#[tokio::test]
async fn a_limit_of_none_gives_none_and_says_that_there_are_some() {
    let server = two_studies().await;
    let response = server.get("/studies?limit=0").send().await.unwrap();
    assert!(response.headers().contains_key("warning"));
    assert_eq!(response.text().await.unwrap(), "[]");
}

#[tokio::test]
async fn a_long_answer_is_the_same_compressed_and_plain() {
    let server = Server::start().await;
    let instances: Vec<_> = (0..200).map(|n| native("1.1", "1.2", &format!("1.3.{n}"))).collect();
    assert_eq!(server.store(&instances).await.status(), 200);
    let plain = server.get("/instances").send().await.unwrap();
    let length = plain.headers()["content-length"].to_str().unwrap().to_owned();
    let plain = plain.bytes().await.unwrap();
    assert!(plain.len() > 100_000 && length == plain.len().to_string(), "{length}");
    let packed = server.get("/instances").header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let mut inflated = Vec::new();
    GzDecoder::new(&packed.bytes().await.unwrap()[..]).read_to_end(&mut inflated).unwrap();
    assert!(inflated == plain);
    assert_eq!(serde_json::from_slice::<Value>(&plain).unwrap().as_array().unwrap().len(), 200);
}
