//! Every kind of object store that a volume may be on, by real servers, and what they may do wrong. tests/stores/install.sh brings the
//! servers.

mod contract;
mod faults;
mod google;
mod mounts;
