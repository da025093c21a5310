//! Shares and signatures on several servers over one index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep;

use crate::archive::Archive;
use crate::archive::access::{Caller, Right, Rights, Tenant};
use crate::archive::share_links::OpenedLink;
use crate::archive::shares::NewShare;
use crate::archive::signing::Signature;
use crate::blobs::memory::MemoryBlobs;
use crate::config::Config;
use crate::dicom::build::DataSet;
use crate::dicom::transfer_syntax;
use crate::index::Index;
use crate::table::Table;
use crate::table::redb::Redb;

/// The longest time until every server follows.
const WITHIN: Duration = Duration::from_secs(5);

/// Two servers over one table in memory.
fn servers() -> [Arc<Archive>; 2] {
    let table: Arc<dyn Table> = Arc::new(Redb::in_memory().unwrap());
    let blobs = Arc::new(MemoryBlobs::new());
    [(), ()].map(|()| Archive::new(blobs.clone(), Arc::new(Index::new(table.clone())), &Config::defaults()))
}

fn caller() -> Caller {
    Caller { tenant: "a".parse().unwrap(), ..Caller::anonymous() }
}

async fn stored(archive: &Arc<Archive>) -> NewShare {
    let data_set = DataSet::explicit()
        .text(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.2")
        .text(0x0008_0018, "UI", "1.4")
        .text(0x0020_000D, "UI", "1.2")
        .text(0x0020_000E, "UI", "1.3");
    let mut upload = archive.receive(&caller(), None).await;
    upload.write(Bytes::from(data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN))).await;
    upload.finish().await.await.result.unwrap();
    NewShare {
        study: "1.2".parse().unwrap(),
        series: None,
        instances: Vec::new(),
        may_download: false,
        note: String::new(),
        seconds: None,
        max_uses: Some(5),
        code: None,
    }
}

#[tokio::test]
async fn a_share_that_one_server_revokes_ends_on_the_other() {
    let [one, other] = servers();
    let new = stored(&one).await;
    let (record, secret) = one.make_share(&caller(), new).await.unwrap();
    let opened = other.open_link(&secret, None, "").await.unwrap();
    assert!(matches!(opened, OpenedLink::Opened(_)), "{opened:?}");
    let tenant: Tenant = "a".parse().unwrap();
    let found = other.caller_of_share(tenant.clone(), &record.id, i64::MAX).await.unwrap().unwrap();
    assert_eq!(found.rights, Rights::of(&[Right::Read]));
    assert_eq!(found.expires_at, Some(record.expires_at.div_euclid(1000)));
    // Another tenant has no such share, and cannot revoke it.
    let stranger: Tenant = "b".parse().unwrap();
    assert!(other.caller_of_share(stranger.clone(), &record.id, i64::MAX).await.unwrap().is_none());
    assert!(one.revoke_share(&Caller { tenant: stranger, ..caller() }, &record.id).await.is_err());
    one.revoke_share(&caller(), &record.id).await.unwrap();
    let began = Instant::now();
    while other.caller_of_share(tenant.clone(), &record.id, i64::MAX).await.unwrap().is_some() {
        assert!(began.elapsed() < WITHIN);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn all_servers_have_one_key_and_lose_it_together() {
    let [one, other] = servers();
    let (tenant, stranger): (Tenant, Tenant) = ("a".parse().unwrap(), "b".parse().unwrap());
    // Before there is a key, the other server finds none.
    let present = one.signing_period();
    let guess = Signature { period: present, code: vec![0; 32] };
    assert!(!other.verify_signature(&tenant, b"text", &guess).await.unwrap());
    let (first, second) = tokio::join!(one.sign(&tenant, b"text"), other.sign(&tenant, b"text"));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first, second);
    let verified = async |tenant, text: &[u8], signature: &Signature| {
        other.verify_signature(tenant, text, signature).await.unwrap()
    };
    assert!(verified(&tenant, b"text", &first).await);
    assert!(!verified(&tenant, b"texs", &first).await);
    assert!(!verified(&stranger, b"text", &first).await);
    for period in [present - 2, present - 1, present + 1, present + 2, i64::MIN, i64::MAX] {
        assert!(!verified(&tenant, b"text", &Signature { period, ..first.clone() }).await, "{period}");
    }
    for length in [0, 16, 31] {
        let code = first.code[..length].to_vec();
        assert!(!verified(&tenant, b"text", &Signature { code, ..first.clone() }).await);
    }
    one.delete_signing_keys(&tenant).await.unwrap();
    let began = Instant::now();
    while verified(&tenant, b"text", &first).await {
        assert!(began.elapsed() < WITHIN);
        sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(one.sign(&tenant, b"text").await.unwrap(), first);
}
