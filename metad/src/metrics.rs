//! The name of every metric, and how they are exported. Recorded where it happens; rendered by server's admin port.

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

pub const WAL_FLUSH_SECONDS: &str = "holdfast_metad_wal_flush_seconds";
pub const PROPOSALS: &str = "holdfast_metad_proposals_total";
pub const BATCH_MUTATIONS: &str = "holdfast_metad_batch_mutations";
pub const APPLY_SECONDS: &str = "holdfast_metad_apply_seconds";
pub const COMMIT_SECONDS: &str = "holdfast_metad_commit_seconds";
pub const READS: &str = "holdfast_metad_reads_total";
pub const READ_INDEX_ROUNDS: &str = "holdfast_metad_read_index_rounds_total";
pub const STREAMS: &str = "holdfast_metad_streams";
pub const SESSIONS: &str = "holdfast_metad_sessions_attached";
pub const LEADER: &str = "holdfast_metad_is_leader";
pub const TERM: &str = "holdfast_metad_term";
pub const LEADER_CHANGES: &str = "holdfast_metad_leader_changes_total";
pub const APPLIED_INDEX: &str = "holdfast_metad_applied_index";
pub const IMAGE_INDEX: &str = "holdfast_metad_image_index";
pub const FAILURES: &str = "holdfast_metad_failures_total";
pub const SESSIONS_EXPIRED: &str = "holdfast_metad_sessions_expired_total";
pub const ORPHANS_RECLAIMED: &str = "holdfast_metad_orphans_reclaimed_total";

const SECONDS_BUCKETS: [f64; 14] =
    [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 3.0];
const COUNT_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Installs the recorder of this process; once.
///
/// # Errors
/// There is one already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    use metrics_exporter_prometheus::Matcher;
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(BATCH_MUTATIONS.into()), &COUNT_BUCKETS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(WAL_FLUSH_SECONDS, Unit::Seconds, "One flush of the raft log, queueing included");
    describe_counter!(PROPOSALS, "Log entries proposed by this node");
    describe_histogram!(BATCH_MUTATIONS, "Mutations in one proposed log entry");
    describe_histogram!(APPLY_SECONDS, Unit::Seconds, "Applying one log entry to the state machine");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "From proposing an entry to its answers");
    describe_counter!(READS, "Queries answered");
    describe_counter!(READ_INDEX_ROUNDS, "Quorum rounds made for reads because the lease was not sure");
    describe_gauge!(STREAMS, "Client streams open");
    describe_gauge!(SESSIONS, "Sessions attached to this node");
    describe_gauge!(LEADER, "1 while this node leads");
    describe_gauge!(TERM, "Raft term");
    describe_counter!(LEADER_CHANGES, "Changes of leader seen by this node");
    describe_gauge!(APPLIED_INDEX, "Log index applied");
    describe_gauge!(IMAGE_INDEX, "Log index of the durable image");
    describe_counter!(FAILURES, "Requests answered with a failure, by code");
    describe_counter!(SESSIONS_EXPIRED, "Sessions ended because their lease ran out");
    describe_counter!(ORPHANS_RECLAIMED, "Orphans whose reclaim was proposed");
}
