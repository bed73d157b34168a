//! What deploy/ hands to operators is true: the example configurations are accepted, and systemd finds nothing wrong in the units.

use holdfast_tests::process;
use metad::config::{Config, Flags};
use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy")
}

fn load(path: &Path) -> Config {
    let flags = Flags { config: Some(path.to_path_buf()), ..Flags::default() };
    Config::load(flags).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_example_configurations_are_accepted_and_describe_one_cluster() {
    let configs: Vec<_> = (1..=3).map(|id| load(&deploy().join(format!("config/metad-{id}.example.toml")))).collect();
    for (config, id) in configs.iter().zip(1_u64..) {
        assert_eq!((config.id, config.peers.len(), config.sync), (id, 3, true));
        assert_eq!(config.peers, configs[0].peers);
        assert_eq!(config.advertise, config.peers[&id]);
        assert!(config.tls.is_some(), "the examples are for machines on a network");
        assert_eq!(config.init, id == 1, "one node founds the cluster");
    }
}

#[test]
fn systemd_finds_nothing_wrong_in_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        process::report("systemd-analyze is not here: the units were not verified");
        return;
    };
    assert!(version.status.success());
    let dir = process::scratch_dir("units");
    let bin = process::bin_dir().to_string_lossy().into_owned();
    for name in ["metad.service", "holdfast@.service"] {
        let unit = std::fs::read_to_string(deploy().join("systemd").join(name)).expect("unit");
        // systemd-analyze wants the programs to be there; the installation page puts them into /usr/local/bin.
        std::fs::write(dir.join(name), unit.replace("/usr/local/bin", &bin)).expect("copy of a unit");
        let said = Command::new("systemd-analyze").arg("verify").arg(dir.join(name)).output().expect("systemd-analyze");
        let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
        // It knows this machine's other units too, and speaks of them; ours are what counts.
        let ours: Vec<_> =
            complaints.lines().filter(|line| line.contains("metad") || line.contains("holdfast")).collect();
        assert!(ours.is_empty(), "{name}: {ours:?}");
    }
}

#[test]
fn the_metad_unit_is_hardened() {
    let Ok(unit) = std::fs::read_to_string(deploy().join("systemd/metad.service")) else { panic!("no unit") };
    for line in
        ["Type=notify", "WatchdogSec=", "Restart=", "User=holdfast", "StateDirectory=holdfast", "NoNewPrivileges=yes"]
    {
        assert!(unit.contains(line), "metad.service lacks {line}");
    }
    let checked = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=30"])
        .arg(deploy().join("systemd/metad.service"))
        .output();
    if let Ok(checked) = checked {
        let verdict = String::from_utf8_lossy(&checked.stdout).lines().last().unwrap_or_default().to_string();
        assert!(checked.status.success(), "{verdict}");
    }
}
