//! The store when its Redis is there and refuses: each fault that the server itself makes, with what a call returns, and the end
//! of it.

use std::{fs, thread, time::Duration};

use layer_store::{Effect, ErrorKind, connect};
use tests::{
    Logs, RedisServer,
    outage::{LIMIT, count, now, recovers, turns, within},
};

/// A server, and a connection of the harness that was there before the fault.
struct Server {
    redis: RedisServer,
    admin: redis::Connection,
}

/// A fault that lasts until it is mended.
struct Fault {
    make: fn(&mut Server),
    mend: fn(&mut Server),
    kind: ErrorKind,
    effect: Effect,
    /// False if the server is to blame for nothing.
    is_outage: bool,
}

impl Fault {
    /// One that keeps the server from applying anything.
    const fn refusal(make: fn(&mut Server), mend: fn(&mut Server)) -> Self {
        Self {
            make,
            mend,
            kind: ErrorKind::Unavailable,
            effect: Effect::NotApplied,
            is_outage: true,
        }
    }
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_an_outage_until_it_is_a_primary() {
    let make = |server: &mut Server| server.ok("REPLICAOF 127.0.0.1 1");
    let mend = |server: &mut Server| server.ok("REPLICAOF NO ONE");
    lasts(Fault::refusal(make, mend)).await;
}

#[tokio::test]
async fn too_few_replicas_are_an_outage_until_there_are_enough() {
    let make = |server: &mut Server| server.ok("CONFIG SET min-replicas-to-write 1");
    let mend = |server: &mut Server| server.ok("CONFIG SET min-replicas-to-write 0");
    lasts(Fault::refusal(make, mend)).await;
}

#[tokio::test]
async fn a_server_that_cannot_save_is_an_outage_until_it_can() {
    // A file cannot take the place of a folder.
    let make = |server: &mut Server| {
        fs::create_dir(server.redis.folder().join("dump.rdb")).expect("the folder is ours");
        server.command(&["CONFIG", "SET", "save", "3600 1"]);
        server.ok("BGSAVE");
        server.wait_for("rdb_last_bgsave_status:err");
    };
    let mend = |server: &mut Server| {
        fs::remove_dir(server.redis.folder().join("dump.rdb")).expect("it is empty");
        server.ok("BGSAVE");
        server.wait_for("rdb_last_bgsave_status:ok");
    };
    lasts(Fault::refusal(make, mend)).await;
}

#[tokio::test]
async fn a_full_server_is_no_outage() {
    let make = |server: &mut Server| {
        server.ok("CONFIG SET maxmemory-policy noeviction");
        server.ok("CONFIG SET maxmemory 1mb");
    };
    let mend = |server: &mut Server| server.ok("CONFIG SET maxmemory 0");
    lasts(Fault {
        kind: ErrorKind::Full,
        is_outage: false,
        ..Fault::refusal(make, mend)
    })
    .await;
}

#[tokio::test]
async fn a_missing_permission_is_no_outage() {
    let make = |server: &mut Server| server.ok("ACL SETUSER default -evalsha -eval");
    let mend = |server: &mut Server| server.ok("ACL SETUSER default +@all");
    lasts(Fault {
        kind: ErrorKind::Rejected,
        is_outage: false,
        ..Fault::refusal(make, mend)
    })
    .await;
}

#[tokio::test]
async fn a_server_busy_with_a_script_is_an_outage_until_it_is_done() {
    let make = |server: &mut Server| {
        // Its name in every version.
        server.ok("CONFIG SET lua-time-limit 1");
        let mut raw = server.redis.raw();
        thread::spawn(move || {
            let script = redis::cmd("EVAL")
                .arg("while true do end")
                .arg(0)
                .query::<()>(&mut raw);
            script.expect_err("it is killed");
        });
        let start = now();
        while server.try_command(&["PING"]).is_ok() {
            assert!(now() - start < Duration::from_secs(5), "it is not busy");
        }
    };
    let mend = |server: &mut Server| server.ok("SCRIPT KILL");
    lasts(Fault::refusal(make, mend)).await;
}

/// It takes over the many keys of another server, slowly.
#[tokio::test]
async fn a_loading_server_is_an_outage_until_it_is_ready() {
    let make = |server: &mut Server| {
        let source = RedisServer::start();
        // Large, since it looks at its clients after so many bytes.
        let fill = "for i = 1, 4000 do redis.call('SET', i, string.rep('x', 2000)) end";
        let () = source.command(&["EVAL", fill, "0"]);
        for [name, value] in [["repl-diskless-sync-delay", "0"], ["rdbcompression", "no"]] {
            let () = source.command(&["CONFIG", "SET", name, value]);
        }
        for setting in [
            "key-load-delay 1000",
            "loading-process-events-interval-bytes 1024",
        ] {
            server.ok(&format!("CONFIG SET {setting}"));
        }
        server.ok(&format!("REPLICAOF 127.0.0.1 {}", source.port()));
        server.wait_for_refusal("LOADING");
    };
    let mend = |server: &mut Server| {
        server.wait_for("loading:0");
        server.ok("REPLICAOF NO ONE");
    };
    lasts(Fault::refusal(make, mend)).await;
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_an_outage_until_it_has_fewer() {
    let make = |server: &mut Server| {
        server.ok("CONFIG SET maxclients 1");
        server.kill_clients();
    };
    let mend = |server: &mut Server| server.ok("CONFIG SET maxclients 1000");
    lasts(Fault::refusal(make, mend)).await;
}

#[tokio::test]
async fn another_password_is_an_outage_until_it_is_ours_again() {
    let make = |server: &mut Server| {
        server.ok("CONFIG SET requirepass another");
        server.kill_clients();
    };
    let mend = |server: &mut Server| server.ok(&format!("CONFIG SET requirepass {PASSWORD}"));
    lasts(Fault::refusal(make, mend)).await;
}

#[tokio::test]
async fn a_server_that_pauses_its_clients_is_an_outage_until_it_resumes() {
    let make = |server: &mut Server| server.ok(&format!("CLIENT PAUSE {}", HOLD.as_millis()));
    let mend = |_: &mut Server| {};
    lasts(Fault {
        kind: ErrorKind::Timeout,
        effect: Effect::Unknown,
        ..Fault::refusal(make, mend)
    })
    .await;
}

#[tokio::test]
async fn a_new_password_that_the_connection_does_not_need_fails_nobody() {
    let mut server = Server::start();
    let store = connect(&server.redis.url()).await.unwrap();
    for password in ["another", PASSWORD] {
        server.ok(&format!("CONFIG SET requirepass {password}"));
        within(LIMIT, count(&store)).await.unwrap();
    }
}

#[tokio::test]
async fn flushed_scripts_and_killed_connections_fail_nobody_who_waits_for_nothing() {
    let logs = Logs::capture();
    let mut server = Server::start();
    let store = connect(&server.redis.url()).await.unwrap();
    for counted in 1..=30 {
        server.ok("SCRIPT FLUSH");
        if counted % 3 == 0 {
            server.kill_clients();
            // Until the end of the connection has come here too.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(within(LIMIT, count(&store)).await.unwrap(), counted);
    }
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
}

#[tokio::test]
async fn connections_killed_under_load_cost_the_calls_under_way() {
    let logs = Logs::capture();
    let mut server = Server::start();
    let store = connect(&server.redis.url()).await.unwrap();
    count(&store).await.unwrap();
    let stop = now() + Duration::from_millis(1_500);
    let load: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                while now() < stop {
                    if let Err(error) = within(LIMIT, count(&store)).await {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    // 4 calls under way are fewer than the 5 failures that open the breaker.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill_clients();
    }
    for task in load {
        task.await.unwrap();
    }
    recovers(&store).await;
    assert_eq!(turns(&logs), (0, 0), "{logs:#?}");
    assert_eq!(server.redis.clients().len(), 1);
}

/// Makes a fault, checks what calls return while it lasts, mends it, and checks that the store comes back. The breaker opens
/// once and closes once, or not at all.
async fn lasts(fault: Fault) {
    let logs = Logs::capture();
    let mut server = Server::start();
    let store = connect(&server.redis.url()).await;
    let store = store.expect("the server runs");
    for _ in 0..3 {
        count(&store).await.expect("the server runs");
    }
    let start = now();
    (fault.make)(&mut server);
    // Until the end of a killed connection has come here too.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let result = within(LIMIT, count(&store)).await;
    let error = result.expect_err("the server does not work");
    let found = (error.kind(), error.effect());
    assert_eq!(found, (fault.kind, fault.effect), "{}", error.report());

    // Longer than the breaker waits before its first ping, and its second.
    while now() - start < HOLD - Duration::from_millis(300) {
        let result = within(LIMIT, count(&store)).await;
        assert!(result.is_err(), "{result:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let opened = usize::from(fault.is_outage);
    assert_eq!(turns(&logs), (opened, 0), "{logs:#?}");

    (fault.mend)(&mut server);
    if let Some(left) = HOLD.checked_sub(now() - start) {
        tokio::time::sleep(left).await;
    }
    recovers(&store).await;
    assert_eq!(turns(&logs), (opened, opened), "{logs:#?}");
    assert_eq!(server.redis.clients().len(), 1);
}

impl Server {
    fn start() -> Self {
        let redis = RedisServer::start_with(&["--requirepass", PASSWORD]);
        let admin = redis.raw();
        Self { redis, admin }
    }

    fn try_command(&mut self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        redis::Cmd::new().arg(words).query(&mut self.admin)
    }

    fn command(&mut self, words: &[&str]) -> redis::Value {
        let reply = self.try_command(words);
        reply.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sends one command, its words separated by spaces.
    fn ok(&mut self, line: &str) {
        self.command(&line.split(' ').collect::<Vec<_>>());
    }

    /// Closes every connection but that of the harness.
    fn kill_clients(&mut self) {
        self.ok("CLIENT KILL TYPE normal SKIPME yes");
    }

    /// Waits until `INFO` has a line.
    fn wait_for(&mut self, line: &str) {
        let has = |server: &mut Self| {
            let info = server.command(&["INFO"]);
            let info: String = redis::from_redis_value(info).expect("INFO is text");
            info.lines().any(|found| found == line)
        };
        let start = now();
        while !has(self) {
            assert!(
                now() - start < Duration::from_secs(10),
                "{line} never comes"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a read is refused with a code.
    fn wait_for_refusal(&mut self, code: &str) {
        let start = now();
        loop {
            match self.try_command(&["GET", "1"]) {
                Err(error) if error.code() == Some(code) => return,
                other => assert!(now() - start < Duration::from_secs(10), "{other:?}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

const PASSWORD: &str = "secret";
/// The duration of a fault.
const HOLD: Duration = Duration::from_millis(3_000);
