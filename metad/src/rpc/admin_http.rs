//! The admin port: /metrics for Prometheus, /ready (this node leads a quorum, or follows a leader) and /health (its Raft core answers). Started by
//! server.

use crate::raft::node::RaftNode;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const CORE_DEADLINE: Duration = Duration::from_secs(1);

fn answer(good: bool, what: &str) -> (StatusCode, String) {
    match good {
        true => (StatusCode::OK, format!("{what}\n")),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("not {what}\n")),
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, node: Arc<RaftNode>, prometheus: PrometheusHandle) {
    let ready = node.clone();
    let routes = Router::new()
        .route("/metrics", get(move || async move { prometheus.render() }))
        .route("/ready", get(move || async move { answer(ready.is_ready(), "ready") }))
        .route("/health", get(move || async move { answer(node.core_answers(CORE_DEADLINE).await, "healthy") }));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::warn!(%error, "admin port ended");
    }
}
