//! Versions of the wire. A message or field is changed by adding; a retired number is reserved for ever.

/// What `Hello` and `Welcome` carry. A server refuses a client whose protocol it does not know.
pub const PROTOCOL: u32 = 1;
/// Version of this build.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
