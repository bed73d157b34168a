//! metad's configuration file and flags: taken, or refused in one line that names the setting.

use crate::records::number;
use holdfast_tests::fuzz::{Decoder, Law};
use metad::config::{Config, Flags};
use rand::Rng;
use rand::rngs::StdRng;
use std::fs;

#[test]
fn configuration_files() {
    let dir = tempfile::tempdir().expect("a directory of its own");
    let path = dir.path().join("metad.toml");
    let valid = |random: &mut StdRng| {
        let heartbeat = random.random_range(10..100);
        let numbers =
            format!("checkpoint-log-mib = {}\nreserve-mib = {}", random.random_range(1..1000), number(random) >> 1);
        let raft = format!("[raft]\nheartbeat-ms = {heartbeat}\nelection-min-ms = {}\n", heartbeat * 2);
        let peers = "[peers]\n1 = \"127.0.0.1:7001\"\n2 = \"127.0.0.1:7002\"\n";
        format!("id = 1\ndata-dir = \"/x\"\n{numbers}\nadmin-listen = \"off\"\n{peers}{raft}election-max-ms = 900\n")
            .into_bytes()
    };
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("writes");
        match Config::load(Flags { config: Some(path.clone()), ..Flags::default() }) {
            Ok(config) => assert!(config.id > 0 && config.peers.contains_key(&config.id)),
            Err(error) => {
                let line = error.one_line();
                assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
            }
        }
        Ok(bytes.to_vec())
    };
    Decoder { name: "config", law: Law::Normal, cases: 1000, valid: &valid, read: &read }.run();
}

#[test]
fn peers_of_the_command_line() {
    let valid = |random: &mut StdRng| {
        let peer = |id: u64| format!("{id}=127.0.0.1:{}", 7000 + id);
        (1..random.random_range(2..5)).map(peer).collect::<Vec<_>>().join(",").into_bytes()
    };
    let read = |bytes: &[u8]| {
        let peers = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
        let (id, data_dir) = (Some(1), Some("/x".into()));
        let config = Config::load(Flags { id, data_dir, peers: Some(peers), ..Flags::default() });
        let peers = config.map_err(|error| error.one_line())?.peers;
        Ok(peers.iter().map(|(id, addr)| format!("{id}={addr}")).collect::<Vec<_>>().join(",").into_bytes())
    };
    Decoder { name: "peers", law: Law::Normal, cases: 2000, valid: &valid, read: &read }.run();
}
