//! Shape: whether a request from a client may go on to the log or a query at all. Bounds and presence only; what an operation
//! means is apply's business. Pure. Called by rpc/meta_service.

use holdfast_proto::limits::{
    BACKGROUND_BATCH_MAX, COMMIT_SLICES_MAX, LOCK_OWNERS_MAX, NAME_BYTES_MAX, READ_CHUNKS_MAX, READDIR_BYTES_MAX,
    REQUEST_BYTES_MAX, SESSION_SLOTS_MAX,
};
use holdfast_proto::pb::{FailureCode, Mutation, Query, mutation, query};
use prost::Message;

/// Why a request goes no further.
pub type Misshapen = (FailureCode, &'static str);

const GROUPS_MAX: usize = 65_536;

fn malformed(why: &'static str) -> Result<(), Misshapen> {
    Err((FailureCode::Malformed, why))
}

fn too_large(why: &'static str) -> Result<(), Misshapen> {
    Err((FailureCode::TooLarge, why))
}

/// # Errors
/// What is wrong with it.
pub fn check_mutation(mutation: &Mutation) -> Result<(), Misshapen> {
    let Some(op) = &mutation.op else { return malformed("mutation without an operation") };
    if mutation.encoded_len() > REQUEST_BYTES_MAX {
        return too_large("request over 1 MiB");
    }
    if mutation.creds.as_ref().is_some_and(|creds| creds.groups.len() > GROUPS_MAX) {
        return too_large("too many groups");
    }
    check_op(op)?;
    if idempotent_by_itself(op) {
        return Ok(());
    }
    if mutation.session == 0 || mutation.session > u64::from(u32::MAX) {
        return malformed("operation needs a session");
    }
    if mutation.slot >= SESSION_SLOTS_MAX {
        return malformed("slot out of range");
    }
    if mutation.seq == 0 { malformed("seq starts at 1") } else { Ok(()) }
}

/// These are accepted without a session.
fn idempotent_by_itself(op: &mutation::Op) -> bool {
    matches!(op, mutation::Op::OpenSession(_) | mutation::Op::FormatVolume(_) | mutation::Op::ConfigVolume(_))
}

fn check_op(op: &mutation::Op) -> Result<(), Misshapen> {
    match op {
        mutation::Op::ExpireSessions(_) | mutation::Op::Reclaim(_) | mutation::Op::Repair(_) => {
            malformed("only the leader proposes this")
        }
        mutation::Op::EmptyTrash(_) => malformed("only the leader proposes this"),
        mutation::Op::AddNode(_) | mutation::Op::RemoveNode(_) => malformed("members are changed by the admin service"),
        mutation::Op::Found(_) | mutation::Op::JoinNode(_) | mutation::Op::AdmitNode(_) => {
            malformed("only the leader proposes this")
        }
        mutation::Op::OpenSession(op) if op.uuid.len() != 16 => malformed("session uuid is not 16 bytes"),
        mutation::Op::CommitWrite(op) if op.slices.len() > COMMIT_SLICES_MAX => too_large("too many slices"),
        mutation::Op::DropLocks(op) if op.owners.len() > LOCK_OWNERS_MAX => too_large("too many owners"),
        mutation::Op::Hold(op) if op.inos.len() > BACKGROUND_BATCH_MAX => too_large("too many inodes"),
        mutation::Op::Release(op) if op.inos.len() > BACKGROUND_BATCH_MAX => too_large("too many inodes"),
        mutation::Op::PurgeSlices(op) if op.slice_ids.len() > BACKGROUND_BATCH_MAX => too_large("too many slices"),
        _ => Ok(()),
    }
}

/// # Errors
/// What is wrong with it.
pub fn check_query(query: &Query) -> Result<(), Misshapen> {
    let Some(ask) = &query.ask else { return malformed("query without a question") };
    match ask {
        query::Ask::Volume(_) | query::Ask::ListVolumes(_) => Ok(()),
        _ if query.session == 0 || query.session > u64::from(u32::MAX) => malformed("query needs a session"),
        query::Ask::Lookup(ask) if ask.name.len() > 16 * NAME_BYTES_MAX => too_large("name"),
        query::Ask::Readdir(ask) if ask.bytes_max > READDIR_BYTES_MAX => too_large("readdir bytes_max"),
        query::Ask::ReadSlices(ask) if ask.chunk_count > READ_CHUNKS_MAX => too_large("read_slices chunk_count"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::pb;

    fn mutation(op: mutation::Op) -> Mutation {
        Mutation { session: 1, slot: 0, seq: 1, creds: None, op: Some(op) }
    }

    fn code(result: Result<(), Misshapen>) -> Option<FailureCode> {
        result.err().map(|(code, _)| code)
    }

    #[test]
    fn a_plain_mutation_passes() {
        assert_eq!(check_mutation(&mutation(mutation::Op::Mkdir(pb::MkdirOp::default()))), Ok(()));
    }

    #[test]
    fn leader_only_operations_are_refused_from_clients() {
        let expire = mutation::Op::ExpireSessions(pb::ExpireSessionsOp { sessions: vec![1] });
        let reclaim = mutation::Op::Reclaim(pb::ReclaimOp::default());
        assert_eq!(code(check_mutation(&mutation(expire))), Some(FailureCode::Malformed));
        let empty_trash = mutation::Op::EmptyTrash(pb::EmptyTrashOp::default());
        assert_eq!(code(check_mutation(&mutation(reclaim))), Some(FailureCode::Malformed));
        assert_eq!(code(check_mutation(&mutation(empty_trash))), Some(FailureCode::Malformed));
    }

    #[test]
    fn session_slot_and_seq_must_be_in_range() {
        let good = || mutation(mutation::Op::Mkdir(pb::MkdirOp::default()));
        for bad in [
            Mutation { session: 0, ..good() },
            Mutation { session: 1 << 32, ..good() },
            Mutation { slot: SESSION_SLOTS_MAX, ..good() },
            Mutation { seq: 0, ..good() },
            Mutation { op: None, ..good() },
        ] {
            assert_eq!(code(check_mutation(&bad)), Some(FailureCode::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn what_is_over_a_bound_is_too_large() {
        let target = vec![b'a'; REQUEST_BYTES_MAX + 1].into();
        let symlink = mutation::Op::Symlink(pb::SymlinkOp { target, ..Default::default() });
        assert_eq!(code(check_mutation(&mutation(symlink))), Some(FailureCode::TooLarge));
        let release = mutation::Op::Release(pb::ReleaseOp { inos: vec![1; BACKGROUND_BATCH_MAX + 1] });
        assert_eq!(code(check_mutation(&mutation(release))), Some(FailureCode::TooLarge));
        let ask = query::Ask::Readdir(pb::ReaddirQuery { bytes_max: READDIR_BYTES_MAX + 1, ..Default::default() });
        assert_eq!(code(check_query(&Query { session: 1, creds: None, ask: Some(ask) })), Some(FailureCode::TooLarge));
    }

    #[test]
    fn queries_name_a_session_unless_they_are_about_volumes() {
        let getattr = Query { ask: Some(query::Ask::Getattr(pb::GetattrQuery { ino: 1 })), ..Default::default() };
        assert_eq!(code(check_query(&getattr)), Some(FailureCode::Malformed));
        let list = Query { ask: Some(query::Ask::ListVolumes(pb::ListVolumesQuery {})), ..Default::default() };
        assert_eq!(check_query(&list), Ok(()));
        assert_eq!(code(check_query(&Query::default())), Some(FailureCode::Malformed));
    }
}
