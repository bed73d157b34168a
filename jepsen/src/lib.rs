//! jepsen: fault injection on real processes. This half judges: histories, models, checkers, the report. All of it is pure but
//! `cli`, which reads and writes the files.

pub mod checker;
pub mod cli;
pub mod history;
pub mod model;
pub mod report;
