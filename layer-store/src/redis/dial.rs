use std::{
    future::Future,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use redis::{
    AsyncConnectionConfig, ProtocolVersion, RedisError, RedisResult, Value as Wire,
    aio::MultiplexedConnection, cmd,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

#[cfg(feature = "redis-tls")]
use super::tls::Tls;
use super::{old_error::DialError, settings::Settings, stream::Counted};
use crate::ConfigError;

/// Makes connections to one server.
pub(super) struct Dialer {
    settings: Settings,
    #[cfg(feature = "redis-tls")]
    tls: Option<Tls>,
    /// Bytes received over all connections.
    received: Arc<AtomicU64>,
    /// True once the server has said that it does not know `HELLO`.
    resp2: AtomicBool,
}

/// A connection, and the future that reads and writes for it.
type Dialed = (MultiplexedConnection, Driver);
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Dialer {
    pub(super) fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            #[cfg(feature = "redis-tls")]
            tls: settings.tls.then(|| Tls::new(&settings)).transpose()?,
            settings,
            received: Arc::default(),
            resp2: AtomicBool::new(false),
        })
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Connects and greets the server.
    pub(super) async fn dial(&self) -> Result<Dialed, DialError> {
        // ## RESP3 first
        if !self.resp2.load(Relaxed) {
            match self.dial_with(ProtocolVersion::RESP3).await {
                Err(DialError::Handshake(error)) if knows_no_hello(&error) => {
                    self.resp2.store(true, Relaxed);
                }
                result => return result,
            }
        }
        // ## RESP2, on a new connection, if the server does not know `HELLO`
        //
        // From now on it is the first choice, so that the next connection costs one attempt.
        self.dial_with(ProtocolVersion::RESP2).await
    }

    async fn dial_with(&self, protocol: ProtocolVersion) -> Result<Dialed, DialError> {
        let address = (self.settings.host.as_str(), self.settings.port);
        let socket = TcpStream::connect(address)
            .await
            .map_err(DialError::Unreachable)?;
        // Small commands must not wait for the acknowledgement of earlier ones.
        socket.set_nodelay(true).map_err(DialError::Unreachable)?;
        let socket = Counted::new(socket, self.received.clone());
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.connect(socket).await.map_err(DialError::Tls)?;
            return self.greet(stream, protocol).await;
        }
        self.greet(socket, protocol).await
    }

    async fn greet<C>(&self, stream: C, protocol: ProtocolVersion) -> Result<Dialed, DialError>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // No limits here: `wrap::Timeout` limits a call, and that includes the wait for a connection.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let greeting = self.settings.greeting(protocol);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&greeting, stream, config)
                .await
                .map_err(DialError::Handshake)?;
        Ok((connection, Box::pin(driver)))
    }
}

/// Asks for a number that is another one after a restart or a failover: a hash of the server's `run_id`.
///
/// `None` if the server does not tell.
pub(super) async fn incarnation(
    connection: &mut MultiplexedConnection,
) -> RedisResult<Option<u64>> {
    let mut info = cmd("INFO");
    info.arg("server");
    Ok(match connection.send_packed_command(&info).await? {
        Wire::BulkString(text) => run_id(&String::from_utf8_lossy(&text)),
        Wire::VerbatimString { text, .. } => run_id(&text),
        _ => None,
    })
}

fn run_id(info: &str) -> Option<u64> {
    let id = info
        .lines()
        .find_map(|line| line.strip_prefix("run_id:"))?
        .trim();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    (!id.is_empty()).then(|| hasher.hash_one(id))
}

/// Returns true if the server does not know `HELLO` (before Redis 6.0, some proxies) or its access rules deny it.
fn knows_no_hello(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default().to_ascii_lowercase();
    match error.code() {
        _ if error.kind() == redis::ErrorKind::RESP3NotSupported => true,
        Some("NOPROTO") => true,
        Some("ERR") => detail.starts_with("unknown command"),
        Some("NOPERM") => detail.contains("'hello'"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    #[test]
    fn the_number_changes_with_the_run_id() {
        let first = run_id("# Server\r\nredis_version:7.0.15\r\nrun_id:aabb\r\ntcp_port:6379\r\n");
        assert!(first.is_some());
        assert_eq!(run_id("run_id:aabb\r\n"), first);
        assert_ne!(run_id("run_id:aabc\r\n"), first);
        assert_eq!(run_id("redis_version:7.0.15\r\n"), None);
        assert_eq!(run_id("run_id:\r\n"), None);
        assert_eq!(run_id(""), None);
    }

    #[test]
    fn a_server_without_hello_is_told_from_one_that_refuses_us() {
        let greeting = |line: &str| match parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Wire::ServerError(error)) => knows_no_hello(&error.into()),
            other => panic!("{other:?}"),
        };
        for line in [
            "ERR unknown command `HELLO`, with args beginning with: `3`, ",
            "ERR unknown command 'HELLO', with args beginning with: '3' ",
            "ERR Unknown command",
            "NOPROTO unsupported protocol version",
            "NOPERM this user has no permissions to run the 'hello' command or its subcommand",
        ] {
            assert!(greeting(line), "{line}");
        }
        for line in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH HELLO must be called with the client already authenticated",
            "NOPERM this user has no permissions to run the 'select' command",
            "ERR DB index is out of range",
        ] {
            assert!(!greeting(line), "{line}");
        }
    }
}
