//! Connections that are made with what a resolver, a server and a provider of credentials say.

use std::{
    error::Error as _,
    net::{Ipv4Addr, SocketAddr},
};

use super::{super::dial::Greeted, *};
use crate::{ConfigError, Credentials, credentials::SharedProvider};

#[tokio::test]
async fn an_address_that_swallows_packets_is_no_outage() {
    let swallows = SwallowingListener::start().await;
    let server = Server::start(sound).await;
    let dialer = dialer(&server.address).with_addresses(vec![swallows.address, server.at()]);
    let start = Instant::now();
    dial(&dialer).await.unwrap();
    let took = start.elapsed().as_millis();
    assert!((250..900).contains(&took), "{took} ms");
    // The next time it is tried last.
    let start = Instant::now();
    dial(&dialer).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing() {
    let server = Server::start(sound).await;
    let dialer = dialer(&server.address).with_addresses(vec![nobody().await, server.at()]);
    let start = Instant::now();
    dial(&dialer).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[tokio::test]
async fn an_address_that_accepts_and_says_nothing_does_not_win_twice() {
    for answer in [String::new(), CLOSE.into()] {
        let bad = Server::start(move |_| answer.clone()).await;
        let good = Server::start(sound).await;
        let dialer = dialer(&good.address).with_addresses(vec![bad.at(), good.at()]);
        let limit = Duration::from_millis(100);
        let first = time::timeout(limit, dial(&dialer)).await;
        assert!(!matches!(first, Ok(Ok(_))));
        assert_eq!(good.connections(), 0);
        dial(&dialer).await.unwrap();
        assert_eq!(good.connections(), 1);
    }
}

#[tokio::test]
async fn a_name_is_looked_up_for_each_connection() {
    let (first, second) = (Server::start(sound).await, Server::start(sound).await);
    let moves = Arc::new(Mutex::new(vec![second.at(), first.at()]));
    let dialer = dialer("redis://moves.example").with_resolver(move |host, port| {
        assert_eq!((host.as_str(), port), ("moves.example", 6379));
        Ok(moves.lock().pop().into_iter().collect())
    });
    dial(&dialer).await.unwrap();
    dial(&dialer).await.unwrap();
    assert_eq!((first.connections(), second.connections()), (1, 1));
    // The name is gone.
    assert!(!dial(&dialer).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn resp2_is_remembered_until_it_fails() {
    let state = Arc::new(Mutex::new("old"));
    let server = Server::start({
        let state = state.clone();
        move |command| match (*state.lock(), command.split(' ').next()) {
            ("old", Some("HELLO")) => NO_HELLO.into(),
            ("closes", Some("HELLO")) => CLOSE.into(),
            ("loads", _) => "-LOADING Redis is loading the dataset in memory\r\n".into(),
            _ => sound(command),
        }
    })
    .await;
    let dialer = dialer(&server.address);
    let mut counted = 0;
    let mut connections = || {
        let before = std::mem::replace(&mut counted, server.connections());
        counted - before
    };
    for (now, resp3, expected) in [
        ("old", Some(false), 2),
        ("old", Some(false), 1),
        ("loads", None, 1),
        ("closes", Some(false), 2),
        ("closes", Some(false), 1),
        ("loads", None, 1),
        ("new", Some(true), 1),
    ] {
        *state.lock() = now;
        let greeted = dial(&dialer).await;
        assert_eq!(greeted.ok().map(|greeted| greeted.resp3), resp3, "{now}");
        assert_eq!(connections(), expected, "{now}");
    }
}

#[tokio::test]
async fn the_protocol_of_the_url_is_the_only_one() {
    let server = Server::start(sound).await;
    let two = dialer(&format!("{}?protocol=2", server.address));
    assert!(!dial(&two).await.unwrap().resp3);
    assert_eq!(*server.seen.lock(), ["PING"]);

    let old = Server::start(|_| NO_HELLO.into()).await;
    let three = dialer(&format!("{}?protocol=3", old.address));
    let error = dial(&three).await.unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(
        error.to_string(),
        "the server refused HELLO: ERR unknown command 'HELLO'"
    );
    assert_eq!(old.connections(), 1);
}

#[tokio::test]
async fn what_comes_after_the_greeting_stays_in_the_buffer() {
    let server = Server::start(|_| format!("{HELLO}>1\r\n+more\r\n")).await;
    let greeted = dial(&dialer(&server.address)).await.unwrap();
    assert!(greeted.resp3);
    // It came with the reply, or it is still on its way.
    assert!(b">1\r\n+more\r\n".starts_with(&greeted.buffer));
}

#[tokio::test]
async fn a_password_that_the_server_has_no_use_for_is_no_error() {
    let server = Server::start(|command| match command.contains("AUTH") {
        true => {
            "-ERR AUTH <password> called without any password configured for the default user.\r\n"
                .into()
        }
        false => sound(command),
    })
    .await;
    let url = server.address.replace("redis://", "redis://:s%40fe@");
    assert!(dial(&dialer(&url)).await.unwrap().resp3);
    assert_eq!(
        *server.seen.lock(),
        ["HELLO 3 AUTH default s@fe", "HELLO 3"]
    );
    let two = dialer(&format!("{url}/1?protocol=2"));
    assert!(!dial(&two).await.unwrap().resp3);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_closed_connection_says_what_it_may_be() {
    let closing = Server::start(|_| CLOSE.into()).await;
    let error = dial(&dialer(&closing.address)).await.unwrap_err();
    assert!(!error.is_permanent());
    assert!(error.to_string().contains("`rediss://`"), "{error}");
    assert!(error.source().is_some());
    assert_eq!(closing.connections(), 3, "RESP2 and TLS were tried too");
}

#[tokio::test]
async fn an_alert_is_an_error_of_connect_that_says_what_to_write() {
    // That of a server that expects a handshake: fatal, unexpected message.
    let server = Server::start(|_| "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{a}".into()).await;
    let error = crate::connect(&server.address).await.unwrap_err();
    let message = error.report().to_string();
    assert!(message.contains("write `rediss://`"), "{message}");
    assert_eq!(server.connections(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_with_a_path_is_greeted_too() {
    let path = std::env::temp_dir().join(crate::conformance::unique());
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let seen = seen.clone();
        async move {
            let (socket, _) = listener.accept().await.unwrap();
            let answer = Arc::new(|command: &str| sound(command));
            serve(socket, answer, seen, Duration::ZERO).await;
        }
    });
    let url = format!("unix://ada:s%40fe@{}?db=2", path.display());
    assert!(dial(&dialer(&url)).await.unwrap().resp3);
    assert_eq!(*seen.lock(), ["HELLO 3 AUTH ada s@fe", "SELECT 2"]);
    std::fs::remove_file(path).unwrap();
    // Nobody is there any more.
    assert!(!dial(&dialer(&url)).await.unwrap_err().is_permanent());
}

mod credentials {
    use super::*;

    /// A server whose password is the text in there.
    async fn protected(password: &Arc<Mutex<String>>) -> Server {
        let password = password.clone();
        Server::start(move |command| match command.split(' ').next() {
            Some("HELLO") if !command.ends_with(&format!(" {}", password.lock())) => {
                "-WRONGPASS invalid username-password pair or user is disabled.\r\n".into()
            }
            Some("SET") => CLOSE.into(),
            _ => sound(command),
        })
        .await
    }

    #[tokio::test]
    async fn a_new_password_needs_no_new_store() {
        let password = Arc::new(Mutex::new("one".to_owned()));
        let server = protected(&password).await;
        let secret = password.clone();
        let provider = SharedProvider::new(move || {
            let credentials = Credentials::user("ada", secret.lock().clone());
            async { Ok(credentials) }
        });
        let settings = Settings::from_url(&server.address).unwrap();
        let settings = settings.with_provider(Some(provider)).unwrap();
        let store = RedisStore::from_settings(settings).unwrap();
        get(&store).await.unwrap();
        *password.lock() = "two".into();
        // The connection ends, and the next one needs the new password.
        let space = KeySpace::new("data", "s");
        let key = Key::new(&space, IdentityRef::Int(1));
        let minute = crate::Ttl::from_millis(60_000).unwrap();
        let _ = store.put(&CX, &key, &"1".into(), minute).await;
        get(&store).await.unwrap();
        let hellos: Vec<_> = server.seen.lock().clone();
        let hellos = hellos.iter().filter(|command| command.starts_with("HELLO"));
        assert!(hellos.eq(["HELLO 3 AUTH ada one", "HELLO 3 AUTH ada two"]));
    }

    #[tokio::test]
    async fn a_provider_that_fails_is_an_outage_in_which_nothing_is_sent() {
        let server = Server::start(sound).await;
        let options =
            crate::Options::new().credentials(async || Err("the token service is away".into()));
        let store = crate::connect_with(&server.address, options).await;
        let breaker = store.unwrap().info().health.breaker.unwrap();
        assert_eq!(breaker.state(), crate::BreakerState::Open);

        let provider = SharedProvider::new(async || Err("the token service is away".into()));
        let settings = Settings::from_url(&server.address).unwrap();
        let settings = settings.with_provider(Some(provider)).unwrap();
        let store = RedisStore::from_settings(settings).unwrap();
        let error = get(&store).await.unwrap_err();
        assert_eq!(what(&error), NOT_SENT);
        assert_eq!(
            error.report().to_string(),
            "the store is unavailable: there are no credentials for the server: the token service is away"
        );
        assert_eq!(server.connections(), 0);
    }

    #[tokio::test]
    async fn a_provider_that_hangs_takes_no_longer_than_an_attempt() {
        let server = Server::start(sound).await;
        let options = crate::Options::new()
            .credentials(std::future::pending)
            .connect_timeout(Duration::from_millis(50));
        let start = Instant::now();
        let store = crate::connect_with(&server.address, options).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(500));
        let breaker = store.info().health.breaker.unwrap();
        assert_eq!(breaker.state(), crate::BreakerState::Open);
        assert_eq!(server.connections(), 0);
    }

    #[tokio::test]
    async fn a_wrong_password_of_a_provider_is_an_error_of_connect() {
        let server = protected(&Arc::new(Mutex::new("right".into()))).await;
        let options =
            crate::Options::new().credentials(async || Ok(Credentials::password("hunter2")));
        let error = crate::connect_with(&server.address, options).await;
        let message = error.unwrap_err().report().to_string();
        assert!(
            message.contains("WRONGPASS") && !message.contains("hunter2"),
            "{message}"
        );
    }
}

#[cfg(feature = "redis-tls")]
mod tls {
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            RootCertStore, ServerConfig,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
            server::WebPkiClientVerifier,
        },
    };

    use super::*;

    const AUTHORITY: &str = include_str!("certificates/authority.pem");
    const SERVER: &str = include_str!("certificates/server.pem");
    const CLIENT: &str = include_str!("certificates/client.pem");

    /// Starts a sound server behind TLS. Returns its port.
    async fn start(wants_certificate: bool) -> (u16, JoinSet<()>) {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match wants_certificate {
            false => config.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(AUTHORITY)).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(SERVER.as_bytes()).unwrap();
        let config = config.with_single_cert(vec![certificate(SERVER)], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                served.spawn(async move {
                    // As Redis does, and without the alert that others send.
                    let mut first = [0];
                    if socket.peek(&mut first).await.is_err() || first != [22] {
                        return;
                    }
                    if let Ok(stream) = acceptor.accept(socket).await {
                        let answer = Arc::new(|command: &str| sound(command));
                        serve(stream, answer, Arc::default(), Duration::ZERO).await;
                    }
                });
            }
        });
        (port, tasks)
    }

    async fn connect(url: &str, options: crate::Options) -> Result<SharedStore, String> {
        let patient = options.connect_timeout(Duration::from_secs(5));
        let connected = crate::connect_with(url, patient).await;
        connected.map_err(|error| error.report().to_string())
    }

    fn is_up(store: Result<SharedStore, String>) -> bool {
        let breaker = store.unwrap().info().health.breaker.unwrap();
        breaker.state() == crate::BreakerState::Closed
    }

    #[tokio::test]
    async fn a_server_of_ones_own_authority_is_trusted() {
        let (port, _tasks) = start(false).await;
        let options = || crate::Options::new().ca_pem(AUTHORITY);
        for host in ["localhost", "127.0.0.1"] {
            assert!(is_up(
                connect(&format!("rediss://{host}:{port}"), options()).await
            ));
        }
        let url = format!("rediss://localhost:{port}");
        let message = connect(&url, crate::Options::new()).await.unwrap_err();
        assert!(
            message.contains("give its authority to `ca_pem`"),
            "{message}"
        );
        // The certificate is for another name.
        let dialer = Dialer::new(
            Settings::from_url(&format!("rediss://other:{port}"))
                .unwrap()
                .with_ca_pem(Some(AUTHORITY.into()))
                .unwrap(),
        );
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let error = dial(&dialer.unwrap().with_addresses(vec![address])).await;
        let error = error.unwrap_err();
        assert!(error.is_permanent());
        assert_eq!(error.to_string(), "the server's certificate is not valid");
    }

    #[tokio::test]
    async fn a_certificate_of_ones_own_is_shown_to_a_server_that_wants_it() {
        let (port, _tasks) = start(true).await;
        let url = format!("rediss://localhost:{port}");
        let options = || crate::Options::new().ca_pem(AUTHORITY);
        assert!(is_up(connect(&url, options().client_pem(CLIENT)).await));
        let message = connect(&url, options()).await.unwrap_err();
        assert!(message.contains("set `client_pem`"), "{message}");
        // One for servers is none for clients.
        let message = connect(&url, options().client_pem(SERVER)).await;
        let message = message.unwrap_err();
        assert!(message.contains("check `client_pem`"), "{message}");
    }

    #[tokio::test]
    async fn tls_at_a_plain_port_is_an_error_that_says_what_to_write() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // What Redis does: it takes the first line for a command.
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 4096]).await;
                let reply = b"-ERR Protocol error: unbalanced quotes in request\r\n";
                let _ = socket.write_all(reply).await;
            }
        });
        let url = format!("rediss://localhost:{port}");
        let message = connect(&url, crate::Options::new()).await.unwrap_err();
        assert!(message.contains("write `redis://`"), "{message}");
    }

    /// Plain text is not known to be wrong there: the server closes, as Redis does.
    #[tokio::test]
    async fn plain_text_at_a_tls_port_is_an_error_that_says_what_to_write() {
        let (port, _tasks) = start(false).await;
        let url = format!("redis://localhost:{port}");
        let message = connect(&url, crate::Options::new()).await.unwrap_err();
        assert!(message.contains("write `rediss://`"), "{message}");
    }

    /// TLS is not known to be wrong there: the server waits for the end of a command, as Redis does.
    #[tokio::test]
    async fn tls_at_a_plain_port_that_waits_is_an_error_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rediss://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut question = [0; 6];
                let _ = socket.read_exact(&mut question).await;
                if &question == b"PING\r\n" {
                    let reply = b"-NOAUTH Authentication required.\r\n";
                    let _ = socket.write_all(reply).await;
                }
                open.push(socket);
            }
        });
        let message = connect(&url, crate::Options::new()).await.unwrap_err();
        assert!(message.contains("write `redis://`"), "{message}");
    }

    #[tokio::test]
    async fn a_port_that_closes_on_tls_says_what_it_may_be() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "rediss://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { while listener.accept().await.is_ok() {} });
        let error = dial(&dialer(&url)).await.unwrap_err();
        assert!(!error.is_permanent());
        assert!(error.to_string().contains("write `redis://`"), "{error}");
    }
}

fn dialer(url: &str) -> Dialer {
    let dialer = Settings::from_url(url).and_then(Dialer::new);
    dialer
        .map_err(|error: ConfigError| error.to_string())
        .unwrap()
}

async fn dial(dialer: &Dialer) -> Result<Greeted, DialError> {
    let limit = Duration::from_secs(5);
    let dialed = time::timeout(limit, dialer.dial()).await;
    dialed.expect("it ends by itself")
}

/// Returns an address of this machine that nobody listens on.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A listener that the system accepts nothing for, because nobody takes what it has accepted: packets to it are lost.
struct SwallowingListener {
    address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl SwallowingListener {
    async fn start() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        let limit = Duration::from_millis(20);
        while let Ok(socket) = time::timeout(limit, TcpStream::connect(address)).await {
            waiting.push(socket.unwrap());
        }
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}
