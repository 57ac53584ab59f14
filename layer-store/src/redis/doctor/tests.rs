use tracing::Level;

use super::*;
use crate::{conformance::Logs, redis::resp::Parser};

const INFO_7: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abcd\r\n# Memory\r\nmaxmemory:0\r\n\
    maxmemory_policy:allkeys-lru\r\n# Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n";
const NOPERM_INFO: &str = "-NOPERM this user has no permissions to run the 'info' command";
const ALWAYS: &str = "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n";
const SAVES: &str = "*2\r\n$4\r\nsave\r\n$7\r\n3600 1 \r\n";

fn value(text: &str) -> RespValue {
    let mut buffer = bytes::BytesMut::from(text.as_bytes());
    Parser::default().next(&mut buffer).unwrap().unwrap()
}

fn bulk(text: &str) -> RespValue {
    RespValue::Bulk(text.into())
}

fn error(line: &str) -> RespValue {
    RespValue::Error(ServerError::new(line.as_bytes()))
}

/// The answers of a sound Redis 7, of which a test changes some.
fn sound() -> Vec<RespValue> {
    let infos = vec![RespValue::Array(Vec::new()); COMMANDS.len()];
    vec![
        bulk(INFO_7),
        value(SAVES),
        RespValue::Array(infos),
        RespValue::Int(1),
        RespValue::Int(1),
        value(ALWAYS),
        RespValue::Status("OK".into()),
    ]
}

/// Holds an inspection whose first answers are these. Returns the number of round trips, too.
fn inspect(resp3: bool, mut answers: Vec<RespValue>, probes: &[&str]) -> (Facts, usize) {
    let mut inspection = Inspection::new(resp3);
    // In RESP2 it does not ask if keys are tracked.
    answers.truncate(6 + usize::from(resp3));
    let mut answers = vec![probes.iter().map(|probe| value(probe)).collect(), answers];
    let mut trips = 0;
    loop {
        let commands = inspection.ask(&mut Vec::new());
        if commands == 0 {
            return (inspection.into_facts(), trips);
        }
        trips += 1;
        let replies = answers.pop().unwrap();
        assert_eq!(replies.len(), commands);
        inspection.take(replies).unwrap();
    }
}

fn kinds(facts: &Facts) -> Vec<(FindingKind, Severity)> {
    let findings = facts.findings.iter();
    findings.map(|found| (found.kind, found.severity)).collect()
}

fn with(at: usize, answer: RespValue) -> Facts {
    let mut answers = sound();
    answers[at] = answer;
    inspect(true, answers, &[]).0
}

fn with_info(line: &str, instead: &str) -> Facts {
    assert!(INFO_7.contains(line));
    with(0, bulk(&INFO_7.replace(line, instead)))
}

#[test]
fn nothing_is_found_on_a_sound_server_in_one_round_trip() {
    let (facts, trips) = inspect(true, sound(), &[]);
    assert_eq!((kinds(&facts), trips), (vec![], 1));
    assert_eq!(facts.features, Features::ALL);
}

#[test]
fn all_questions_are_commands() {
    let mut out = Vec::new();
    let mut inspection = Inspection::new(true);
    let commands = inspection.ask(&mut out);
    inspection.step = Step::Probes;
    let commands = commands + inspection.ask(&mut out);
    let mut buffer = bytes::BytesMut::from(out.as_slice());
    let mut parser = Parser::default();
    let mut read = 0;
    while let Some(command) = parser.next(&mut buffer).unwrap() {
        assert!(matches!(command, RespValue::Array(words) if !words.is_empty()));
        read += 1;
    }
    assert_eq!((read, buffer.len()), (commands, 0));
}

#[test]
fn a_restart_is_another_incarnation() {
    let incarnation = |id: &str| with_info("run_id:abcd", id).incarnation;
    assert_eq!(incarnation("run_id:abcd"), incarnation("run_id:abcd"));
    assert_ne!(incarnation("run_id:abcd"), incarnation("run_id:abce"));
    assert_eq!(incarnation("x:y"), None);
}

#[test]
fn an_old_version_has_scripts_and_one_that_is_too_old_is_refused() {
    for (version, severity, features) in [
        ("6.2.14", Severity::Notice, Features::of_version((6, 2))),
        ("6.0.9", Severity::Notice, Features::of_version((6, 0))),
        ("5.0.6", Severity::Notice, Features::of_version((5, 0))),
        ("4.0.14", Severity::Fatal, Features::of_version((4, 0))),
    ] {
        let facts = with_info("redis_version:7.0.15", &format!("redis_version:{version}"));
        assert_eq!(kinds(&facts), [(FindingKind::OldVersion, severity)]);
        assert_eq!(facts.features, features, "{version}");
    }
    // Valkey and others say with which version they are compatible.
    for version in ["7.2.4", "8.0.0", "10.1"] {
        let facts = with_info("redis_version:7.0.15", &format!("redis_version:{version}"));
        assert_eq!(kinds(&facts), []);
    }
    let upstash = "redis_version:6.2.6\r\nupstash_version:1.10";
    let facts = with_info("redis_version:7.0.15", upstash);
    assert_eq!((kinds(&facts), facts.features), (vec![], Features::ALL));
}

#[test]
fn an_old_version_without_scripts_is_worse() {
    let mut answers = sound();
    answers[0] = bulk(&INFO_7.replace("7.0.15", "6.2.14"));
    answers[3] = error("ERR unknown command 'EVAL', with args beginning with: 'return 1' ");
    let (facts, _) = inspect(true, answers, &[]);
    let expected = [
        (FindingKind::OldVersion, Severity::Warning),
        (FindingKind::NoScripts, Severity::Warning),
    ];
    assert_eq!(kinds(&facts), expected);
}

#[test]
fn a_server_that_tells_no_version_is_asked_for_its_features() {
    for (probes, missing) in [
        (
            [
                "-ERR invalid expire time in 'set' command\r\n",
                ":0\r\n",
                "_\r\n",
            ],
            vec![],
        ),
        (
            [
                "-ERR syntax error\r\n",
                "-ERR wrong number of arguments for 'pexpire' command\r\n",
                "_\r\n",
            ],
            vec![Feature::SetNxGet, Feature::PexpireGt],
        ),
        (
            [
                "-ERR syntax error\r\n",
                "-ERR Unsupported option GT\r\n",
                "-ERR syntax error\r\n",
            ],
            vec![Feature::SetNxGet, Feature::PexpireGt, Feature::KeepTtl],
        ),
        // Keys of which the user has none: a reply to a later call will tell.
        (["-NOPERM No permissions to access a key\r\n"; 3], vec![]),
    ] {
        for info in [error(NOPERM_INFO), bulk(""), bulk("# Server\r\nproxy:1")] {
            let mut answers = sound();
            answers[0] = info;
            let (facts, trips) = inspect(true, answers, &probes);
            let expected = [(FindingKind::UnknownVersion, Severity::Notice)];
            assert_eq!((kinds(&facts), trips), (expected.to_vec(), 2));
            let features = missing
                .iter()
                .fold(Features::ALL, |all, feature| all.without(*feature));
            assert_eq!(facts.features, features);
        }
    }
}

#[test]
fn a_server_that_refuses_every_question_is_used_all_the_same() {
    let no = "-NOPERM this user has no permissions to run the 'x' command\r\n";
    let answers = vec![value(no); 6];
    let (facts, _) = inspect(false, answers, &[no; 3]);
    let expected = [
        (FindingKind::UnknownVersion, Severity::Notice),
        (FindingKind::NoScripts, Severity::Warning),
        (FindingKind::Resp2, Severity::Notice),
    ];
    assert_eq!(kinds(&facts), expected);
    assert_eq!(facts.features, Features::ALL);
}

#[test]
fn scripts_that_are_forbidden_or_renamed_are_found_with_the_cause() {
    for (at, line, words) in [
        (
            3,
            "NOPERM this user has no permissions to run the 'eval' command",
            "NOPERM this user has no permissions to run the 'eval' command",
        ),
        (
            4,
            "NOPERM User ada has no permissions to run the 'evalsha' command",
            "NOPERM User ada has no permissions to run the 'evalsha' command",
        ),
        (
            3,
            "ERR unknown command 'EVAL', with args beginning with: 'return 1' '0' ",
            "ERR unknown command 'EVAL'",
        ),
        (
            3,
            "ERR unsupported command 'EVAL'",
            "ERR unsupported command 'EVAL'",
        ),
    ] {
        let facts = with(at, error(line));
        assert_eq!(kinds(&facts), [(FindingKind::NoScripts, Severity::Warning)]);
        let text = &facts.findings[0].text;
        assert!(text.contains(&format!("({words})")), "{text}");
    }
    // Not about scripts as such.
    for line in [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script.",
        "NOPERM No permissions to access a key",
        "ERR wrong number of arguments for 'eval' command",
    ] {
        assert_eq!(kinds(&with(3, error(line))), [], "{line}");
    }
}

#[test]
fn missing_commands_are_named_unless_they_are_optional() {
    let without = |names: &[&str]| {
        let infos = COMMANDS
            .iter()
            .map(|known| match names.contains(&known.name) {
                true => RespValue::Nil,
                false => RespValue::Array(Vec::new()),
            });
        with(2, RespValue::Array(infos.collect()))
    };
    let facts = without(&["mget", "pexpire", "info"]);
    assert_eq!(
        kinds(&facts),
        [(FindingKind::MissingCommands, Severity::Warning)]
    );
    let text = &facts.findings[0].text;
    assert!(
        text.starts_with(
            "the server has no MGET (`GetMany`: every lookup of the cache) and no PEXPIRE (`Touch`): "
        ),
        "{text}"
    );
    assert_eq!(kinds(&without(&["info", "client|tracking"])), []);
    // Another number of answers than questions says nothing.
    assert_eq!(kinds(&with(2, RespValue::Array(vec![RespValue::Nil]))), []);
}

#[test]
fn eviction_is_found_where_there_is_a_limit() {
    for (policy, limit, found) in [
        ("allkeys-lru", "1000", true),
        ("volatile-ttl", "1000", true),
        ("noeviction", "1000", false),
        ("allkeys-lru", "0", false),
    ] {
        let line = "maxmemory:0\r\nmaxmemory_policy:allkeys-lru";
        let facts = with_info(
            line,
            &format!("maxmemory:{limit}\r\nmaxmemory_policy:{policy}"),
        );
        let expected = found.then_some((FindingKind::Eviction, Severity::Warning));
        assert_eq!(kinds(&facts), Vec::from_iter(expected), "{policy} {limit}");
    }
}

#[test]
fn a_server_that_saves_nothing_or_snapshots_alone_is_told_from_one_that_does_not_say() {
    let nothing = || value("*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    let found = |aof: &str, saves: RespValue| {
        let mut answers = sound();
        answers[0] = bulk(&INFO_7.replace("aof_enabled:1", aof));
        answers[1] = saves;
        kinds(&inspect(true, answers, &[]).0)
    };
    let notice = |kind| vec![(kind, Severity::Notice)];
    assert_eq!(
        found("aof_enabled:0", nothing()),
        notice(FindingKind::NoPersistence)
    );
    assert_eq!(
        found("aof_enabled:0", value(SAVES)),
        notice(FindingKind::Snapshots)
    );
    for unknown in [error("NOPERM"), RespValue::Array(Vec::new())] {
        assert_eq!(found("aof_enabled:0", unknown), []);
    }
    assert_eq!(found("aof_enabled:1", nothing()), []);
}

#[test]
fn an_append_only_file_that_reaches_the_disk_late_is_known() {
    let found = |aof: &str, fsync: RespValue| {
        let mut answers = sound();
        answers[0] = bulk(&INFO_7.replace("aof_enabled:1", aof));
        answers[5] = fsync;
        inspect(true, answers, &[]).0
    };
    let setting = |text: &str| RespValue::Array(vec![bulk("appendfsync"), bulk(text)]);
    for (fsync, forgets) in [("everysec", "two seconds"), ("no", "half a minute")] {
        let facts = found("aof_enabled:1", setting(fsync));
        assert_eq!(kinds(&facts), [(FindingKind::LateFsync, Severity::Notice)]);
        let text = &facts.findings[0].text;
        assert!(text.contains(forgets) && text.contains(&format!("(appendfsync {fsync})")));
        // Without such a file there is something worse to tell.
        assert_eq!(
            kinds(&found("aof_enabled:0", setting(fsync)))[0].0,
            FindingKind::Snapshots
        );
    }
    for unknown in [setting("always"), setting("another"), error("NOPERM")] {
        assert_eq!(kinds(&found("aof_enabled:1", unknown)), []);
    }
}

#[test]
fn a_server_with_replicas_is_known() {
    for (slaves, found) in [("0", false), ("1", true), ("2", true)] {
        let info = format!("role:master\r\nconnected_slaves:{slaves}");
        let expected = found.then_some((FindingKind::Replicated, Severity::Notice));
        assert_eq!(
            kinds(&with_info("role:master", &info)),
            Vec::from_iter(expected)
        );
    }
}

#[test]
fn a_replica_and_a_node_of_a_cluster_are_warned_of() {
    let replica = with_info("role:master", "role:slave");
    assert_eq!(kinds(&replica), [(FindingKind::Replica, Severity::Warning)]);
    let node = with_info("cluster_enabled:0", "cluster_enabled:1");
    assert_eq!(
        kinds(&node),
        [(FindingKind::ClusterNode, Severity::Warning)]
    );
}

#[test]
fn each_finding_says_what_to_do_and_is_logged_once_until_it_changes() {
    let logs = Logs::at(Level::TRACE, "layer_store");
    let eviction = |policy: &str| {
        let line = "maxmemory:0\r\nmaxmemory_policy:allkeys-lru";
        let facts = with_info(line, &format!("maxmemory:9\r\nmaxmemory_policy:{policy}"));
        facts.findings
    };
    let [one, two] = ["redis://once-a:1", "redis://once-b:1"];
    report(one, &eviction("allkeys-lru"));
    report(one, &eviction("allkeys-lru"));
    assert_eq!(logs.count(), 1);
    report(two, &eviction("allkeys-lru"));
    assert_eq!(logs.count(), 2);
    report(one, &eviction("volatile-lru"));
    assert_eq!(logs.count(), 3);
    report(one, &[]);
    report(one, &eviction("volatile-lru"));
    assert_eq!(logs.count(), 4);
}

#[test]
fn keys_are_tracked_if_the_server_says_so_in_resp3() {
    assert!(with(0, bulk(INFO_7)).tracks);
    assert!(
        !with(
            6,
            error("NOPERM this user has no permissions to run the 'client' command")
        )
        .tracks
    );
    assert!(!inspect(false, sound(), &[]).0.tracks);
}
