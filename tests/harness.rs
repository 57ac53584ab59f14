//! The harness itself: servers start, pause, end, come back empty, and leave nothing behind.

use std::{
    env, fs,
    io::{self, Read},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use tests::{Monitor, RedisServer};

#[path = "harness/fault_proxy.rs"]
mod fault_proxy;
#[path = "harness/variants.rs"]
mod variants;

#[test]
fn a_server_answers_until_it_is_dropped() {
    let server = RedisServer::start();
    assert_eq!(server.command::<String>(&["PING"]), "PONG");
    let port = server.port();
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn two_servers_share_nothing() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let () = one.command(&["SET", "key", "value"]);
    assert_eq!(one.command::<u32>(&["DBSIZE"]), 1);
    assert_eq!(other.command::<u32>(&["DBSIZE"]), 0);
}

#[test]
fn a_killed_server_comes_back_empty_on_its_port() {
    let mut server = RedisServer::start();
    let () = server.command(&["SET", "key", "value"]);
    let url = server.url();
    server.kill();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(server.url(), url);
    assert_eq!(server.command::<u32>(&["DBSIZE"]), 0);
}

#[test]
fn a_paused_server_takes_connections_and_answers_nothing() {
    let server = RedisServer::start();
    server.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let wait = Some(Duration::from_millis(100));
    stream.set_read_timeout(wait).unwrap();
    io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    assert!(stream.read(&mut [0; 16]).is_err());
    server.resume();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), "+PONG\r\n".len());
}

#[test]
fn a_password_is_asked_for_and_known() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    assert!(server.url().contains("secret"));
    assert_eq!(server.command::<String>(&["PING"]), "PONG");
}

#[test]
fn a_monitor_sees_what_clients_send_and_not_what_scripts_do() {
    let server = RedisServer::start();
    let mut client = server.raw();
    let mut monitor: Monitor = server.monitor();
    let script = "return redis.call('GET', KEYS[1])";
    let _: Option<String> = redis::cmd("EVAL")
        .arg(script)
        .arg(1)
        .arg("key")
        .query(&mut client)
        .unwrap();
    assert_eq!(monitor.names(&server), ["eval"]);
    assert!(monitor.names(&server).is_empty());
    let stats = server.commandstats();
    assert_eq!((stats["eval"], stats["get"]), (1, 1));
    assert!(server.clients().is_empty());
}

/// In a child process: starts a server, prints its port and waits to be killed.
#[test]
fn a_server_does_not_outlive_a_killed_test() {
    const CHILD: &str = "HARNESS_CHILD";
    if let Some(note) = env::var_os(CHILD) {
        let server = RedisServer::start();
        fs::write(note, server.port().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let note = env::temp_dir().join(tests::unique());
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_server_does_not_outlive_a_killed_test"])
        .env(CHILD, &note)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let port = || -> Option<u16> { fs::read_to_string(&note).ok()?.parse().ok() };
    wait_until(|| port().is_some());
    let port = port().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_err());
    fs::remove_file(&note).unwrap();
}

fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited 10 s");
}
