//! Real metad processes on loopback: founding, serving, restarts after kill -9, and everything a node must refuse.

#[path = "node_harness/mod.rs"]
mod harness;

use harness::{Client, Cluster, format, free_ports, metad, metad_output, mkdir, open_session};
use holdfast_proto::pb::{self, FailureCode, mutation, query, request, response};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn acknowledged_operations_survive_kill_9_of_all_nodes() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let session = client.open_session("vol").await;
    for seq in 1..=20 {
        client.expect_reply(mkdir(session, 0, seq, &format!("d{seq}"))).await;
    }
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.restart(id);
    }
    let mut client = cluster.client_of_leader().await;
    for name in (1..=20).map(|seq| format!("d{seq}")) {
        let ask = query::Ask::Lookup(pb::LookupQuery { parent: 1, name: name.into_bytes().into() });
        client.expect_found(pb::Query { session, ask: Some(ask), creds: None }).await;
    }
    // The last mutation again: its stored reply, not EEXIST.
    client.expect_reply(mkdir(session, 0, 20, "d20")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_leader_is_replaced_and_retries_get_their_first_answer() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let session = client.open_session("vol").await;
    let first = client.expect_reply(mkdir(session, 3, 1, "a")).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let mut client = cluster.client_of_leader().await;
    assert_ne!(cluster.leader().await, leader);
    assert_eq!(client.expect_reply(mkdir(session, 3, 1, "a")).await, first);
    client.expect_reply(mkdir(session, 3, 2, "b")).await;
    cluster.restart(leader);
    cluster.wait_until_applied(leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigterm_hands_over_leadership_and_exits_0() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let status = cluster.terminate(leader);
    assert_eq!(status.code(), Some(0), "{}", cluster.log(leader));
    assert!(cluster.log(leader).contains("handed over leadership"), "{}", cluster.log(leader));
    assert_ne!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn leadership_moves_on_request() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let to = leader % 3 + 1;
    assert_eq!(cluster.admin(leader).await.transfer(to).await, to);
    assert_eq!(cluster.leader().await, to);
    let status = cluster.admin(to).await.status().await;
    assert_eq!((status.role.as_str(), status.members.len(), status.ready), ("leader", 3, true));
    assert_eq!(status.cluster.len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let mut client = Client::connect(cluster.addr(leader % 3 + 1), 0).await;
    assert!(!client.welcome.is_leader);
    assert_eq!(client.welcome.leader, cluster.addr(leader));
    let failure = client.expect_failure(format("vol")).await;
    assert_eq!((failure.code(), failure.leader.as_str()), (FailureCode::NotLeader, cluster.addr(leader)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_breaks_the_protocol_is_answered_and_harms_nobody() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let session = client.open_session("vol").await;
    let cases = [
        (pb::Mutation { session, slot: 0, seq: 1, ..Default::default() }, FailureCode::Malformed),
        (mkdir(session + 9, 0, 1, "x"), FailureCode::SessionLost),
        (mkdir(session, 0, 5, "x"), FailureCode::Sequence),
        (mkdir(session, 1 << 20, 1, "x"), FailureCode::Malformed),
        (
            pb::Mutation {
                op: Some(mutation::Op::ExpireSessions(pb::ExpireSessionsOp { sessions: vec![session] })),
                ..Default::default()
            },
            FailureCode::Malformed,
        ),
        (
            pb::Mutation {
                op: Some(mutation::Op::Symlink(pb::SymlinkOp {
                    target: vec![b'a'; 2 << 20].into(),
                    ..Default::default()
                })),
                ..mkdir(session, 0, 1, "x")
            },
            FailureCode::TooLarge,
        ),
    ];
    for (mutation, code) in cases {
        assert_eq!(client.expect_failure(mutation).await.code(), code);
    }
    let nothing = client.ask_all(vec![None]).await.remove(0);
    assert!(matches!(nothing.result, Some(response::Result::Failure(f)) if f.code() == FailureCode::Malformed));
    client.expect_reply(mkdir(session, 0, 1, "fine")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hostile_streams_end_and_others_go_on() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let session = client.open_session("vol").await;
    let end = Client::raw_stream(cluster.addr(1), vec![pb::ClientFrame { keep_alive: 7, ..Default::default() }]).await;
    assert_eq!(end.code(), tonic::Code::InvalidArgument);
    let hello = pb::Hello { protocol: 999, ..Default::default() };
    let end =
        Client::raw_stream(cluster.addr(1), vec![pb::ClientFrame { hello: Some(hello), ..Default::default() }]).await;
    assert_eq!(end.code(), tonic::Code::FailedPrecondition);
    let flood = vec![pb::Request::default(); holdfast_proto::limits::FRAME_REQUESTS_MAX + 1];
    let hello = pb::Hello { protocol: 1, ..Default::default() };
    let flood = pb::ClientFrame { hello: Some(hello), requests: flood, ..Default::default() };
    assert_eq!(Client::raw_stream(cluster.addr(1), vec![flood]).await.code(), tonic::Code::ResourceExhausted);
    let huge = mutation::Op::Symlink(pb::SymlinkOp { target: vec![0; 9 << 20].into(), ..Default::default() });
    let huge = request::Body::Mutation(pb::Mutation { op: Some(huge), ..Default::default() });
    let huge = pb::Request { id: 1, body: Some(huge) };
    let huge = pb::ClientFrame { hello: Some(hello), requests: vec![huge], ..Default::default() };
    assert_ne!(Client::raw_stream(cluster.addr(1), vec![huge]).await.code(), tonic::Code::Ok);
    harness::send_garbage(cluster.addr(1)).await;
    client.expect_reply(mkdir(session, 0, 1, "fine")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_requests_in_one_frame_are_all_answered() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let session = client.open_session("vol").await;
    let bodies = (0..500).map(|slot| Some(request::Body::Mutation(mkdir(session, slot, 1, &format!("d{slot}")))));
    for response in client.ask_all(bodies.collect()).await {
        assert!(matches!(response.result, Some(response::Result::Reply(_))), "{response:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_reopens_its_session_by_uuid_gets_the_same_one() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let first = client.expect_reply(open_session("vol", 5)).await;
    assert_eq!(client.expect_reply(open_session("vol", 5)).await, first);
}

#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let cluster = Cluster::start(1);
    let port = free_ports(1)[0];
    let peers = format!("1=127.0.0.1:{port}");
    let dir = cluster.dir(1);
    let output = metad_output(&["--id", "1", "--peers", &peers, "--data-dir", &dir, "--admin-listen", "off"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("in use by another metad process"), "{}", output.stderr);
}

#[test]
fn a_data_directory_of_another_node_is_refused() {
    let mut cluster = Cluster::start(1);
    cluster.kill(1);
    let peers = format!("2={}", cluster.addr(1));
    let dir = cluster.dir(1);
    let output = metad_output(&["--id", "2", "--peers", &peers, "--data-dir", &dir, "--admin-listen", "off"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("belongs to node 1, but this is node 2"), "{}", output.stderr);
    assert_eq!(output.stderr.trim().lines().count(), 1);
}

#[test]
fn mistakes_in_the_settings_exit_2_with_one_line() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("metad.toml");
    std::fs::write(&file, "id = 1\nlissten = \"127.0.0.1:1\"\n").expect("write");
    let output = metad_output(&["--config", &file.display().to_string()]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("lissten") && output.stderr.contains("line 2"), "{}", output.stderr);
    let data = dir.path().display().to_string();
    let output = metad_output(&["--id", "1", "--peers", "1=0.0.0.0:1", "--data-dir", &data]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("--insecure"), "{}", output.stderr);
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peer_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let stranger = leader % 3 + 1;
    cluster.kill(stranger);
    // The same id and address, but a cluster founded by itself.
    let dir = tempfile::tempdir().expect("temp dir");
    let id = stranger.to_string();
    let alone = format!("{stranger}={}", cluster.addr(stranger));
    let path = dir.path().display().to_string();
    let args = |peers| ["--id", &id, "--peers", peers, "--data-dir", &path, "--admin-listen", "off", "--init"];
    let process = metad(&args(&alone), &dir.path().join("log"));
    process.wait_for("this node leads", 1);
    drop(process);
    let process = metad(&args(&cluster.peers()), &dir.path().join("log"));
    process.wait_for("refused a peer of another cluster", 1);
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_empty_node_heals_from_its_peers() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client_of_leader().await;
    client.expect_reply(format("vol")).await;
    let leader = cluster.leader().await;
    let emptied = leader % 3 + 1;
    cluster.kill(emptied);
    cluster.wipe(emptied);
    cluster.restart_without_init(emptied);
    cluster.wait_until_applied(emptied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_tls_only_those_with_a_certificate_of_the_ca_get_in() {
    let cluster = Cluster::start_tls(3);
    let start = std::time::Instant::now();
    // Three nodes that agree on a leader have let each other in.
    while !(1..=3)
        .all(|id| cluster.log(id).contains("follows the leader") || cluster.log(id).contains("this node leads"))
    {
        assert!(start.elapsed() < harness::PATIENCE, "{}", cluster.log(1));
        tokio::time::sleep(harness::PAUSE).await;
    }
    let addr = cluster.addr(1);
    assert_eq!(harness::tls_status(addr, Some("node")).await.map(|status| status.id), Ok(1));
    assert!(harness::tls_status(addr, Some("stranger")).await.is_err());
    assert!(harness::tls_status(addr, None).await.is_err());
}
