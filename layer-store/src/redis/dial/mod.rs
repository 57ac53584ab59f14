//! Connections that are ready for calls: the socket, TLS, and the greeting.

#[cfg(unix)]
use std::path::PathBuf;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

#[cfg(feature = "redis-tls")]
use self::probe::speaks_plain;
use self::{
    addresses::{Addresses, Trial},
    greeting::{Greeting, GreetingError},
    probe::speaks_tls,
    race::race,
};
#[cfg(feature = "redis-tls")]
use super::tls::Tls;
use super::{
    dialog::{self, DialogError},
    settings::{Access, Endpoint, RespVersion, Settings},
    stream::Stream,
};
use crate::{ConfigError, Credentials};

pub(crate) use self::error::DialError;

mod addresses;
mod error;
mod greeting;
mod probe;
mod race;
mod socket;

/// Makes connections to one server.
pub(super) struct Dialer {
    settings: Settings,
    #[cfg(feature = "redis-tls")]
    tls: Option<Tls>,
    resolver: Resolver,
    addresses: Addresses,
    /// True if a server has greeted us, so that the settings are right.
    has_greeted: AtomicBool,
    /// True if the last greeting was in RESP2, after one in RESP3 had been refused.
    resp2_works: AtomicBool,
    warned_of_password: AtomicBool,
}

/// A connection on which the greeting is over.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) stream: Stream,
    /// The bytes that came after the last reply of the greeting.
    pub(super) buffer: BytesMut,
    /// True if the connection speaks RESP3.
    pub(super) resp3: bool,
}

/// Finds the addresses of a name. A function of its own in tests.
type Resolver = Box<dyn Fn(String, u16) -> Resolution + Send + Sync>;
type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The place that a socket is connected to, so that another one can be.
enum Place {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Dialer {
    /// Checks the settings. Those that cannot work are an error here, and not at the first connection.
    pub(super) fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            #[cfg(feature = "redis-tls")]
            tls: settings.tls.then(|| Tls::new(&settings)).transpose()?,
            settings,
            resolver: Box::new(look_up),
            addresses: Addresses::default(),
            has_greeted: AtomicBool::new(false),
            resp2_works: AtomicBool::new(false),
            warned_of_password: AtomicBool::new(false),
        })
    }

    /// Finds these addresses, whatever the name.
    #[cfg(test)]
    pub(super) fn with_addresses(self, addresses: Vec<SocketAddr>) -> Self {
        self.with_resolver(move |_, _| Ok(addresses.clone()))
    }

    #[cfg(test)]
    pub(super) fn with_resolver(
        mut self,
        resolver: impl Fn(String, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.resolver = Box::new(move |host, port| {
            let found = resolver(host, port);
            Box::pin(async { found })
        });
        self
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Connects and greets the server. No limit of time: the caller has one.
    ///
    /// A name is looked up each time, so that a server may move.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves no connection behind. The addresses that it tried are tried last by the next one.
    pub(super) async fn dial(&self) -> Result<Greeted, DialError> {
        let credentials = self.credentials().await?;
        let (host, port) = match &self.settings.endpoint {
            Endpoint::Tcp { host, port } => (host.clone(), *port),
            #[cfg(unix)]
            Endpoint::Unix(path) => {
                let place = Place::Unix(path.clone());
                let socket = place.connect().await?;
                return self.greet(&place, socket, credentials.as_ref()).await;
            }
        };
        let mut trial = self.addresses.trial();
        let connected = self.connect(host, port, &mut trial).await;
        let (address, socket) = connected.map_err(|error| {
            // Whoever is there afterwards may be younger.
            self.resp2_works.store(false, Relaxed);
            DialError::Unreachable(error)
        })?;
        let place = Place::Tcp(address);
        let socket = Stream::Tcp(socket);
        let greeting = self.greet(&place, socket, credentials.as_ref());
        let greeted = self.or_wrong_port(&place, greeting).await?;
        trial.succeeded(address);
        self.has_greeted.store(true, Relaxed);
        Ok(greeted)
    }

    /// Connects to an address of the name.
    async fn connect(
        &self,
        host: String,
        port: u16,
        trial: &mut Trial<'_>,
    ) -> io::Result<(SocketAddr, TcpStream)> {
        let found = (self.resolver)(host, port).await?;
        let order = self.addresses.in_order(found);
        race(&order, |address| {
            trial.add(address);
            socket::connect(address)
        })
        .await
    }

    /// Waits for a greeting. If it is closed, or nothing comes for a while, TLS may be expected or unknown at this port.
    async fn or_wrong_port(
        &self,
        place: &Place,
        greeting: impl Future<Output = Result<Greeted, DialError>>,
    ) -> Result<Greeted, DialError> {
        if self.has_greeted.load(Relaxed) {
            return greeting.await;
        }
        let mut greeting = pin!(greeting);
        match timeout(PATIENCE, &mut greeting).await {
            Ok(Err(error)) if error.is_closed() => {
                Err(self.wrong_port(place).await.unwrap_or(error))
            }
            Ok(ended) => ended,
            Err(_) => match self.wrong_port(place).await {
                Some(error) => Err(error),
                None => greeting.await,
            },
        }
    }

    /// Returns an error if the server expects TLS and is spoken to without, or the other way round.
    async fn wrong_port(&self, place: &Place) -> Option<DialError> {
        let error = match self.settings.tls {
            false if speaks_tls(place).await => GreetingError::SpeaksTls,
            #[cfg(feature = "redis-tls")]
            true if speaks_plain(place).await => GreetingError::SpeaksPlain,
            _ => return None,
        };
        Some(error.into())
    }

    async fn credentials(&self) -> Result<Option<Credentials>, DialError> {
        match &self.settings.access {
            Access::Open => Ok(None),
            Access::Fixed(credentials) => Ok(Some(credentials.clone())),
            Access::Asked(provider) => match provider.credentials().await {
                Ok(credentials) => Ok(Some(credentials)),
                Err(error) => Err(GreetingError::NoCredentials(error).into()),
            },
        }
    }

    /// Greets the server over `socket`, and over another one if it has to be in RESP2.
    async fn greet(
        &self,
        place: &Place,
        socket: Stream,
        credentials: Option<&Credentials>,
    ) -> Result<Greeted, DialError> {
        if let Some(version) = self.settings.version {
            return self.greet_in(version, socket, credentials).await;
        }
        // ## RESP2, if it was the last that worked
        //
        // Forgotten until this attempt has succeeded. After one that fails, another server may be there.
        if self.resp2_works.swap(false, Relaxed) {
            let greeted = self.greet_in(RespVersion::Two, socket, credentials).await?;
            self.resp2_works.store(true, Relaxed);
            return Ok(greeted);
        }
        // ## RESP3
        let was_closed = match self.greet_in(RespVersion::Three, socket, credentials).await {
            Err(DialError::Greeting(error)) if error.may_speak_resp2() => {
                matches!(error, GreetingError::Closed { .. })
            }
            result => return result,
        };
        // ## RESP2, because RESP3 was refused
        //
        // On a new connection: some close the one on which they heard `HELLO`.
        let socket = place.connect().await?;
        let greeted = self.greet_in(RespVersion::Two, socket, credentials).await?;
        // ## RESP3 again, because it was not refused in words
        //
        // A server that was about to restart closes too, and it would be spoken to in RESP2 for as long as it runs.
        if was_closed && let Ok(socket) = place.connect().await {
            let again = self.greet_in(RespVersion::Three, socket, credentials);
            if let Ok(greeted) = again.await {
                return Ok(greeted);
            }
        }
        self.resp2_works.store(true, Relaxed);
        Ok(greeted)
    }

    async fn greet_in(
        &self,
        version: RespVersion,
        socket: Stream,
        credentials: Option<&Credentials>,
    ) -> Result<Greeted, DialError> {
        let mut stream = self.secured(socket).await?;
        let mut buffer = BytesMut::new();
        let mut greeting = Greeting::new(version, credentials, self.settings.db);
        let held = dialog::hold(&mut greeting, &mut stream, &mut buffer).await;
        held.map_err(|error| self.explain(error, &buffer))?;
        if greeting.password_is_unused() && !self.warned_of_password.swap(true, Relaxed) {
            tracing::warn!(
                server = ?self.settings,
                "the server has no password, and the configured one is not used: set one there, or drop it here"
            );
        }
        Ok(Greeted {
            stream,
            buffer,
            resp3: version == RespVersion::Three,
        })
    }

    /// Puts TLS over the socket, if the settings say so.
    #[cfg(feature = "redis-tls")]
    async fn secured(&self, socket: Stream) -> Result<Stream, DialError> {
        match (&self.tls, socket) {
            (Some(tls), Stream::Tcp(socket)) => {
                let stream = tls.connect(socket).await.map_err(DialError::Tls)?;
                Ok(Stream::Tls(Box::new(stream)))
            }
            (_, socket) => Ok(socket),
        }
    }

    #[cfg(not(feature = "redis-tls"))]
    async fn secured(&self, socket: Stream) -> Result<Stream, DialError> {
        Ok(socket)
    }

    /// Turns the end of a greeting into an error that says what to do. `buffer` is what has come.
    fn explain(&self, error: DialogError<GreetingError>, buffer: &[u8]) -> DialError {
        let error = match error {
            DialogError::Ended(error) => error,
            // The alert of a server that wants a certificate comes after the handshake (RFC 8446, section 4.4.2.4).
            #[cfg(feature = "redis-tls")]
            DialogError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                return DialError::Tls(error);
            }
            DialogError::Io(error) if is_closed(&error) => GreetingError::Closed {
                error,
                over_tls: self.settings.tls,
            },
            DialogError::Io(error) => GreetingError::Lost(error),
            DialogError::Malformed(_) if buffer.starts_with(TLS_ALERT) => GreetingError::SpeaksTls,
            DialogError::Malformed(error) => GreetingError::NotRedis(error),
        };
        error.into()
    }
}

impl Place {
    async fn connect(&self) -> Result<Stream, DialError> {
        let connected = match self {
            Self::Tcp(address) => socket::connect(*address).await.map(Stream::Tcp),
            #[cfg(unix)]
            Self::Unix(path) => tokio::net::UnixStream::connect(path)
                .await
                .map(Stream::Unix),
        };
        connected.map_err(DialError::Unreachable)
    }
}

fn look_up(host: String, port: u16) -> Resolution {
    Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
}

pub(super) fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// The time after which a server that has never greeted us may not do it at this port.
const PATIENCE: Duration = Duration::from_millis(300);
/// The first bytes of an alert: its type, and the first half of any version (RFC 8446, section 5.1).
const TLS_ALERT: &[u8] = &[21, 3];
