//! Mutual TLS from end to end, with certificates made by the very commands of deploy/INSTALL.md: nodes, command line and mount talk by it,
//! through the death of a leader; without a certificate of the CA nothing is told.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::is_mounted;
use holdfast_tests::process::{self, Ended, Leftover};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The commands of "2. Certificates, once", for nodes that are reached by address.
fn make_certificates(dir: &Path) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy/INSTALL.md");
    let page = std::fs::read_to_string(page).expect("INSTALL.md");
    let section = page.split("\n## ").find(|section| section.starts_with("2. Certificates")).expect("the section");
    let script: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let mut script = script.join("\n");
    for node in 1..=3 {
        script = script.replace(&format!("DNS:meta{node}.example.net"), "IP:127.0.0.1");
    }
    let mut bash = Command::new("bash");
    bash.args(["-euc", &script]).current_dir(dir);
    process::run(bash).ok("the commands of INSTALL.md");
}

fn holdfast(dir: &Path, certificate: Option<&str>, args: &[&str]) -> Ended {
    let mut command = process::command("holdfast");
    command.env("HOLDFAST_TLS_CA", dir.join("ca.pem")).args(args);
    if let Some(name) = certificate {
        command.env("HOLDFAST_TLS_CERT", dir.join(format!("{name}.pem")));
        command.env("HOLDFAST_TLS_KEY", dir.join(format!("{name}.key")));
    }
    process::run(command)
}

fn leader(dir: &Path, meta: &str) -> u64 {
    process::wait_for("a leader", || {
        let said = holdfast(dir, Some("client"), &["cluster", "status", meta, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&said.stdout).ok()?;
        json["leader"].as_u64().filter(|&leader| leader != 0)
    })
}

fn start(dir: &Path) -> Cluster {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let tls = [("CA", path("ca.pem")), ("CERT", path("meta1.pem")), ("KEY", path("meta1.key"))];
    let env = tls.map(|(what, file)| (format!("HOLDFAST_METAD_TLS_{what}"), file)).to_vec();
    let cluster = Cluster::prepare(Shape { env, unverified: true, ..Shape::default() });
    cluster.ids().into_iter().for_each(|id| cluster.start_node(id));
    cluster
}

#[test]
fn with_certificates_everything_works_and_without_one_nothing() {
    let _turn = one_at_a_time();
    let dir = process::scratch_dir("tls");
    make_certificates(&dir);
    let strangers = process::scratch_dir("strangers");
    make_certificates(&strangers);
    let cluster = start(&dir);
    let meta = cluster.meta("secret");
    leader(&dir, &meta);

    let bucket = cluster.bucket("secret");
    std::fs::create_dir_all(&bucket).expect("bucket");
    let bucket = bucket.to_string_lossy().into_owned();
    let format = ["format", &meta, "--storage", "file", "--bucket", &bucket, "--no-sync"];
    // No TLS at all; a CA but no certificate; a certificate of another CA.
    cluster.holdfast(&format).refused(1, "does it want tls");
    holdfast(&dir, None, &format).refused(2, "tls-cert");
    let client = |kind: &str| strangers.join(format!("client.{kind}")).to_string_lossy().into_owned();
    let (cert, key) = (client("pem"), client("key"));
    let foreign = [&format[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    holdfast(&dir, None, &foreign).refused(1, "certificate|tls");
    holdfast(&dir, Some("client"), &format).ok("format with a certificate");

    let point = process::scratch_dir("mnt");
    process::register(Leftover::Mount(point.clone()));
    let at = |name: &str| -> PathBuf { point.join(name) };
    let mount_point = point.to_string_lossy().into_owned();
    holdfast(&dir, Some("client"), &["mount", &meta, &mount_point, "-d"]).ok("mount with a certificate");
    assert!(is_mounted(&point));
    std::fs::write(at("before"), b"one").expect("write");
    cluster.kill(leader(&dir, &meta));
    std::fs::write(at("after"), b"two").expect("write after the leader's death");
    assert_eq!(
        (std::fs::read(at("before")).unwrap(), std::fs::read(at("after")).unwrap()),
        (b"one".into(), b"two".into())
    );
    holdfast(&dir, Some("client"), &["umount", &mount_point]).ok("umount");
    // The harness has no certificate: what it does at the end of other tests is done here.
    cluster.holdfast(&["cluster", "verify", &meta]).refused(1, "no metadata node");
    let verified = holdfast(&dir, Some("client"), &["cluster", "verify", &meta]).ok("verify with a certificate");
    assert!(verified.stdout.contains("sound, and equal at log index"), "{}", verified.stdout);
}
