//! Op and Ask: what ties an operation's message to its reply, one table line each. The generic calls `mutate::<O>` and
//! `query::<Q>` know nothing else of an operation.

use crate::pb::{self, mutation, query};

/// A mutation. Its reply is stored for its (session, slot, seq), so that a repetition gets the same one.
pub trait Op: Send + 'static {
    type Reply: prost::Message + Default + Send + 'static;
    const NAME: &'static str;
    fn into_wire(self) -> mutation::Op;
}

/// A question, answered linearizably, that changes nothing.
pub trait Ask: Send + 'static {
    type Reply: prost::Message + Default + Send + 'static;
    const NAME: &'static str;
    fn into_wire(self) -> query::Ask;
}

macro_rules! table {
    ($trait:ident, $module:ident, $wire:ident, $enum_name:ident:
     $($message:ident => $variant:ident, $name:literal, $reply:ident;)*) => {
        $(impl $trait for pb::$message {
            type Reply = pb::$reply;
            const NAME: &'static str = $name;
            fn into_wire(self) -> $module::$wire { $module::$wire::$variant(self) }
        })*

        /// The operation's name, for traces and metrics.
        pub fn $enum_name(wire: &$module::$wire) -> &'static str {
            match wire { $($module::$wire::$variant(_) => $name,)* }
        }
    };
}

table! { Op, mutation, Op, op_name:
    CreateOp => Create, "create", EntryReply;
    MkdirOp => Mkdir, "mkdir", EntryReply;
    MknodOp => Mknod, "mknod", EntryReply;
    SymlinkOp => Symlink, "symlink", EntryReply;
    LinkOp => Link, "link", EntryReply;
    UnlinkOp => Unlink, "unlink", RemovedReply;
    RmdirOp => Rmdir, "rmdir", RemovedReply;
    RenameOp => Rename, "rename", RemovedReply;
    SetattrOp => Setattr, "setattr", EntryReply;
    CommitWriteOp => CommitWrite, "commit_write", EntryReply;
    FallocateOp => Fallocate, "fallocate", RangeReply;
    CopyFileRangeOp => CopyFileRange, "copy_file_range", RangeReply;
    SetXattrOp => SetXattr, "set_xattr", EntryReply;
    RemoveXattrOp => RemoveXattr, "remove_xattr", EntryReply;
    TouchAtimesOp => TouchAtimes, "touch_atimes", Empty;
    SetLockOp => SetLock, "set_lock", SetLockReply;
    CancelLockOp => CancelLock, "cancel_lock", CancelLockReply;
    DropLocksOp => DropLocks, "drop_locks", Empty;
    HoldOp => Hold, "hold", Empty;
    ReleaseOp => Release, "release", Empty;
    ReclaimOp => Reclaim, "reclaim", Empty;
    PurgeSlicesOp => PurgeSlices, "purge_slices", Empty;
    OpenSessionOp => OpenSession, "open_session", OpenSessionReply;
    CloseSessionOp => CloseSession, "close_session", Empty;
    ExpireSessionsOp => ExpireSessions, "expire_sessions", Empty;
    FormatVolumeOp => FormatVolume, "format_volume", VolumeReply;
    ConfigVolumeOp => ConfigVolume, "config_volume", VolumeReply;
    RepairOp => Repair, "repair", RepairOpReply;
    EmptyTrashOp => EmptyTrash, "empty_trash", Empty;
    FoundOp => Found, "found", Empty;
    AddNodeOp => AddNode, "add_node", Empty;
    RemoveNodeOp => RemoveNode, "remove_node", Empty;
    JoinNodeOp => JoinNode, "join_node", Empty;
    AdmitNodeOp => AdmitNode, "admit_node", Empty;
}

table! { Ask, query, Ask, ask_name:
    LookupQuery => Lookup, "lookup", EntryReply;
    GetattrQuery => Getattr, "getattr", EntryReply;
    OpenQuery => Open, "open", EntryReply;
    ReadlinkQuery => Readlink, "readlink", ReadlinkReply;
    ReaddirQuery => Readdir, "readdir", ReaddirReply;
    GetXattrQuery => GetXattr, "get_xattr", XattrReply;
    ListXattrQuery => ListXattr, "list_xattr", ListXattrReply;
    GetLockQuery => GetLock, "get_lock", GetLockReply;
    LockWaitQuery => LockWait, "lock_wait", LockWaitReply;
    StatfsQuery => Statfs, "statfs", StatfsReply;
    ReadSlicesQuery => ReadSlices, "read_slices", ReadSlicesReply;
    LseekQuery => Lseek, "lseek", LseekReply;
    DeletedSlicesQuery => DeletedSlices, "deleted_slices", DeletedSlicesReply;
    ScanSlicesQuery => ScanSlices, "scan_slices", ScanSlicesReply;
    VolumeQuery => Volume, "volume", VolumeStatusReply;
    ListVolumesQuery => ListVolumes, "list_volumes", ListVolumesReply;
}
