//! The harness: clusters of real processes, real mounts, a reference model, and a local filesystem over metad's own state machine.

pub mod s3;
