//! Files of a node's data directory that a start or a transfer reads: journal, checkpoint, identity.

use crate::records::some_bytes;
use bytes::Bytes;
use holdfast_tests::fuzz::{Decoder, Law};
use metad::identity::{ClusterId, Identity};
use metad::store::blocks::{BlockReader, BlockWriter};
use metad::store::checkpoint::{self, Head, Reader};
use metad::store::journal::{self, Journal, Span};
use metad::store::memtable::Changes;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::fs::{self, File};
use tempfile::TempDir;

/// In memory, where there is such a place: what is synced a thousand times need not wait for a disk.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory of its own")
}

fn changes(random: &mut StdRng) -> Changes {
    let change = |random: &mut StdRng| (some_bytes(random), random.random::<bool>().then(|| some_bytes(random)));
    (0..random.random_range(0..6)).map(|_| change(random)).collect()
}

#[test]
fn the_journal_of_a_drain() {
    let dir = scratch();
    let write = |span, changes: &Changes| {
        journal::write(dir.path(), span, changes).expect("writes");
        fs::read(dir.path().join("journal")).expect("reads")
    };
    let valid =
        |random: &mut StdRng| write(Span { from_index: random.random(), to_index: random.random() }, &changes(random));
    let read = |bytes: &[u8]| {
        fs::write(dir.path().join("journal"), bytes).expect("writes");
        let found = Journal::find(dir.path()).map_err(|error| error.to_string())?.expect("it is there");
        let mut changes = Changes::new();
        let all = found.each(|(key, value)| {
            changes.insert(key, value);
            Ok(())
        });
        all.map_err(|error| error.to_string())?;
        Ok(write(found.span, &changes))
    };
    Decoder { name: "journal", law: Law::Guarded, cases: 250, valid: &valid, read: &read }.run();
}

#[test]
fn a_checkpoint() {
    let dir = scratch();
    let path = dir.path().join("c");
    let write = |head: &Head, pairs: BTreeMap<Bytes, Bytes>| {
        checkpoint::write(&path, head, pairs.into_iter().map(Ok), |_| {}).expect("writes");
        fs::read(&path).expect("reads")
    };
    let valid = |random: &mut StdRng| {
        let head = Head { index: random.random(), meta: some_bytes(random) };
        let pairs = (0..random.random_range(0..6)).map(|_| (some_bytes(random), some_bytes(random)));
        write(&head, pairs.collect())
    };
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("writes");
        let file = File::open(&path).expect("opens");
        let good = checkpoint::good_bytes(&file).expect("reads");
        assert!(good <= bytes.len() as u64);
        let verified = checkpoint::verify(&file).map_err(|error| error.to_string())?;
        let mut reader = Reader::open(&file).expect("it was verified");
        let mut pairs = BTreeMap::new();
        while let Some((key, value)) = reader.next_pair().expect("it was verified") {
            pairs.insert(key, value);
        }
        assert_eq!((good, &reader.head), (bytes.len() as u64, &verified));
        Ok(write(&verified, pairs))
    };
    Decoder { name: "checkpoint", law: Law::Guarded, cases: 250, valid: &valid, read: &read }.run();
}

#[test]
fn blocks_of_a_checkpoint() {
    let write = |blocks: &[Bytes]| {
        let mut file = Vec::new();
        let mut writer = BlockWriter::new(&mut file);
        blocks.iter().for_each(|block| writer.put(block).expect("writes"));
        file
    };
    let valid =
        |random: &mut StdRng| write(&(0..random.random_range(1..5)).map(|_| some_bytes(random)).collect::<Vec<_>>());
    let read = |bytes: &[u8]| {
        let mut reader = BlockReader::new(bytes);
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block().map_err(|error| error.to_string())? {
            blocks.push(block);
        }
        Ok(write(&blocks))
    };
    Decoder { name: "blocks", law: Law::Canonical, cases: 2000, valid: &valid, read: &read }.run();
}

#[test]
fn the_identity_of_a_node() {
    const NODE: u64 = 3;
    let write = |identity: &mut Identity, cluster, learns| {
        identity.set_cluster(cluster, learns).expect("writes");
    };
    let valid = |random: &mut StdRng| {
        let dir = scratch();
        let mut identity = Identity::open(dir.path(), NODE).expect("a new one");
        write(&mut identity, ClusterId(random.random()), random.random());
        fs::read(dir.path().join("IDENTITY")).expect("reads")
    };
    let read = |bytes: &[u8]| {
        let dir = scratch();
        fs::write(dir.path().join("IDENTITY"), bytes).expect("writes");
        let mut identity = Identity::open(dir.path(), NODE).map_err(|error| error.to_string())?;
        let (cluster, learns) = (identity.cluster().ok_or("it is of no cluster")?, identity.learns());
        write(&mut identity, cluster, learns);
        Ok(fs::read(dir.path().join("IDENTITY")).expect("reads"))
    };
    Decoder { name: "identity", law: Law::Normal, cases: 150, valid: &valid, read: &read }.run();
}
