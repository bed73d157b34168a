//! jepsen: fault injection on real processes. One half judges: histories, models, checkers, the report; all of it is pure. The other
//! half brings histories about: `run`, `workload`, `nemesis`. `cli` reads and writes the files.

pub mod checker;
pub mod cli;
pub mod history;
pub mod model;
pub mod nemesis;
pub mod report;
pub mod run;
pub mod workload;
