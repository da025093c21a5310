//! The rows of the index that derived objects read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::derived::preview::{Outcome, due_previews, make_preview};
use cuspid::archive::derived::rendering::Format;
use cuspid::archive::derived::rendering::thumbnail::thumbnail;
use cuspid::archive::scope::Scope;
use cuspid::blobs::memory::MemoryBlobs;
use cuspid::index::Index;
use cuspid::table::redb::Redb;
use cuspid::table::{self, Item, ItemKey, Page, Range, SortKeys, Table, Write};

use crate::harness::{defaults, native};

const INSTANCES: usize = 250;

/// A table that counts the reads of each row.
struct CountingTable {
    inner: Redb,
    reads: Mutex<BTreeMap<ItemKey, usize>>,
}

impl CountingTable {
    fn count(&self, item: &Item) {
        *self.reads.lock().unwrap().entry(item.key.clone()).or_default() += 1;
    }

    /// The reads since the last call: the most of one row of an instance, the number of such rows, and the
    /// most of one other row.
    fn take(&self) -> (usize, usize, usize) {
        let reads = std::mem::take(&mut *self.reads.lock().unwrap());
        let is_instance = |key: &ItemKey| key.sort.starts_with("I#");
        let most = |wanted: bool| {
            reads.iter().filter(|(key, _)| is_instance(key) == wanted).map(|(_, reads)| *reads).max()
        };
        let rows = reads.keys().filter(|key| is_instance(key)).count();
        (most(true).unwrap_or(0), rows, most(false).unwrap_or(0))
    }
}

#[async_trait]
impl Table for CountingTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, table::Error> {
        let items = self.inner.get(keys).await?;
        items.iter().flatten().for_each(|item| self.count(item));
        Ok(items)
    }

    async fn range(&self, range: &Range) -> Result<Page, table::Error> {
        let page = self.inner.range(range).await?;
        page.items.iter().for_each(|(_, item)| self.count(item));
        Ok(page)
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, table::Error> {
        self.inner.sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), table::Error> {
        self.inner.transact(writes).await
    }

    fn health(&self) -> Result<(), table::Error> {
        self.inner.health()
    }
}

#[tokio::test]
async fn a_preview_and_a_thumbnail_read_each_row_of_an_instance_once() {
    let table = Arc::new(CountingTable { inner: Redb::in_memory().unwrap(), reads: Mutex::default() });
    let mut config = defaults();
    config.preview.quiet_seconds = 0;
    let index = Arc::new(Index::new(table.clone()));
    let archive = Archive::new(Arc::new(MemoryBlobs::new()), index, &config);
    let caller = Caller::anonymous();
    for number in 0..INSTANCES {
        let mut upload = archive.receive(&caller, None).await;
        upload.write(Bytes::from(native("1.2", "1.2.1", &format!("1.2.1.{number}")))).await;
        upload.finish().await.await.result.unwrap();
    }

    let due = due_previews(&archive, 10).await.unwrap();
    table.take();
    assert_eq!(make_preview(&archive, &due[0]).await.unwrap(), Outcome::Made);
    assert_eq!(table.take(), (1, INSTANCES, 1), "a preview");

    let study = Scope { study: "1.2".parse().unwrap(), series: None, instance: None };
    let series = Scope { series: "1.2.1".parse().ok(), ..study.clone() };
    let instance = Scope { instance: "1.2.1.7".parse().ok(), ..series.clone() };
    for (scope, rows) in [(study, INSTANCES), (series, INSTANCES), (instance, 1)] {
        let size = [32, 32];
        thumbnail(&archive, &caller, &scope, None, Format::Png, size).await.unwrap();
        let (most, found, others) = table.take();
        // The row with the version of the scope is read again when the thumbnail is stored.
        let is_instance = scope.instance.is_some();
        assert_eq!((most, found), (1 + usize::from(is_instance), rows), "{scope:?}");
        assert!(others <= 2, "{scope:?}: {others}");
        thumbnail(&archive, &caller, &scope, None, Format::Png, size).await.unwrap();
        let (most, found, others) = table.take();
        assert!(found <= 1 && most + others == 1, "a stored thumbnail reads the version alone: {scope:?}");
    }
}
