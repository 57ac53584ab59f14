//! The response cache on a real Redis: all cases, the commands it sends, outages, and the reverse proxy.

#[path = "../cache-layer/tests/cases/mod.rs"]
mod cases;

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cache_layer::{
    CacheLayer, PROGRAM, RequestHead, ResponseCache,
    store::{Options, SharedStore, connect},
};
use cases::{FRESH, Handler, Site};
use futures_util::future::join_all;
use http::Request;
use layer_store::{
    Arg,
    conformance::{Random, programs::WRITE, twins::Twins},
};
use tests::{RedisConnection, RedisServer, Service, patient_store, unique};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The server for all cases, which run at once.
static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

cache_cases!(patient(&SERVER));

/// A store for one test, whose keys no other sees.
async fn patient(server: &RedisServer) -> SharedStore {
    patient_store(server, Options::new().prefix(unique())).await
}

#[tokio::test]
async fn the_program_is_its_twin() {
    let server = RedisServer::start();
    let mut twins = Twins::new(RedisConnection::new(&server), PROGRAM, 3);
    let mut random = Random::new(5);
    for _ in 0..2_000 {
        let time = random.duration(Duration::from_millis(100));
        let life = Arg::Int(1 + random.below(200) as i64);
        let result = if random.one_in(2) {
            twins.turn_to(PROGRAM);
            let name = random.below(3).to_string();
            let args = [life, Arg::Bytes(name.as_bytes())];
            twins.step(time, &[0, 1, 2], &args).await
        } else {
            // A stamp, or a name that another program wrote.
            twins.turn_to(&WRITE);
            let key = random.below(3) as usize;
            twins.step(time, &[key], &[life, Arg::Bytes(b"1")]).await
        };
        result.unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[tokio::test]
async fn a_hit_is_one_command_and_a_miss_two_or_three() {
    let server = RedisServer::start();
    let store = patient(&server).await;
    let handler = Handler::text(&[FRESH, ("vary", "accept-language")], |_, n| n.to_string());
    let here = Site::new(&store, handler.clone());
    let there = Site::new(&store, handler);
    let ask = [("accept-language", "de")];
    // The first look-up also finds out which server it is.
    for site in [&here, &there] {
        site.get("/first").await;
    }
    cases::eventually("all is given back", || leases(&server).is_empty()).await;
    let mut monitor = server.monitor();
    here.get_with("/cars/7", &ask).await;
    // The entry is there before the lease of its handler call is given back.
    cases::eventually("it is given back", || leases(&server).is_empty()).await;
    let names = monitor.names(&server);
    let names: Vec<_> = names.into_iter().filter(|name| name != "keys").collect();
    assert_eq!(names[0], "mget");
    assert_eq!(
        names.iter().filter(|name| *name == "mget").count(),
        1,
        "{names:?}"
    );
    here.get_with("/cars/7", &ask).await;
    assert_eq!(monitor.names(&server), ["mget"]);
    // Who has not seen how the page varies asks twice, once.
    there.get_with("/cars/7", &ask).await;
    assert_eq!(monitor.names(&server), ["mget", "mget"]);
    there.get_with("/cars/7", &ask).await;
    assert_eq!(monitor.names(&server), ["mget"]);
    // So does an operator.
    let looked_up = cases::request("/cars/7", &ask);
    let found = there.cache.look_up(&RequestHead::of(&looked_up)).await;
    assert!(found.unwrap().found().is_some());
    assert_eq!(monitor.names(&server), ["mget"]);
    // What can never be stored asks for nothing.
    here.send(Request::options("/cars/7").body(String::new()).unwrap())
        .await;
    here.get_with("/cars/7", &[("range", "bytes=0-1")]).await;
    assert_eq!(monitor.names(&server), [""; 0]);
}

#[tokio::test]
async fn a_hit_on_a_local_copy_is_no_command() {
    let server = RedisServer::start();
    let store = patient(&server).await;
    let handler = Handler::text(&[FRESH, ("vary", "x")], |_, n| n.to_string());
    let bound = Duration::from_millis(500);
    let cached = || {
        let cache = ResponseCache::new(store.clone()).local_copies(bound);
        Site::with(CacheLayer::with_cache(cache), handler.clone())
    };
    let (here, there) = (cached(), cached());
    here.get("/").await;
    cases::eventually("all is given back", || leases(&server).is_empty()).await;
    for site in [&here, &there] {
        assert!(site.get("/").await.is_hit());
    }
    let mut monitor = server.monitor();
    for _ in 0..100 {
        assert!(there.get("/").await.is_hit());
    }
    // A slow machine may need a look or two.
    assert!(monitor.names(&server).len() <= 5);
    // A purge of its own is seen at once, one of another process after the bound.
    here.cache.purge_path("/").await.unwrap();
    let purged = tokio::time::Instant::now();
    assert_eq!(here.get("/").await.body, "2");
    while there.get("/").await.body == "1" {
        assert!(purged.elapsed() <= bound + Duration::from_millis(100));
    }
}

#[tokio::test]
async fn a_purge_elsewhere_ends_a_local_copy_at_once() {
    let server = RedisServer::start();
    let store = patient(&server).await;
    let handler = Handler::text(&[FRESH], |_, n| n.to_string());
    // The time alone would take far too long.
    let bound = Duration::from_secs(600);
    let cache = ResponseCache::new(store).local_copies(bound);
    let site = Site::with(CacheLayer::with_cache(cache), handler);
    let mut monitor = server.monitor();
    let limit = Duration::from_secs(10);
    // The first copies end when the server has been asked for hints.
    let quiet = async {
        loop {
            for _ in 0..20 {
                site.get("/").await;
            }
            if monitor.names(&server).is_empty() {
                return;
            }
        }
    };
    tokio::time::timeout(limit, quiet).await.unwrap();
    assert!(site.get("/").await.is_hit());
    // As another process does it. Purges of this one are counted, whichever cache makes them.
    let stamps: Vec<String> = server.command(&["KEYS", "*:stamp:page"]);
    assert_eq!(stamps.len(), 1, "{stamps:?}");
    let deleted: u64 = server.command(&["DEL", &stamps[0]]);
    assert_eq!(deleted, 1);
    let seen = async {
        while site.get("/").await.body == "1" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(limit, seen).await.unwrap();
}

#[tokio::test]
async fn no_key_is_without_a_life() {
    let server = RedisServer::start();
    let store = patient(&server).await;
    let site = Site::new(
        &store,
        Handler::text(&[FRESH, ("vary", "x")], |_, n| n.to_string()),
    );
    site.get("/cars/7").await;
    let load = || async { Ok::<_, ()>("object".into()) };
    site.cache
        .objects()
        .get_or_insert_with("a:b", Duration::from_secs(60), &["t"], load)
        .await
        .unwrap();
    cases::eventually("both are stored", || site.cache.stats().stored == 2).await;
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert!(keys.len() >= 9, "{keys:?}");
    for key in keys {
        let life: i64 = server.command(&["PTTL", &key]);
        assert!(life > 0, "{key} lives {life}");
    }
}

/// Two caches on one server are as two processes.
#[tokio::test]
async fn an_object_is_loaded_once_over_all_instances() {
    let store = patient(&SERVER).await;
    let objects: Vec<_> = (0..3)
        .map(|_| ResponseCache::new(store.clone()).objects())
        .collect();
    let loads = AtomicUsize::new(0);
    let load = || async {
        loads.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, ()>("object".into())
    };
    let minute = Duration::from_secs(60);
    let calls = (0..200).map(|i| objects[i % 3].get_or_insert_with("a", minute, &["t"], load));
    for object in join_all(calls).await {
        assert_eq!(object.unwrap(), "object");
    }
    assert_eq!(loads.load(SeqCst), 1);
}

#[tokio::test]
async fn a_redis_that_stands_still_or_dies_costs_little_and_fails_nothing() {
    let mut server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    assert_eq!(site.get("/").await.body, "1");
    assert!(site.get("/").await.is_hit());
    server.pause();
    for call in 2..=12 {
        let asked = site.try_send(cases::request("/", &[]));
        let reply = tokio::time::timeout(Duration::from_millis(200), asked).await;
        let reply = reply.expect("100 ms and some").unwrap();
        assert_eq!(reply.body, call.to_string());
        assert_eq!(reply.cache_status(), "cache; fwd=miss; detail=store-down");
    }
    server.resume();
    back(&site).await;
    server.kill();
    for _ in 0..10 {
        assert_eq!(site.get("/").await.status, 200);
    }
    server.restart();
    back(&site).await;
}

/// Waits until the cache is used again, without any help.
async fn back(site: &Site) {
    let waiting = async {
        while !site.get("/").await.is_hit() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .expect("it comes back");
}

#[tokio::test]
async fn a_redis_that_comes_back_with_old_data_serves_nothing_of_it() {
    let mut server = RedisServer::start();
    let replica = RedisServer::start_replica_of(&server);
    let store = patient(&server).await;
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    let other = Site::new(&store, site.handler.clone());
    assert_eq!(site.get("/").await.body, "1");
    assert!(other.get("/").await.is_hit());
    let has_entry = |server: &RedisServer| {
        let keys: Vec<String> = server.command(&["KEYS", "*entry*"]);
        !keys.is_empty()
    };
    cases::eventually("it is copied", || has_entry(&replica)).await;
    let _: String = replica.command(&["REPLICAOF", "NO", "ONE"]);
    site.cache.purge_path("/").await.unwrap();
    // The copy has the entry, and the stamp that the purge has destroyed.
    server.kill();
    server.restart();
    let port = replica.port().to_string();
    let _: String = server.command(&["REPLICAOF", "127.0.0.1", &port]);
    cases::eventually("the old data is back", || has_entry(&server)).await;
    let _: String = server.command(&["REPLICAOF", "NO", "ONE"]);
    for site in [&other, &site] {
        let waiting = async {
            loop {
                let reply = site.get("/").await;
                assert_ne!(reply.body, "1", "{}", reply.cache_status());
                if reply.is_hit() {
                    return;
                }
            }
        };
        let came_back = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        came_back.expect("it comes back");
    }
}

#[tokio::test]
async fn a_purge_that_fails_is_repeated_before_anything_is_served() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await.unwrap();
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    site.get("/").await;
    server.pause();
    assert!(site.cache.purge_path("/").await.is_err());
    server.resume();
    let waiting = async {
        loop {
            let reply = site.get("/").await;
            assert_ne!(reply.body, "1", "{}", reply.cache_status());
            if reply.is_hit() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .expect("it comes back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_hits_with_one_command_also_on_a_page_that_varies() {
    let server = RedisServer::start();
    let (origin, asked) = origin().await;
    let url = format!("http://{origin}");
    let store = server.url();
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--origin",
        &url,
        "--store",
        &store,
    ];
    let proxy = Service::start("reverse-proxy", &args);
    let mut client = proxy.connect().await;
    let mut get = async |path: &str, language: &str| {
        let request = Request::get(path).header("accept-language", language);
        let reply = client.send(request.body(String::new()).unwrap()).await;
        assert!(
            !reply.headers().contains_key("x-hop"),
            "{:?}",
            reply.headers()
        );
        (
            String::from_utf8(reply.body().to_vec()).unwrap(),
            reply.headers()["cache-status"].to_str().unwrap().to_owned(),
        )
    };
    for path in ["/plain", "/varies"] {
        for language in ["de", "en"] {
            get(path, language).await;
        }
    }
    let first = asked.load(SeqCst);
    assert_eq!(first, 3);
    // The last byte is out before the entry is in.
    for (path, language) in [("/plain", "de"), ("/varies", "de"), ("/varies", "en")] {
        while !get(path, language).await.1.contains("; hit") {}
    }
    let mut monitor = server.monitor();
    for (path, language) in [("/plain", "de"), ("/varies", "de"), ("/varies", "en")] {
        let (body, status) = get(path, language).await;
        assert!(status.contains("; hit"), "{status}");
        assert_eq!(body, if path == "/plain" { "plain" } else { language });
        assert_eq!(monitor.names(&server), ["mget"], "{path} {language}");
    }
    assert_eq!(asked.load(SeqCst), 3);
    // What names no lifetime is not stored.
    for _ in 0..2 {
        assert!(
            get("/silent", "de").await.1.contains("detail=no-lifetime") || asked.load(SeqCst) == 5
        );
    }
    assert_eq!(asked.load(SeqCst), 5);
    drop(client);
    assert!(proxy.stop().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_make_one_call_for_a_cold_page() {
    let server = RedisServer::start();
    let (origin, asked) = origin().await;
    let (url, store) = (format!("http://{origin}"), server.url());
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--origin",
        &url,
        "--store",
        &store,
        // Where a busy machine takes longer to say who has the lease, each process calls for itself.
        "--deadline",
        "10s",
    ];
    let proxies = [(); 3].map(|()| Service::start("reverse-proxy", &args));
    let requests = (0..200).map(|i| {
        let proxy = &proxies[i % 3];
        async move {
            let mut client = proxy.connect().await;
            client.set_host("example.com");
            client.get("/slow").await
        }
    });
    for reply in join_all(requests).await {
        assert_eq!(reply.body(), "slow");
    }
    assert_eq!(asked.load(SeqCst), 1);
    for proxy in proxies {
        assert!(proxy.stop().success());
    }
}

#[tokio::test]
async fn a_lease_is_given_back_and_a_lost_one_expires() {
    let server = RedisServer::start();
    let store = patient(&server).await;
    let site = Site::new(&store, Handler::text(&[FRESH], |_, n| n.to_string()));
    site.get("/").await;
    cases::eventually("it is given back", || leases(&server).is_empty()).await;
    // A process that dies with its lease: its key stays for 5 s, and then another calls.
    let handler = Handler::new(|_, _| async {
        std::future::pending::<()>().await;
        cases::response(&[FRESH], "")
    });
    let dead = Site::new(&store, handler);
    let call = tokio::spawn(async move { dead.get("/dead").await });
    cases::eventually("it is claimed", || !leases(&server).is_empty()).await;
    let life: i64 = server.command(&["PTTL", &leases(&server)[0]]);
    assert!((1..=5_000).contains(&life), "{life}");
    call.abort();
}

/// The keys of the leases of handler calls.
fn leases(server: &RedisServer) -> Vec<String> {
    server.command(&["KEYS", "*fill*"])
}

#[tokio::test]
async fn the_proxy_answers_502_without_its_origin_and_says_what_to_write() {
    let proxy = Service::start(
        "reverse-proxy",
        &["--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:1"],
    );
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.status(), 502);
    drop(client);
    assert!(proxy.stop().success());
    let refused = Service::run("reverse-proxy", &["--origin", "https://example.com/a"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("write one such as --origin"),
        "{said}"
    );
}

#[tokio::test]
async fn the_proxy_takes_the_host_of_the_target_and_refuses_two() {
    let (origin, asked) = origin().await;
    let url = format!("http://{origin}");
    let args = ["--listen", "127.0.0.1:0", "--origin", &url];
    let proxy = Service::start("reverse-proxy", &args);
    let host = |host: &str| format!("GET http://{host}/host HTTP/1.1\r\nhost: evil.example\r\n");
    let reply = raw(&proxy, &host("site.example")).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.ends_with("site.example"), "{reply}");
    // The same page for those who send only a path, and another one for the host that lost.
    let visitor = "GET /host HTTP/1.1\r\nhost: site.example\r\n";
    while !raw(&proxy, visitor).await.contains("; hit") {}
    assert!(raw(&proxy, visitor).await.ends_with("site.example"));
    let other = "GET /host HTTP/1.1\r\nhost: evil.example\r\n";
    assert!(raw(&proxy, other).await.ends_with("evil.example"));
    let calls = asked.load(SeqCst);
    for lines in ["host: a\r\nhost: a\r\n", "", "host: a/b\r\n"] {
        let reply = raw(&proxy, &format!("GET /host HTTP/1.1\r\n{lines}")).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{lines:?}: {reply}");
    }
    assert_eq!(asked.load(SeqCst), calls);
    assert!(proxy.stop().success());
}

/// Sends a request line and fields as they are, and reads the response to the end of the connection.
async fn raw(proxy: &Service, head: &str) -> String {
    let mut stream = TcpStream::connect(proxy.address())
        .await
        .expect("it listens");
    let request = format!("{head}connection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("it answers");
    reply
}

/// An HTTP/1.1 origin that counts its requests.
async fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("some port is free");
    let address = listener.local_addr().expect("it is bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, counter.clone()));
        }
    });
    (address, asked)
}

async fn answer(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&chunk[..read]),
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        asked.fetch_add(1, SeqCst);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let language = text
            .split("accept-language: ")
            .nth(1)
            .and_then(|rest| rest.get(..2));
        let host = text
            .split("\r\nhost: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        let (lines, body) = match path {
            "/host" => ("cache-control: max-age=60\r\n", host.unwrap_or_default()),
            "/plain" => ("cache-control: max-age=60\r\n", "plain"),
            "/varies" => (
                "cache-control: max-age=60\r\nvary: accept-language\r\n",
                language.unwrap_or_default(),
            ),
            "/slow" => ("cache-control: max-age=60\r\n", "slow"),
            _ => ("", "silent"),
        };
        if path == "/slow" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{lines}connection: x-hop\r\nx-hop: 1\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        request.clear();
    }
}
