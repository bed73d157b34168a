//! The harness: clusters of real processes, real mounts, a reference model, and a local filesystem over metad's own state machine.
//! Used by every test binary of this crate; nothing here asserts a rule of POSIX.

pub mod admin;
pub mod cluster;
pub mod crowd;
pub mod damage;
pub mod disk;
pub mod faulty_http;
pub mod files;
pub mod fs;
pub mod fuzz;
pub mod gen_ops;
pub mod grpc_raw;
pub mod locker;
pub mod mapping;
pub mod model;
pub mod mount;
pub mod net;
pub mod oracle;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod s3;
pub mod shared;
pub mod stores;
pub mod torn_disk;
pub mod tracer;
pub mod trap;
pub mod verify;
