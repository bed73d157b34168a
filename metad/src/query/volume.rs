//! Volume: settings, usage and sessions of one volume, by name. With the store's credentials: a client that mounts needs them.
//! Called by query::answer.

use super::{View, background};
use crate::apply::context::Ruling;
use crate::store::read;
use holdfast_proto::{FsErrno, pb};

pub fn answer(view: &View<'_>, query: &pb::VolumeQuery) -> Ruling<pb::VolumeStatusReply> {
    let volume = read::volume_named(view.kv, &query.name)?.ok_or(FsErrno::NoEnt)?;
    let usage = read::usage(view.kv, volume)?;
    let sessions = background::sessions_of(view.kv, volume)?;
    Ok(pb::VolumeStatusReply {
        settings: Some(read::settings(view.kv, volume)?),
        used_bytes: usage.used_bytes,
        used_inodes: usage.used_inodes,
        orphans: usage.orphans,
        deleted_slices: usage.deleted_slices,
        sessions: sessions.into_iter().map(|session| session.info).collect(),
    })
}
