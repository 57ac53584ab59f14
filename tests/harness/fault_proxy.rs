//! The fault proxy: each mode, as a client on a socket sees it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::wait_until;
use tests::{Connections, FaultProxy, Mode, Passed, RedisServer};

#[test]
fn what_is_sent_passes_and_is_counted() {
    let proxy = echo();
    let mut client = client(&proxy);
    for _ in 0..3 {
        assert_eq!(said_back(&mut client, b"hello").unwrap(), b"hello");
    }
    let other = self::client(&proxy);
    wait_until(|| proxy.connections().open == 2);
    drop(other);
    wait_until(|| proxy.connections().open == 1);
    assert_eq!(
        (proxy.connections().accepted, proxy.passed()),
        (
            2,
            Passed {
                requests: 15,
                replies: 15
            }
        )
    );
}

#[test]
fn a_megabyte_passes_whole_in_every_passing_mode() {
    let value: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    for mode in [
        Mode::Pass,
        Mode::Delay {
            requests: Duration::from_millis(5),
            replies: Duration::from_millis(5),
        },
        Mode::Bandwidth {
            requests: 10_000_000,
            replies: 10_000_000,
        },
    ] {
        let proxy = echo();
        proxy.set(mode);
        let mut reader = client(&proxy);
        let mut writer = reader.try_clone().unwrap();
        let sent = value.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == value, "{mode:?}");
    }
}

#[test]
fn a_delay_is_added_each_way_and_not_to_each_byte() {
    let proxy = echo();
    let mut client = client(&proxy);
    said_back(&mut client, b"x").unwrap();
    proxy.set(Mode::Delay {
        requests: Duration::from_millis(40),
        replies: Duration::from_millis(60),
    });
    let start = now();
    for _ in 0..20 {
        client.write_all(b"twenty").unwrap();
    }
    client.read_exact(&mut [0; 120]).unwrap();
    let took = now() - start;
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(took < Duration::from_millis(400), "{took:?}");
}

#[test]
fn a_narrow_line_takes_its_time_and_holds_its_sender_back() {
    let proxy = echo();
    let mut client = client(&proxy);
    // What lies in the system's buffers is sent for the client. They are as large as the system likes.
    let socket = socket2::SockRef::from(&client);
    socket.set_send_buffer_size(16 << 10).unwrap();
    proxy.set(Mode::Bandwidth {
        requests: 1_000_000,
        replies: 100_000_000,
    });
    let start = now();
    client.write_all(&[0; 1_000_000]).unwrap();
    let sent = now() - start;
    assert!(sent > Duration::from_millis(50), "{sent:?}");
    client.read_exact(&mut vec![0; 1_000_000]).unwrap();
    let took = now() - start;
    assert!(took > Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_millis(2_000), "{took:?}");
}

#[test]
fn one_byte_at_a_time_is_everything_in_the_end() {
    let proxy = echo();
    proxy.set(Mode::OneByte);
    let mut client = client(&proxy);
    let text = b"a reply of several bytes comes in as many reads";
    assert_eq!(said_back(&mut client, text).unwrap(), text);
}

#[test]
fn a_black_hole_keeps_connections_and_passes_later_what_it_took() {
    let proxy = echo();
    let mut old = client(&proxy);
    said_back(&mut old, b"x").unwrap();
    proxy.set(Mode::BlackHole);
    let mut new = client(&proxy);
    for client in [&mut old, &mut new] {
        client.write_all(b"held").unwrap();
        assert!(is_silent(client));
    }
    assert_eq!(proxy.passed().requests, 1);
    // One that leaves is seen to leave.
    assert_eq!(proxy.connections().open, 2);
    drop(new);
    wait_until(|| proxy.connections().open == 1);
    let mut busy = client(&proxy);
    busy.set_nonblocking(true).unwrap();
    while busy.write(&[0; 10_000]).is_ok() {}
    wait_until(|| proxy.connections().open == 2);
    drop(busy);
    wait_until(|| proxy.connections().open == 1);
    proxy.set(Mode::Pass);
    let mut back = [0; 4];
    old.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"held");
}

#[test]
fn an_unreachable_proxy_lets_nobody_connect() {
    let proxy = echo();
    let mut old = client(&proxy);
    said_back(&mut old, b"x").unwrap();
    proxy.set(Mode::Unreachable);
    assert!(is_silent(&mut old));
    let wait = Duration::from_millis(200);
    let error = TcpStream::connect_timeout(&proxy.address(), wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    proxy.set(Mode::Pass);
    for client in [&mut old, &mut client(&proxy)] {
        said_back(client, b"y").unwrap();
    }
}

#[test]
fn a_nat_that_forgets_passes_new_connections_alone() {
    let proxy = echo();
    let mut old = client(&proxy);
    said_back(&mut old, b"x").unwrap();
    proxy.set_existing(Mode::BlackHole);
    old.write_all(b"y").unwrap();
    assert!(is_silent(&mut old));
    said_back(&mut client(&proxy), b"z").unwrap();
    assert!(is_silent(&mut old));
}

#[test]
fn replies_are_lost_and_requests_are_not() {
    let proxy = echo();
    let mut client = client(&proxy);
    proxy.set(Mode::DropReplies);
    client.write_all(b"lost").unwrap();
    assert!(is_silent(&mut client));
    assert_eq!(
        proxy.passed(),
        Passed {
            requests: 4,
            replies: 0
        }
    );
    // A reply after a lost one would be taken for it.
    proxy.set(Mode::Pass);
    let error = client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut client = self::client(&proxy);
    assert_eq!(said_back(&mut client, b"kept").unwrap(), b"kept");
}

#[test]
fn a_reset_is_an_error_and_no_end() {
    let proxy = echo();
    let mut old = client(&proxy);
    said_back(&mut old, b"x").unwrap();
    proxy.set(Mode::Reset);
    let mut new = client(&proxy);
    for client in [&mut old, &mut new] {
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    wait_until(|| proxy.connections().open == 0);
}

#[test]
fn a_half_closed_connection_ends_its_replies_alone() {
    let proxy = echo();
    let mut client = client(&proxy);
    said_back(&mut client, b"x").unwrap();
    proxy.set_existing(Mode::HalfClose);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    client.write_all(b"more").unwrap();
    wait_until(|| proxy.passed().requests == 5);
    assert_eq!(proxy.connections().open, 1);
    said_back(&mut self::client(&proxy), b"y").unwrap();
}

#[test]
fn a_cut_comes_after_its_bytes() {
    for after in [0, 1, 7] {
        let proxy = echo();
        let mut client = client(&proxy);
        proxy.set(Mode::Cut { after });
        // It may be closed already.
        let _ = client.write_all(b"some words");
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, &b"some words"[..after as usize]);
        wait_until(|| proxy.connections().open == 0);
    }
}

#[test]
fn one_byte_is_corrupted() {
    for after in [0, 3, 9] {
        let proxy = echo();
        let mut client = client(&proxy);
        said_back(&mut client, b"before").unwrap();
        proxy.set(Mode::Corrupt { after });
        for (round, text) in [b"some words", b"more words"].into_iter().enumerate() {
            let mut expected = *text;
            if round == 0 {
                expected[after as usize] = !expected[after as usize];
            }
            assert_eq!(said_back(&mut client, text).unwrap(), expected);
        }
    }
}

#[test]
fn a_port_that_refuses_is_the_same_port_afterwards() {
    let proxy = echo();
    let mut old = client(&proxy);
    said_back(&mut old, b"x").unwrap();
    let held = self::client(&proxy);
    proxy.set(Mode::Refuse);
    assert_eq!(old.read(&mut [0; 8]).unwrap(), 0);
    let error = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    proxy.set(Mode::Pass);
    said_back(&mut client(&proxy), b"y").unwrap();

    // New connections alone.
    let mut old = client(&proxy);
    said_back(&mut old, b"x").unwrap();
    proxy.set_new(Mode::Refuse);
    assert!(TcpStream::connect(proxy.address()).is_err());
    said_back(&mut old, b"y").unwrap();
    drop(held);
}

#[test]
fn without_a_server_a_connection_ends_at_once() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let proxy = FaultProxy::start(address);
    assert_eq!(client(&proxy).read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_dropped_proxy_leaves_nothing_behind() {
    let proxy = echo();
    let mut client = client(&proxy);
    said_back(&mut client, b"x").unwrap();
    let address = proxy.address();
    drop(proxy);
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_redis_is_reached_through_it_with_its_password() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let proxy = FaultProxy::before(&server);
    let client = redis::Client::open(server.url_through(&proxy)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let pong: String = redis::cmd("PING").query(&mut connection).unwrap();
    assert_eq!(pong, "PONG");
    let one = Connections {
        open: 1,
        accepted: 1,
    };
    assert_eq!(proxy.connections(), one);
}

/// A proxy in front of a server that says back what it is told.
fn echo() -> FaultProxy {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    // The threads end with the process of the test.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut writer = &stream;
                let mut chunk = [0; 4096];
                while let Ok(read @ 1..) = (&stream).read(&mut chunk) {
                    if writer.write_all(&chunk[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    FaultProxy::start(address)
}

fn client(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
    patience(&stream, Duration::from_secs(5));
    stream
}

fn said_back(client: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    client.write_all(text)?;
    let mut back = vec![0; text.len()];
    client.read_exact(&mut back)?;
    Ok(back)
}

/// Returns true if nothing comes for a while.
fn is_silent(client: &mut TcpStream) -> bool {
    patience(client, Duration::from_millis(50));
    let read = client.read(&mut [0; 8]);
    patience(client, Duration::from_secs(5));
    let waits = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
    read.is_err_and(|error| waits.contains(&error.kind()))
}

fn patience(client: &TcpStream, limit: Duration) {
    let set = client.set_read_timeout(Some(limit));
    set.expect("a limit above zero is legal");
}

fn now() -> Instant {
    tokio::time::Instant::now().into()
}
