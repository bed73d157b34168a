//! openraft's own storage suite, on the log store and state machine of this crate.

use metad::error::Fatal;
use metad::raft::log_store::{LogStore, LogStoreOptions};
use metad::raft::state_machine::{FreshCheckpoint, NodeStore, StateMachine};
use metad::raft::types::TypeConfig;
use metad::store::durable::DurableOptions;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("temp dir");
        let options = LogStoreOptions::default();
        let log = LogStore::open(&dir.path().join("wal"), options, Fatal::default()).expect("open log");
        let store =
            Arc::new(NodeStore::open(&dir.path().join("image"), DurableOptions::default()).expect("open store"));
        let machine = StateMachine::new(store, FreshCheckpoint::default(), Fatal::default());
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn the_stores_pass_openrafts_suite() {
    Suite::test_all(Builder).await.expect("suite");
}
