//! The findings about real servers.

use layer_store::{Finding, FindingKind, Options, Severity, SharedStore, connect_with};
use lock_layer::{ClientScope, IdempotencyLayer, Idempotent, Locks};
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

/// What an evicting server risks depends on what is kept there.
#[tokio::test]
async fn a_server_that_evicts_is_refused_where_nothing_may_run_twice() {
    let options = ["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"];
    let server = RedisServer::start_with(&options);
    let store = patient_store(&server, Options::new()).await;
    let severity = |findings: Vec<Finding>| {
        let mut found = findings.into_iter();
        let found = found.find(|found| found.kind == FindingKind::Eviction);
        found.expect("it evicts").severity
    };
    let scope = ClientScope::global;
    let [locks, strict, lenient] = [
        Locks::new(store.clone()).doctor(),
        IdempotencyLayer::at_most_once(store.clone(), scope()).doctor(),
        IdempotencyLayer::retry_safe(store.clone(), scope()).doctor(),
    ]
    .map(severity);
    let expected = (Severity::Warning, Severity::Fatal, Severity::Warning);
    assert_eq!((locks, strict, lenient), expected);
    assert!(Locks::new(store.clone()).checked().is_ok());
    let lenient = IdempotencyLayer::retry_safe(store.clone(), scope());
    assert!(lenient.checked().is_ok());
    let error = IdempotencyLayer::at_most_once(store.clone(), scope()).checked();
    let text = error.expect_err("it may run twice").to_string();
    assert!(
        text.contains("a request may run twice: ") && text.contains("Set `noeviction`"),
        "{text}"
    );
    let error = Idempotent::at_most_once(store).checked();
    assert_eq!(error.expect_err("it may run twice").findings().len(), 1);
}

#[tokio::test]
async fn a_server_with_a_replica_or_snapshots_alone_is_told_where_nothing_may_run_twice() {
    let server = RedisServer::start_with(&["--save", "3600 1"]);
    let replica = RedisServer::start_replica_of(&server);
    let store = patient_store(&server, Options::new()).await;
    let layer = IdempotencyLayer::at_most_once(store.clone(), ClientScope::global());
    for kind in [FindingKind::Snapshots, FindingKind::Replicated] {
        let found = layer.doctor().into_iter().find(|found| found.kind == kind);
        let found = found.unwrap_or_else(|| panic!("{kind:?}: {:?}", store.doctor()));
        assert_eq!(found.severity, Severity::Warning, "{kind:?}");
        assert!(found.text.starts_with("a request may run twice"), "{found}");
    }
    assert!(layer.checked().is_ok());
    let store = patient_store(&replica, Options::new()).await;
    assert!(Locks::new(store).checked().is_err());
}

/// What a crash forgets is read from the settings of a real server, and weighed by what is kept there.
#[tokio::test]
async fn an_append_only_file_that_reaches_the_disk_late_is_told_where_nothing_may_run_twice() {
    let scope = ClientScope::global;
    for (fsync, is_late) in [("always", false), ("everysec", true), ("no", true)] {
        let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", fsync]);
        let store = patient_store(&server, Options::new()).await;
        let weighed = [
            store.doctor().to_vec(),
            Locks::new(store.clone()).doctor(),
            IdempotencyLayer::at_most_once(store.clone(), scope()).doctor(),
            IdempotencyLayer::retry_safe(store.clone(), scope()).doctor(),
        ]
        .map(|findings| {
            let mut found = findings.into_iter();
            let found = found.find(|found| found.kind == FindingKind::LateFsync)?;
            assert!(
                found.text.contains(&format!("(appendfsync {fsync})")),
                "{found}"
            );
            Some(found.severity)
        });
        let (notice, warning) = (Some(Severity::Notice), Some(Severity::Warning));
        match is_late {
            false => assert_eq!(weighed, [None; 4]),
            true => assert_eq!(weighed, [notice, notice, warning, notice], "{fsync}"),
        }
        assert!(
            IdempotencyLayer::at_most_once(store, scope())
                .checked()
                .is_ok()
        );
    }
}

/// The kinds of the findings that are at least warnings.
fn warnings(store: &SharedStore) -> Vec<FindingKind> {
    let findings = store.doctor();
    let bad = findings
        .iter()
        .filter(|found| found.severity >= Severity::Warning);
    bad.map(|found| found.kind).collect()
}
