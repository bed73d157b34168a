//! Verification of a cluster: what `holdfast cluster verify` says of sound nodes, at rest and at work, of one whose state has lost a key, and
//! of one that is down. That the harness does the same at the end of every test is tested here too.

use crate::one_at_a_time;
use holdfast_tests::admin;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, apart};
use metad::store::image_dir::ImageDir;
use metad::store::keys;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn quick() -> Shape {
    Shape { no_sync: true, ..Shape::default() }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_cluster_is_found_sound_and_equal_also_with_a_node_down() {
    let cluster = Cluster::start_as(quick());
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    std::fs::write(mount.path("f"), b"x").unwrap();
    let said = cluster.holdfast(&["cluster", "verify", &meta]).ok("verify").stdout;
    assert!(said.lines().last().unwrap().starts_with("sound, and equal at log index "), "{said}");
    let all = json(&cluster.holdfast(&["cluster", "verify", &meta, "--json"]).ok("verify --json").stdout);
    assert_eq!((&all["equal"], &all["sound"]), (&Value::Bool(true), &Value::Bool(true)));
    let nodes = all["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|node| node["digest"] == nodes[0]["digest"] && node["kinds"]["INODE"] == 2), "{all}");

    let away = cluster.leader() % 3 + 1;
    cluster.kill(away);
    let said = cluster.holdfast(&["cluster", "verify", &meta]).ok("verify with a node down").stdout;
    assert!(said.contains(&format!("not reachable: {}", cluster.node(away).addr())), "{said}");
    assert_eq!(cluster.verify().len(), 2);
}

#[test]
fn a_node_does_one_verification_at_a_time_and_says_so() {
    let cluster = Cluster::start_as(Shape { node_count: 1, ..quick() });
    let addr = cluster.node(1).addr();
    // An index that does not come is waited for, which keeps the first one busy; then the state is shown as it is.
    let never = 1 << 40;
    let both = futures::future::join(admin::verify(&addr, never), admin::verify(&addr, never));
    let (one, two) = admin::runtime().block_on(both);
    let (done, refused) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(done.expect("the first one ends").applied < never);
    let refused = refused.expect_err("the other one is refused");
    assert!(refused.contains("a verification is under way on this node"), "{refused}");
    cluster.verify();
}

#[test]
fn nodes_at_work_are_compared_at_one_log_index() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(quick());
    let meta = cluster.format("busy");
    let mount = Mount::start(&meta);
    let done = Arc::new(AtomicBool::new(false));
    let (dir, end) = (mount.dir.clone(), done.clone());
    let worker = apart(move || {
        let mut count = 0_u64;
        while !end.load(Ordering::Relaxed) {
            std::fs::write(dir.join(format!("f{}", count % 100)), count.to_string()).unwrap();
            count += 1;
        }
        count
    });
    let mut indexes = Vec::new();
    for _ in 0..3 {
        let said = cluster.holdfast(&["cluster", "verify", &meta, "--json"]).ok("verify under load").stdout;
        indexes.push(json(&said)["index"].as_u64().expect("one index"));
    }
    done.store(true, Ordering::Relaxed);
    assert!(worker.join().unwrap() > 0);
    assert!(indexes[0] < indexes[1] && indexes[1] < indexes[2], "they worked meanwhile: {indexes:?}");
}

#[test]
fn a_node_that_lost_a_key_is_named_by_the_command_and_by_the_harness() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(Shape { unverified: true, ..quick() });
    let meta = cluster.format("lost");
    let mount = Mount::start(&meta);
    std::fs::write(mount.path("victim"), b"x").unwrap();
    let ino = std::fs::metadata(mount.path("victim")).unwrap().ino();
    // The verification leaves all of the state in the image: nothing of it comes back from the log.
    cluster.verify();
    let bad = cluster.leader() % 3 + 1;
    cluster.terminate(bad);
    let image = ImageDir::open(&cluster.node(bad).data_dir().join("image"), 1 << 20).expect("the image opens");
    image.image.write_slice([(&*keys::inode(1, ino), None)].into_iter()).expect("loses a key");
    image.image.flush().expect("stays lost");
    drop(image);
    cluster.start_node(bad);
    cluster.wait_ready();

    let said = cluster.holdfast(&["cluster", "verify", &meta]).refused(1, "the states differ at log index");
    assert!(said.stderr.contains(&format!("node {bad}: ")), "{}", said.stderr);
    let problem = format!("volume 1: an entry in 1 names {ino}, not such a thing");
    assert!(said.stdout.contains(&format!("node {bad}: {problem}")), "{}", said.stdout);
    let wrong = cluster.try_verify().expect_err("the harness sees it too");
    assert!(wrong.contains(&format!("metad {bad}: {problem}")) && wrong.contains("differ at log index"), "{wrong}");
    // It is the state that is wrong, not the log: a node without an image builds it anew.
    cluster.terminate(bad);
    std::fs::remove_dir_all(cluster.node(bad).data_dir().join("image")).expect("remove the image");
    cluster.start_node(bad);
    process::wait_for("the node to be sound again", || cluster.try_verify().ok());
}
