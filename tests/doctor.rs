//! The findings about real servers.

use layer_store::{FindingKind, Options, Severity, SharedStore, connect_with};
use tests::{RedisServer, patient_store};

#[tokio::test]
async fn a_sound_server_has_no_warnings() {
    let server = RedisServer::start_with(&["--appendonly", "yes"]);
    assert_eq!(warnings(&patient_store(&server, Options::new()).await), []);
}

#[tokio::test]
async fn eviction_is_a_warning_unless_it_is_refused() {
    let evicts = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let server = RedisServer::start_with(&evicts);
    let store = patient_store(&server, Options::new()).await;
    assert_eq!(warnings(&store), [FindingKind::Eviction]);
    let options = Options::new()
        .refuse(FindingKind::Replica)
        .refuse(FindingKind::Eviction);
    let error = connect_with(&server.url(), options).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot use redis://127.0.0.1:") && text.contains("noeviction"),
        "{text}"
    );
}

#[tokio::test]
async fn a_replica_is_found() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica_of(&primary);
    let store = patient_store(&replica, Options::new()).await;
    assert!(warnings(&store).contains(&FindingKind::Replica));
}

#[tokio::test]
async fn a_node_of_a_cluster_is_found() {
    let node = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let store = patient_store(&node, Options::new()).await;
    assert_eq!(warnings(&store), [FindingKind::ClusterNode]);
}

#[tokio::test]
async fn renamed_commands_are_found() {
    let options = [
        "--rename-command",
        "MGET",
        "",
        "--rename-command",
        "EVAL",
        "x",
    ];
    let server = RedisServer::start_with(&options);
    let store = patient_store(&server, Options::new()).await;
    let mut found = warnings(&store);
    // Of an older server: that scripts cannot stand in for what it lacks.
    found.retain(|kind| *kind != FindingKind::OldVersion);
    let expected = [FindingKind::NoScripts, FindingKind::MissingCommands];
    assert_eq!(found, expected);
    let findings = store.doctor();
    let text = &findings
        .iter()
        .find(|found| found.kind == FindingKind::MissingCommands)
        .unwrap()
        .text;
    assert!(text.contains("MGET") && text.contains("EVAL ("), "{text}");
}

/// The kinds of the findings that are at least warnings.
fn warnings(store: &SharedStore) -> Vec<FindingKind> {
    let findings = store.doctor();
    let bad = findings
        .iter()
        .filter(|found| found.severity >= Severity::Warning);
    bad.map(|found| found.kind).collect()
}
