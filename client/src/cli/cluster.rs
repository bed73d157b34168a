//! `holdfast cluster`: the metadata nodes as they see themselves, whether their states are sound, adding and removing them, and moving
//! their leadership. Needs no volume.

use super::{
    ClusterFlags, block_on, cluster_checkpoint, cluster_members, cluster_verify, print_json, print_line, size,
};
use crate::error::ClientError;
use crate::meta::admin::{NodeView, cluster_status, leader_of, no_leader, transfer_leader};
use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets};
use holdfast_proto::pb;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Look at the metadata nodes, check their states, add or remove some, or move their leadership.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// One row a node; exits with 1 where no node leads
    Status(StatusArgs),
    /// Check every node's whole state, and that all are equal; exits with 1 where one is not
    Verify(cluster_verify::Args),
    /// Have every node write its state to a checkpoint now, and let go of the log before
    Checkpoint(cluster_checkpoint::Args),
    /// Make a node a member: it learns, then votes
    Add(cluster_members::AddArgs),
    /// Remove a member; refused where the others would be no quorum
    Remove(cluster_members::RemoveArgs),
    /// Hand leadership to another node
    TransferLeader(TransferArgs),
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// JSON in place of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct TransferArgs {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Id of the node that is to lead [default: the one with the longest log]
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    pub to: u64,
}

/// # Errors
/// One line that names what to do.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    match args.command {
        Command::Status(args) => status(&args),
        Command::Verify(args) => cluster_verify::run(&args),
        Command::Checkpoint(args) => cluster_checkpoint::run(&args),
        Command::Add(args) => cluster_members::add(&args),
        Command::Remove(args) => cluster_members::remove(&args),
        Command::TransferLeader(args) => transfer(&args),
    }
}

fn status(args: &StatusArgs) -> Result<ExitCode, ClientError> {
    let (_, config) = args.cluster.load()?;
    let views = block_on(async { Ok(cluster_status(&config).await) })?;
    if args.json {
        print_json(&as_json(&views));
    } else {
        print_line(&as_table(&views));
    }
    if leader_of(&views).is_none() {
        return Err(ClientError::Failed(no_leader(&views)));
    }
    Ok(ExitCode::SUCCESS)
}

fn transfer(args: &TransferArgs) -> Result<ExitCode, ClientError> {
    let (_, config) = args.cluster.load()?;
    let leader = block_on(transfer_leader(&config, args.to))?;
    print_line(&format!("node {leader} leads"));
    Ok(ExitCode::SUCCESS)
}

/// How many entries the node has yet to apply, by what the leader has.
fn lag(node: &pb::NodeStatus, leader: Option<&pb::NodeStatus>) -> Option<u64> {
    leader.map(|leader| leader.last_log.saturating_sub(node.applied))
}

/// What the leader says of a node: voter, learner, joining, returning, leaving. None where no leader knows it.
fn membership(id: Option<u64>, leader: Option<&pb::NodeStatus>) -> Option<&str> {
    let member = leader?.members.iter().find(|member| Some(member.id) == id)?;
    Some(member.state.as_str())
}

/// The id under which the members know an address.
fn id_of(addr: &str, views: &[NodeView]) -> Option<u64> {
    let statuses = views.iter().filter_map(|view| view.status.as_ref().ok());
    statuses.flat_map(|status| &status.members).find(|member| member.addr == addr).map(|member| member.id)
}

fn as_json(views: &[NodeView]) -> Value {
    let leader = leader_of(views);
    let node = |view: &NodeView| match &view.status {
        Ok(node) => json!({
            "id": node.id,
            "addr": node.addr,
            "role": node.role,
            "member": membership(Some(node.id), leader),
            "term": node.term,
            "last_log": node.last_log,
            "committed": node.committed,
            "applied": node.applied,
            "image": node.image,
            "checkpoint": node.checkpoint,
            "checkpoint_bytes": node.checkpoint_bytes,
            "log_bytes": node.log_bytes,
            "free_bytes": node.free_bytes,
            "tight": node.tight,
            "lag": lag(node, leader),
            "sessions": node.sessions,
            "ready": node.ready,
            "reachable": true,
            "version": node.version,
        }),
        Err(error) => json!({
            "id": id_of(&view.addr, views),
            "addr": view.addr,
            "role": "unreachable",
            "member": membership(id_of(&view.addr, views), leader),
            "ready": false,
            "reachable": false,
            "error": error,
        }),
    };
    json!({
        "cluster": leader.map(|leader| leader.cluster.clone()),
        "leader": leader.map(|leader| leader.id),
        "term": leader.map(|leader| leader.term),
        "nodes": views.iter().map(node).collect::<Vec<_>>(),
    })
}

fn as_table(views: &[NodeView]) -> String {
    let leader = leader_of(views);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "ID",
        "ADDRESS",
        "MEMBER",
        "ROLE",
        "TERM",
        "LAST LOG",
        "APPLIED",
        "CHECKPOINT",
        "LOG",
        "LAG",
        "READY",
    ]);
    for view in views {
        let dash = || "-".to_owned();
        let row = match &view.status {
            Ok(node) => [
                node.id.to_string(),
                node.addr.clone(),
                membership(Some(node.id), leader).unwrap_or("-").to_owned(),
                node.role.clone(),
                node.term.to_string(),
                node.last_log.to_string(),
                node.applied.to_string(),
                node.checkpoint.to_string(),
                size::show(node.log_bytes),
                lag(node, leader).map_or_else(dash, |lag| lag.to_string()),
                if node.ready { "yes" } else { "no" }.to_owned(),
            ],
            Err(error) => {
                let id = id_of(&view.addr, views);
                let member = membership(id, leader).unwrap_or("-").to_owned();
                let id = id.map_or_else(dash, |id| id.to_string());
                [
                    id,
                    view.addr.clone(),
                    member,
                    error.clone(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    "no".to_owned(),
                ]
            }
        };
        table.add_row(row);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views() -> Vec<NodeView> {
        let members =
            vec![pb::Member { id: 3, addr: "c:3".into(), voter: true, state: "voter".into(), ..Default::default() }];
        let status = |id, role: &str, applied| pb::NodeStatus {
            id,
            addr: format!("n:{id}"),
            role: role.into(),
            last_log: 50,
            applied,
            ready: true,
            members: members.clone(),
            ..Default::default()
        };
        vec![
            NodeView { addr: "n:1".into(), status: Ok(status(1, "leader", 50)) },
            NodeView { addr: "n:2".into(), status: Ok(status(2, "follower", 42)) },
            NodeView { addr: "c:3".into(), status: Err("not reachable".into()) },
        ]
    }

    #[test]
    fn a_node_that_does_not_answer_is_shown_with_the_id_its_peers_know() {
        let json = as_json(&views());
        assert_eq!(json["leader"], 1);
        assert_eq!(json["nodes"][2]["id"], 3);
        assert_eq!(json["nodes"][2]["reachable"], false);
        assert_eq!(json["nodes"][2]["member"], "voter");
        let table = as_table(&views());
        assert!(table.lines().any(|line| line.contains("c:3") && line.contains("not reachable")), "{table}");
    }

    #[test]
    fn lag_is_what_the_leader_has_and_the_node_has_not_applied() {
        assert_eq!(as_json(&views())["nodes"][1]["lag"], 8);
        let alone = &views()[1..];
        assert_eq!(as_json(alone)["nodes"][0]["lag"], Value::Null);
        assert_eq!(as_json(alone)["leader"], Value::Null);
    }
}
