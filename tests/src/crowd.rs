//! Very many files by a client without a kernel in between: load for a cluster, and large states. Called by tests of clusters.

use crate::admin;
use futures::StreamExt;
use holdfast::config::MetaConfig;
use holdfast::meta::url::MetaUrl;
use holdfast::meta::{MetaApi, MetaClient};
use holdfast_proto::pb;
use std::ops::Range;
use std::sync::Arc;

/// Requests at once.
const IN_FLIGHT: usize = 128;

/// The name of a file; all are of one length.
pub fn name(number: usize) -> String {
    format!("an-entry-with-a-name-of-a-usual-length-{number:08}")
}

/// Does `work` with a client that has a session of its own.
fn with_client<F: Future<Output = ()>>(meta: &str, work: impl FnOnce(MetaClient) -> F) {
    let url = MetaUrl::from_arg_or_env(Some(meta)).expect("META");
    admin::runtime().block_on(async {
        let client = MetaClient::connect(MetaConfig::new(&url, None)).await.expect("connects");
        client.open_session(url.volume().expect("volume"), "test", "none").await.expect("opens");
        work(client).await;
    });
}

/// Creates the files of these numbers in a directory.
pub fn make(meta: &str, parent: u64, numbers: Range<usize>) {
    with_client(meta, |client| async move {
        let create = |number: usize| {
            let op = pb::CreateOp { parent, name: name(number).into(), mode: 0o644, exclusive: true, umask: 0 };
            let client = &client;
            async move { client.mutate(&pb::Creds::default(), op).await.expect("creates") }
        };
        futures::stream::iter(numbers).map(create).buffer_unordered(IN_FLIGHT).for_each(|_| async {}).await;
        client.close_session().await.expect("closes");
    });
}

/// Removes them.
pub fn remove(meta: &str, parent: u64, numbers: Range<usize>) {
    with_client(meta, |client| async move {
        let unlink = |number: usize| {
            let op = pb::UnlinkOp { parent, name: name(number).into() };
            let client = &client;
            async move { client.mutate(&pb::Creds::default(), op).await.expect("removes") }
        };
        futures::stream::iter(numbers).map(unlink).buffer_unordered(IN_FLIGHT).for_each(|_| async {}).await;
        client.close_session().await.expect("closes");
    });
}

/// How many names a directory has.
pub fn count(meta: &str, parent: u64) -> usize {
    let counted = std::sync::atomic::AtomicUsize::new(0);
    with_client(meta, |client| {
        let counted = &counted;
        async move {
            let mut after = 0;
            loop {
                let ask = pb::ReaddirQuery { ino: parent, after, bytes_max: 1 << 16, with_attrs: false };
                let page = client.query(&pb::Creds::default(), ask).await.expect("lists").reply;
                counted.fetch_add(page.entries.len(), std::sync::atomic::Ordering::Relaxed);
                match page.entries.last() {
                    Some(last) if !page.end => after = last.cookie,
                    _ => break,
                }
            }
            client.close_session().await.expect("closes");
        }
    });
    counted.into_inner()
}

/// Tells the cluster that none of the removed files are open here, for ever: what a mount does.
pub async fn answer(client: Arc<MetaClient>) {
    let Some(mut pushes) = client.take_pushes() else { return };
    while let Some(push) = pushes.recv().await {
        if let Some(pb::push::Event::Orphaned(asked)) = push.event {
            let held = pb::HoldOp { through_index: asked.through_index, inos: Vec::new() };
            // Who is not answered asks again.
            let _ = client.mutate(&pb::Creds::default(), held).await;
        }
    }
}
