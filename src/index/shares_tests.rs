//! Tests of the rows of shares and of signing keys, over each engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::index::engine_tests::{Engine, on_each_engine};
use crate::index::shares::{CodeTries, ShareRecord, SharedObjects};

on_each_engine! {
    a_share_is_found_by_its_link_and_in_its_tenant_alone,
    changes_at_the_same_time_are_all_counted,
    the_oldest_shares_that_are_over_go_with_their_links,
    the_first_key_of_a_period_stays_and_those_of_old_periods_go,
}

fn share(number: u32) -> ShareRecord {
    let study = "1.2".parse().unwrap();
    ShareRecord {
        id: format!("{number:04}"),
        objects: SharedObjects { study, series: None, instances: BTreeMap::new() },
        may_download: false,
        note: String::new(),
        created_by: "u".into(),
        created_at: i64::from(number),
        expires_at: i64::MAX,
        revoked_at: None,
        max_uses: None,
        uses: 0,
        used_at: None,
        link: format!("digest-{number}"),
        code: None,
        tries: CodeTries::default(),
    }
}

async fn a_share_is_found_by_its_link_and_in_its_tenant_alone(engine: Engine) {
    let index = engine.index();
    for number in 1..=5 {
        assert!(index.add_share("a", &share(number)).await.unwrap());
    }
    // The link is taken, whatever the identifier and the tenant.
    assert!(!index.add_share("a", &share(3)).await.unwrap());
    assert_eq!(index.share("a", "0003").await.unwrap(), Some(share(3)));
    assert_eq!(index.share("b", "0003").await.unwrap(), None);
    let found = index.find_share_link("digest-4").await.unwrap();
    assert_eq!(found, Some(("a".into(), "0004".into())));
    assert_eq!(index.find_share_link("digest-6").await.unwrap(), None);
    let page = index.shares("a", None, 3).await.unwrap();
    let ids = |shares: &[ShareRecord]| shares.iter().map(|share| share.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&page.shares), page.has_more), (vec!["0005".into(), "0004".into(), "0003".into()], true));
    let page = index.shares("a", Some("0003"), 3).await.unwrap();
    assert_eq!(ids(&page.shares), ["0002", "0001"]);
    assert!(index.shares("b", None, 3).await.unwrap().shares.is_empty());
    for (tenant, limit, expected) in [("a", 10, 5), ("a", 4, 4), ("b", 10, 0)] {
        assert_eq!(index.count_shares(tenant, limit).await.unwrap(), expected);
    }
}

async fn changes_at_the_same_time_are_all_counted(engine: Engine) {
    let index = Arc::new(engine.index());
    index.add_share("a", &share(1)).await.unwrap();
    let uses = (0..8).map(|_| {
        let index = index.clone();
        async move {
            let use_once = |record: &mut ShareRecord| {
                record.uses += 1;
                (true, record.uses)
            };
            index.change_share("a", "0001", use_once).await.unwrap().unwrap()
        }
    });
    let mut counts = join_all(uses).await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=8).collect::<Vec<_>>());
    assert_eq!(index.share("a", "0001").await.unwrap().unwrap().uses, 8);
    assert_eq!(index.change_share("b", "0001", |_| (true, ())).await.unwrap(), None);
}

async fn the_oldest_shares_that_are_over_go_with_their_links(engine: Engine) {
    let index = engine.index();
    for number in 1..=6 {
        index.add_share("a", &share(number)).await.unwrap();
    }
    let is_even = |record: &ShareRecord| record.created_at % 2 == 0;
    assert_eq!(index.delete_oldest_shares("a", is_even).await.unwrap(), 3);
    assert_eq!(index.delete_oldest_shares("a", is_even).await.unwrap(), 0);
    assert_eq!(index.count_shares("a", 10).await.unwrap(), 3);
    assert_eq!(index.find_share_link("digest-2").await.unwrap(), None);
    assert!(index.find_share_link("digest-3").await.unwrap().is_some());
}

async fn the_first_key_of_a_period_stays_and_those_of_old_periods_go(engine: Engine) {
    let index = engine.index();
    for (period, key) in [(7, b"one"), (7, b"two"), (8, b"six")] {
        index.add_signing_key("a", (period, period - 1), key.to_vec()).await.unwrap();
    }
    assert_eq!(index.signing_key("a", 7).await.unwrap().unwrap(), b"one");
    assert_eq!(index.signing_key("b", 7).await.unwrap(), None);
    index.add_signing_key("a", (9, 8), b"ten".to_vec()).await.unwrap();
    assert_eq!(index.signing_key("a", 7).await.unwrap(), None);
    assert_eq!(index.signing_key("a", 8).await.unwrap().unwrap(), b"six");
    assert_eq!(index.delete_signing_keys("a").await.unwrap(), 2);
    assert_eq!(index.signing_key("a", 9).await.unwrap(), None);
}
