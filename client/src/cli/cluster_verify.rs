//! `holdfast cluster verify`: every node's state checked from scratch, and the states compared. Called by `cluster`.

use super::{ClusterFlags, block_on, print_json, print_line};
use crate::error::ClientError;
use crate::meta::verify::{Agreement, Verified, cluster_verify};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLE: &str = "\
Each node reads its whole state, holds it against the invariants (links, sizes, usage, names, slices, references, locks) and digests
it; nodes at one log index must have one digest. Nobody waits for it, but it reads all metadata and takes memory for all inodes of
a volume (up to 1 KB each), so do it at a quiet hour. Nodes of different versions may differ without harm.

Example:
  $ holdfast cluster verify holdfast://10.0.0.1:9400,10.0.0.2:9400,10.0.0.3:9400
  ID  ADDRESS        APPLIED  KEYS   DIGEST            PROBLEMS
  1   10.0.0.1:9400  48213    91377  5b1e0c6fd2a97714  0
  2   10.0.0.2:9400  48213    91377  5b1e0c6fd2a97714  0
  3   10.0.0.3:9400  48213    91377  5b1e0c6fd2a97714  0
  sound, and equal at log index 48213

Exit codes: 0 no problem, and all nodes that can be reached are equal; 1 otherwise.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// JSON in place of a table
    #[arg(long)]
    pub json: bool,
    /// Seconds for all of it: large states take a second a few 100 000 files
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
}

/// # Errors
/// One line that says what is wrong.
pub fn run(args: &Args) -> Result<ExitCode, ClientError> {
    let (_, config) = args.cluster.load()?;
    let (nodes, agreement) = block_on(cluster_verify(&config, Duration::from_secs(args.timeout)))?;
    let verdict = verdict(&nodes, &agreement);
    if args.json {
        print_json(&as_json(&nodes, &agreement));
    } else {
        print_line(&as_table(&nodes));
        for (id, problem) in problems(&nodes) {
            print_line(&format!("node {id}: {problem}"));
        }
    }
    match verdict {
        Ok(line) if !args.json => print_line(&line),
        Ok(_) => {}
        Err(line) => return Err(ClientError::Failed(line)),
    }
    Ok(ExitCode::SUCCESS)
}

fn problems(nodes: &[Verified]) -> impl Iterator<Item = (u64, &String)> {
    let told = nodes.iter().filter_map(|node| Some((node.id, node.answer.as_ref().ok()?)));
    told.flat_map(|(id, reply)| reply.problems.iter().map(move |problem| (id, problem)))
}

/// The last line; Err where something is wrong.
fn verdict(nodes: &[Verified], agreement: &Agreement) -> Result<String, String> {
    let replies: Vec<_> = nodes.iter().filter_map(|node| node.answer.as_ref().ok()).collect();
    let mut wrong: Vec<String> = replies
        .iter()
        .filter(|r| r.problem_count > 0)
        .map(|r| format!("node {}: {} problems", r.id, r.problem_count))
        .collect();
    let equal = match agreement {
        Agreement::Equal { index } if replies.len() > 1 => format!("equal at log index {index}"),
        Agreement::Equal { index } => format!("alone at log index {index}"),
        Agreement::Differ { index } => {
            let at = replies.iter().filter(|r| r.applied == *index);
            let digests: Vec<_> = at.map(|r| format!("node {} {:016x}", r.id, r.digest)).collect();
            let versions = replies.windows(2).any(|pair| pair[0].version != pair[1].version);
            let hint = if versions { "; they run different versions, which may be why" } else { "" };
            wrong.push(format!("the states differ at log index {index}: {}{hint}", digests.join(", ")));
            String::new()
        }
        Agreement::Unknown => {
            wrong.push("the nodes could not be compared at one log index in time; raise --timeout".to_owned());
            String::new()
        }
    };
    match wrong.is_empty() {
        true => Ok(format!("sound, and {equal}{}", unreachable(nodes))),
        false => Err(format!("{}{}", wrong.join("; "), unreachable(nodes))),
    }
}

fn unreachable(nodes: &[Verified]) -> String {
    let addrs: Vec<_> = nodes.iter().filter(|node| !node.reachable).map(|node| node.addr.as_str()).collect();
    if addrs.is_empty() { String::new() } else { format!("; not asked, as not reachable: {}", addrs.join(", ")) }
}

fn as_json(nodes: &[Verified], agreement: &Agreement) -> Value {
    let node = |node: &Verified| match &node.answer {
        Ok(reply) => json!({
            "id": reply.id,
            "addr": node.addr,
            "reachable": true,
            "version": reply.version,
            "applied": reply.applied,
            "digest": format!("{:016x}", reply.digest),
            "keys": reply.keys,
            "kinds": reply.kinds.iter().map(|k| (kind_name(k), json!(k.keys))).collect::<Map<_, _>>(),
            "problem_count": reply.problem_count,
            "problems": reply.problems,
        }),
        Err(error) => json!({ "addr": node.addr, "reachable": node.reachable, "error": error }),
    };
    let (equal, index) = match agreement {
        Agreement::Equal { index } => (Some(true), Some(index)),
        Agreement::Differ { index } => (Some(false), Some(index)),
        Agreement::Unknown => (None, None),
    };
    json!({
        "equal": equal,
        "index": index,
        "sound": problems(nodes).next().is_none(),
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn kind_name(count: &holdfast_proto::pb::KindCount) -> String {
    if count.name.is_empty() { format!("{:#04x}", count.kind) } else { count.name.clone() }
}

fn as_table(nodes: &[Verified]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["ID", "ADDRESS", "APPLIED", "KEYS", "DIGEST", "PROBLEMS"]);
    for node in nodes {
        let dash = || "-".to_owned();
        let id = if node.id == 0 { dash() } else { node.id.to_string() };
        let row = match &node.answer {
            Ok(reply) => [
                id,
                node.addr.clone(),
                reply.applied.to_string(),
                reply.keys.to_string(),
                format!("{:016x}", reply.digest),
                reply.problem_count.to_string(),
            ],
            Err(error) => [id, node.addr.clone(), dash(), dash(), dash(), error.clone()],
        };
        table.add_row(row);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::pb;

    fn said(id: u64, digest: u64, problems: &[&str]) -> Verified {
        let kinds = vec![
            pb::KindCount { kind: 0x22, name: "INODE".into(), keys: 3 },
            pb::KindCount { kind: 0x7f, name: String::new(), keys: 1 },
        ];
        let problems: Vec<_> = problems.iter().map(|p| (*p).to_owned()).collect();
        let reply = pb::VerifyReply {
            id,
            applied: 7,
            digest,
            keys: 4,
            kinds,
            problem_count: problems.len() as u64,
            problems,
            ..Default::default()
        };
        Verified { addr: format!("n:{id}"), id, reachable: true, answer: Ok(reply) }
    }

    fn down() -> Verified {
        Verified { addr: "n:3".into(), id: 0, reachable: false, answer: Err("not reachable".into()) }
    }

    #[test]
    fn sound_and_equal_nodes_are_well_and_the_unreachable_are_named() {
        let equal = Agreement::Equal { index: 7 };
        assert_eq!(verdict(&[said(1, 5, &[]), said(2, 5, &[])], &equal), Ok("sound, and equal at log index 7".into()));
        let line = verdict(&[said(1, 5, &[]), said(2, 5, &[]), down()], &equal).expect("well");
        assert!(line.ends_with("not reachable: n:3"), "{line}");
        let table = as_table(&[said(1, 5, &[]), down()]);
        assert!(table.contains("0000000000000005") && table.contains("not reachable"), "{table}");
    }

    #[test]
    fn a_problem_or_a_difference_or_no_comparison_is_not_well() {
        let bad = verdict(&[said(1, 5, &["x"]), said(2, 5, &[])], &Agreement::Equal { index: 7 });
        assert_eq!(bad, Err("node 1: 1 problems".into()));
        let nodes = [said(1, 5, &[]), said(2, 6, &[])];
        let bad = verdict(&nodes, &Agreement::Differ { index: 7 }).expect_err("differs");
        assert!(bad.contains("differ at log index 7: node 1 0000000000000005, node 2 0000000000000006"), "{bad}");
        assert!(verdict(&nodes, &Agreement::Unknown).is_err());
    }

    #[test]
    fn json_has_a_count_for_each_kind_of_key() {
        let json = as_json(&[said(1, 5, &["x"]), down()], &Agreement::Equal { index: 7 });
        assert_eq!(json["nodes"][0]["kinds"], json!({ "INODE": 3, "0x7f": 1 }));
        assert_eq!((&json["sound"], &json["equal"], &json["index"]), (&json!(false), &json!(true), &json!(7)));
        assert_eq!(json["nodes"][1]["reachable"], false);
        assert_eq!(as_json(&[], &Agreement::Unknown)["equal"], Value::Null);
    }
}
