//! What clients are told when a request was not answered with a reply: one table. Called by all of rpc.

use crate::apply::Verdict;
use crate::raft::node::{RaftNode, ReadError};
use holdfast_proto::pb::{self, FailureCode, response};

/// A failure, counted.
pub fn failure(code: FailureCode, leader: String, message: impl Into<String>) -> pb::Failure {
    metrics::counter!(crate::metrics::FAILURES, "code" => code.as_str_name()).increment(1);
    pb::Failure { code: code as i32, leader, message: message.into() }
}

/// Not done: another node leads, or none does now.
pub fn not_leader(node: &RaftNode) -> pb::Failure {
    // This node's own address would send the client in a circle.
    let leadership = node.leadership();
    match leadership.leader.is_some() && !leadership.is_self {
        true => failure(FailureCode::NotLeader, node.leader_addr(), "another node leads"),
        false => failure(FailureCode::Unavailable, String::new(), "no leader now"),
    }
}

/// Not done: this node leads a cluster that does not have as many members yet as it was to be founded with.
pub fn founding(node: &RaftNode) -> pb::Failure {
    let missing = node.awaited().iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    failure(FailureCode::Unavailable, String::new(), format!("the cluster is being founded, waits for nodes {missing}"))
}

pub fn of_read_error(node: &RaftNode, error: &ReadError) -> pb::Failure {
    match error {
        ReadError::NotLeader => not_leader(node),
        ReadError::NoQuorum => failure(FailureCode::Unavailable, String::new(), error.to_string()),
    }
}

pub fn of_verdict(verdict: Verdict) -> response::Result {
    match verdict {
        Verdict::Reply(reply) => response::Result::Reply(reply),
        Verdict::Refused(errno) => response::Result::Errno(errno.number()),
        Verdict::Failed(code) => response::Result::Failure(failure(code, String::new(), failed_text(code))),
    }
}

fn failed_text(code: FailureCode) -> &'static str {
    match code {
        FailureCode::SessionLost => "the session has ended, or never was",
        FailureCode::Sequence => "seq is neither the slot's last nor the next one",
        FailureCode::Malformed => "the request breaks the protocol",
        FailureCode::TooLarge => "the request is over a bound",
        FailureCode::Unavailable => "the log entry took no more slices",
        FailureCode::NotLeader | FailureCode::Unknown | FailureCode::Unspecified => "",
    }
}

pub fn response(id: u64, log_index: u64, result: response::Result) -> pb::Response {
    pb::Response { id, log_index, result: Some(result) }
}

pub fn failed(id: u64, failure: pb::Failure) -> pb::Response {
    response(id, 0, response::Result::Failure(failure))
}
