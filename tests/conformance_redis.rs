//! The store on a real Redis, on every way to it: the conformance kit, the commands it sends, and the keys and values in Redis.

use std::{sync::LazyLock, time::Duration};

use layer_store::{
    Arg, Context, ErrorKind, Identity, Key, KeySpace, Op, Options, Reply, StoreExt, Ttl, Value,
    conformance::programs::{LIMITED, LOOK},
};
use tests::{
    Certificates, FaultProxy, HelloRefusal, Mode, RedisServer, Resp2Front, TlsFront, outage::count,
    patient_store, patient_store_at, unique,
};

/// All cases, at once on one server.
mod plain {
    use super::*;

    layer_store::conformance_tests!(async { patient_store(&SERVER, Options::new()).await });
}

/// All cases, behind a prefix.
mod behind_a_prefix {
    use super::*;

    layer_store::conformance_tests!(async {
        patient_store(&SERVER, Options::new().prefix(unique())).await
    });
}

/// All cases, through TLS with an authority and a client certificate of its own.
mod tls {
    use super::*;

    layer_store::conformance_tests!(async {
        let options = Options::new()
            .ca_pem(CERTIFICATES.ca.clone())
            .client_pem(CERTIFICATES.client.clone());
        patient_store_at(&FRONT.url(&SERVER), options).await
    });

    static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(Certificates::new);
    static FRONT: LazyLock<TlsFront> = LazyLock::new(|| TlsFront::before(&SERVER, &CERTIFICATES));
}

/// All cases, over a socket in the file system.
mod unix_socket {
    use super::*;

    layer_store::conformance_tests!(async {
        patient_store_at(&SERVER.unix_url(), Options::new()).await
    });
}

/// All cases, in RESP2.
mod resp2 {
    use super::*;

    layer_store::conformance_tests!(async {
        patient_store_at(&FRONT.url(&SERVER), Options::new()).await
    });

    static FRONT: LazyLock<Resp2Front> =
        LazyLock::new(|| Resp2Front::before(&SERVER, HelloRefusal::UnknownCommand));
}

/// All cases, through a proxy.
mod proxied {
    use super::*;

    layer_store::conformance_tests!(async {
        patient_store_at(&SERVER.url_through(&PROXY), Options::new()).await
    });

    static PROXY: LazyLock<FaultProxy> = LazyLock::new(|| FaultProxy::before(&SERVER));
}

/// All cases, with a reply that comes one byte at a time.
mod one_byte_at_a_time {
    use super::*;

    layer_store::conformance_tests!(async {
        patient_store_at(&SERVER.url_through(&PROXY), Options::new()).await
    });

    static PROXY: LazyLock<FaultProxy> = LazyLock::new(|| {
        let proxy = FaultProxy::before(&SERVER);
        proxy.set(Mode::OneByte);
        proxy
    });
}

static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

#[tokio::test]
async fn however_hello_is_refused_the_store_speaks_resp2() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    for refusal in HelloRefusal::ALL {
        let front = Resp2Front::before(&server, refusal);
        let store = patient_store_at(&front.url(&server), Options::new()).await;
        let counted = count(&store).await;
        counted.unwrap_or_else(|error| panic!("{refusal:?}: {}", error.report()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_has_one_connection() {
    let server = RedisServer::start();
    let store = patient_store(&server, Options::new()).await;
    let tasks: Vec<_> = (0..64)
        .map(|task: u64| {
            let store = store.clone();
            tokio::spawn(async move {
                let space = KeySpace::new("data", "visits");
                let subject = Identity::Int(task);
                let key = Key::new(&space, subject.as_ref());
                for _ in 0..20 {
                    let args = [Arg::Int(100), Arg::Int(60_000)];
                    store.run(&CX, &LIMITED, &[key], &args).await.unwrap();
                    store.get(&CX, &key).await.unwrap().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let clients = server.clients();
    assert_eq!(clients.len(), 1, "{clients:#?}");
    let accepted: String = server.command(&["INFO", "stats"]);
    let connections = |accepted: &str| -> u64 {
        let line = accepted
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().parse().unwrap()
    };
    let before = connections(&accepted);
    store.ping(&CX).await.unwrap();
    // This look's own.
    assert_eq!(
        connections(&server.command::<String>(&["INFO", "stats"])),
        before + 1
    );
}

#[tokio::test]
async fn every_operation_is_one_command() {
    let server = RedisServer::start();
    let store = patient_store(&server, Options::new()).await;
    let space = KeySpace::new("data", "visits");
    let ada = Identity::from("ada");
    let key = Key::new(&space, ada.as_ref());
    let (one, two) = (Value::from("1"), Value::from("2"));
    let args = [Arg::Int(100), Arg::Int(60_000)];
    // `SET NX GET` and `PEXPIRE GT`. Older servers have a script in place of each.
    let is_whole = server.version() >= (7, 0);
    let or_script = |name| match is_whole {
        true => vec![name],
        false => vec!["eval"],
    };
    let mut monitor = server.monitor();

    store.put(&CX, &key, &one, TTL).await.unwrap();
    assert_eq!(monitor.names(&server), ["set"]);
    store.put_if_absent(&CX, &key, &two, TTL).await.unwrap();
    assert_eq!(monitor.names(&server), or_script("set"));
    store.get(&CX, &key).await.unwrap();
    assert_eq!(monitor.names(&server), ["get"]);
    store.get_many(&CX, &[key, key]).await.unwrap();
    assert_eq!(monitor.names(&server), ["mget"]);
    store.touch(&CX, &key, TTL, true).await.unwrap();
    assert_eq!(monitor.names(&server), or_script("pexpire"));
    store.touch(&CX, &key, TTL, false).await.unwrap();
    assert_eq!(monitor.names(&server), ["pexpire"]);
    store.delete_many(&CX, &[key]).await.unwrap();
    assert_eq!(monitor.names(&server), ["del"]);
    store.ping(&CX).await.unwrap();
    assert_eq!(monitor.names(&server), ["ping"]);

    // A script is sent whole once on a connection, and named from then on.
    for names in [&["eval"][..], &["evalsha"], &["evalsha"]] {
        store.run(&CX, &LIMITED, &[key], &args).await.unwrap();
        assert_eq!(monitor.names(&server), names);
    }
    for names in [&["eval"][..], &["evalsha"]] {
        store
            .compare_and_set(&CX, &key, &one, &two, TTL)
            .await
            .unwrap();
        assert_eq!(monitor.names(&server), names);
    }
    for names in [&["eval"][..], &["evalsha"]] {
        store.compare_and_delete(&CX, &key, &one).await.unwrap();
        assert_eq!(monitor.names(&server), names);
    }
    let run = Op::Run {
        program: &LIMITED,
        keys: &[key],
        args: &args,
    };
    store
        .batch(&CX, &[Op::Get(&key), run, Op::Ping])
        .await
        .unwrap();
    assert_eq!(monitor.names(&server), ["get", "eval", "ping"]);
}

#[tokio::test]
async fn a_flushed_script_is_sent_again_and_run_once() {
    let server = RedisServer::start();
    let store = patient_store(&server, Options::new()).await;
    let space = KeySpace::new("data", "visits");
    let ada = Identity::from("ada");
    let key = Key::new(&space, ada.as_ref());
    let args = [Arg::Int(100), Arg::Int(60_000)];
    for count in 1..=20 {
        if count % 2 == 0 {
            let () = server.command(&["SCRIPT", "FLUSH"]);
        }
        let reply = store.run(&CX, &LIMITED, &[key], &args).await.unwrap();
        assert_eq!(reply.int(1), Some(count));
    }
}

#[tokio::test]
async fn what_stands_in_redis_is_plain_text_with_its_own_end() {
    let server = RedisServer::start();
    let store = patient_store(&server, Options::new().prefix("shop")).await;
    let space = KeySpace::new("data", "visits");
    let ada = Identity::from("ada:1");
    let key = Key::new(&space, ada.as_ref()).with_rest(b"*");
    let text = "shop:{ada%3A1}:data:visits:%2A";

    store
        .put(&CX, &key, &Value::pair(42, 7), TTL)
        .await
        .unwrap();
    assert_eq!(server.command::<String>(&["GET", text]), "42:7");
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "*"]), [text]);
    let pttl = || server.command::<i64>(&["PTTL", text]);
    assert!((1..=TTL.as_millis() as i64).contains(&pttl()));

    let short = Ttl::from_millis(1_500).unwrap();
    store.touch(&CX, &key, short, false).await.unwrap();
    assert!((1..=1_500).contains(&pttl()));
    store.delete(&CX, &key).await.unwrap();
    let args = [Arg::Int(100), Arg::Int(1_500)];
    store.run(&CX, &LIMITED, &[key], &args).await.unwrap();
    assert!((1..=1_500).contains(&pttl()));
    // Real time, and Redis' own: no clock of this process is asked.
    tokio::time::sleep(Duration::from_millis(1_510)).await;
    assert_eq!(pttl(), -2);
    let seen = store.run(&CX, &LOOK, &[key], &[]).await.unwrap();
    assert_eq!(seen.int(1), Some(-2));
}

const CX: Context = Context::new("test");
const TTL: Ttl = match Ttl::from_millis(60_000) {
    Some(ttl) => ttl,
    None => panic!("a minute is not zero"),
};

/// A script has doubles for numbers, which hold no more than 53 bits.
#[tokio::test]
async fn an_addition_with_a_maximum_is_exact_up_to_64_bits() {
    let store = patient_store(&SERVER, Options::new().prefix(unique())).await;
    let space = KeySpace::new("data", "sums");
    let big = 1_i64 << 53;
    let edges = [
        0,
        1,
        -1,
        999_999_999,
        1_000_000_000,
        big,
        -big - 1,
        i64::MAX,
        i64::MIN,
    ];
    let mut identity = 0;
    for old in edges {
        for delta in edges {
            let sum = old.checked_add(delta);
            let near = sum.unwrap_or(i64::MAX);
            for max in [near, near.saturating_sub(1), near.saturating_add(1)] {
                identity += 1;
                let subject = Identity::Int(identity);
                let key = Key::new(&space, subject.as_ref());
                let text = Value::from(old.to_string().as_str());
                store.put(&CX, &key, &text, TTL).await.unwrap();
                let op = Op::Add {
                    key: &key,
                    delta,
                    ttl: Some(TTL),
                    max: Some(max),
                };
                let what = format!("{old} + {delta}, at most {max}");
                match (store.apply(&op, &CX).await, sum) {
                    (Ok(Reply::Added { applied, value }), Some(sum)) => {
                        assert_eq!(applied, sum <= max, "{what}");
                        assert_eq!(value, if applied { sum } else { old }, "{what}");
                    }
                    (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Rejected, "{what}"),
                    (result, _) => panic!("{what}: {result:?}"),
                }
            }
        }
    }
}
