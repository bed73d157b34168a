//! Tests of config: precedence, defaults, and a clear line for every mistake.

use super::*;
use std::io::Write;

fn flags(args: &[&str]) -> Flags {
    Flags::try_parse_from([&["metad"], args].concat()).expect("flags")
}

fn refused(args: &[&str]) -> String {
    let error = Config::load(flags(args)).expect_err("a mistake");
    assert_eq!(error.exit_code(), 2);
    let line = error.one_line();
    assert!(!line.contains('\n'), "{line}");
    line
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("temp file");
    file.write_all(text.as_bytes()).expect("write");
    file
}

const GOOD: [&str; 6] = ["--id", "1", "--peers", "1=127.0.0.1:7001,2=127.0.0.1:7002", "--data-dir", "/tmp/x"];

#[test]
fn peers_give_listen_and_advertise() {
    let config = Config::load(flags(&GOOD)).expect("good");
    assert_eq!((config.listen.as_str(), config.advertise.as_str()), ("127.0.0.1:7001", "127.0.0.1:7001"));
    assert_eq!(config.peers.len(), 2);
    assert_eq!(config.admin_listen.as_deref(), Some(ADMIN_LISTEN));
    assert!(config.sync && !config.init);
}

#[test]
fn flags_win_over_the_file() {
    let file = file(
        "id = 2\ndata-dir = \"/tmp/file\"\nadmin-listen = \"off\"\n[peers]\n1 = \"127.0.0.1:7001\"\n2 = \"127.0.0.1:7002\"\n",
    );
    let path = file.path().to_str().expect("utf-8");
    let config = Config::load(flags(&["--config", path, "--data-dir", "/tmp/flag"])).expect("good");
    assert_eq!((config.id, config.data_dir), (2, PathBuf::from("/tmp/flag")));
    assert_eq!(config.admin_listen, None);
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() {
    let file = file("id = 1\ndatadir = \"/tmp/x\"\n");
    let path = file.path().to_str().expect("utf-8");
    let line = refused(&["--config", path]);
    assert!(line.contains("datadir") && line.contains(path) && line.contains("line 2"), "{line}");
}

#[test]
fn every_mistake_gets_its_own_line() {
    for (args, word) in [
        (&["--peers", "1=a:1", "--data-dir", "/tmp/x"][..], "--id"),
        (&["--id", "1", "--peers", "1=127.0.0.1:1"], "--data-dir"),
        (&["--id", "1", "--data-dir", "/tmp/x"], "--peers"),
        (&["--id", "3", "--peers", "1=127.0.0.1:1", "--data-dir", "/tmp/x"], "3=HOST:PORT"),
        (&["--id", "1", "--peers", "1:127.0.0.1:1", "--data-dir", "/tmp/x"], "ID=HOST:PORT"),
        (&["--id", "1", "--peers", "1=localhost", "--data-dir", "/tmp/x"], "HOST:PORT"),
        (&["--id", "1", "--peers", "1=127.0.0.1:1,1=127.0.0.1:2", "--data-dir", "/tmp/x"], "twice"),
        (&["--id", "1", "--peers", "0=127.0.0.1:1", "--data-dir", "/tmp/x"], "ids are numbers"),
        (&["--id", "1", "--peers", "1=0.0.0.0:1", "--data-dir", "/tmp/x"], "--insecure"),
        (&["--id", "1", "--peers", "1=127.0.0.1:1", "--data-dir", "/tmp/x", "--tls-ca", "c"], "ca, cert and key"),
        (&["--id", "1", "--peers", "1=127.0.0.1:1", "--data-dir", "/tmp/x", "--advertise", "h:1"], "--advertise"),
        (&["--id", "1", "--peers", "1=127.0.0.1:1", "--data-dir", "/tmp/x", "--rpc-threads", "0"], "rpc-threads"),
        (&["--id", "1", "--peers", "1=127.0.0.1:1", "--data-dir", "/tmp/x", "--session-lease-s", "1"], "2 to 3600"),
    ] {
        let line = refused(args);
        assert!(line.contains(word), "{args:?}: {line}");
    }
}

#[test]
fn raft_timing_must_leave_room_for_heartbeats() {
    let file = file("[raft]\nheartbeat-ms = 100\n");
    let path = file.path().to_str().expect("utf-8");
    let line = refused(&[&GOOD[..], &["--config", path]].concat());
    assert!(line.contains("election-min-ms"), "{line}");
}

#[test]
fn a_public_address_is_accepted_with_tls() {
    let args = ["--id", "1", "--peers", "1=0.0.0.0:1", "--data-dir", "/tmp/x"];
    let tls = ["--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key"];
    assert!(Config::load(flags(&[&args[..], &tls[..]].concat())).expect("good").tls.is_some());
}
