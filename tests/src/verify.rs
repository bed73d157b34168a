//! What must hold of every cluster at every time: each node's state is sound, and the states of one log index are equal. Called by
//! cluster.rs when a cluster goes, by shared.rs, and by tests.

use crate::admin::{self, runtime};
use futures::future::join_all;
use holdfast_proto::pb;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How far before the nodes the log index is at which they are compared: they may be at work.
const LEADS: [u64; 4] = [0, 16, 128, 1024];
/// Nodes that have just been started may still be applying their log; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The verified states of the nodes at `addrs`, which stand at one log index if `together`.
///
/// # Errors
/// The problems of each, or which differ, or that they do not answer or meet.
pub fn verify(addrs: &[String], together: bool) -> Result<Vec<pb::VerifyReply>, String> {
    let start = Instant::now();
    for lead in LEADS.iter().cycle() {
        let at = addrs.iter().filter_map(|addr| admin::status(addr).ok()).map(|s| s.applied.max(s.committed)).max();
        let at = at.unwrap_or(0) + lead;
        let answers = runtime().block_on(join_all(addrs.iter().map(|addr| admin::verify(addr, at))));
        let wrong = match judge(&answers, together) {
            Verdict::Sound => return Ok(answers.into_iter().flatten().collect()),
            Verdict::Wrong(wrong) => return Err(wrong),
            Verdict::NotYet(why) => why,
        };
        if start.elapsed() > PATIENCE {
            return Err(wrong);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    unreachable!("a cycle has no end")
}

enum Verdict {
    Sound,
    Wrong(String),
    NotYet(String),
}

fn judge(answers: &[Result<pb::VerifyReply, String>], together: bool) -> Verdict {
    let mut problems = Vec::new();
    let mut digests: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for reply in answers.iter().flatten() {
        problems.extend(reply.problems.iter().map(|problem| format!("metad {}: {problem}", reply.id)));
        let (id, digest) = *digests.entry(reply.applied).or_insert((reply.id, reply.digest));
        if digest != reply.digest {
            let (other, index) = (reply.id, reply.applied);
            problems.push(format!("the states of metad {id} and metad {other} differ at log index {index}"));
        }
    }
    if !problems.is_empty() {
        return Verdict::Wrong(problems.join("\n"));
    }
    if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
        return Verdict::NotYet(format!("a running node does not verify its state: {error}"));
    }
    if together && digests.len() > 1 {
        return Verdict::NotYet(format!("the nodes do not come to one log index: {:?}", digests.keys()));
    }
    Verdict::Sound
}

/// How many keys of each kind there are, in all volumes.
pub fn kinds(reply: &pb::VerifyReply) -> BTreeMap<String, u64> {
    reply.kinds.iter().map(|count| (count.name.clone(), count.keys)).collect()
}
