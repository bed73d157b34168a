//! vfs: the filesystem without a mount. One operation, one file under ops/. Called by fuse/adapter and by tests.
