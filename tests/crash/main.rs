//! Crashes at every durable step: each point of `holdfast_proto::crash_points` kills a real process there, which must come back with all
//! that was acknowledged. A point that nobody comes to fails. Needs the binaries with faults on purpose, and root.

mod load;
mod mounts;
mod nodes;
mod ways;
