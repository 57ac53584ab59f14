//! The parts that the examples share besides the layers that they show: logs, a store, and a server that stops when it is asked to.

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, stderr},
    net::SocketAddr,
    pin::pin,
    time::Duration,
};

use axum::{Router, extract::connect_info::IntoMakeServiceWithConnectInfo};
use rate_limit_layer::store::{self, Options, SharedStore};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::Instant,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Writes logs to stderr: warnings, or what `RUST_LOG` asks for.
///
/// They have colors on a terminal, unless `NO_COLOR` is set.
pub fn log() {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal() && !no_color)
        .with_env_filter(filter.from_env_lossy())
        .init();
}

/// Opens the store of the flag `--store`. Without one, opens that of the environment, or one in memory.
///
/// # Errors
///
/// Returns an error if the URL or the environment names no store.
pub async fn open(url: Option<&str>) -> Result<SharedStore, Box<dyn Error>> {
    open_with(url, Options::new()).await
}

/// Opens the store of the flag `--store` with these options. See [`open`]; the environment's store has options of its own.
///
/// # Errors
///
/// Returns an error if the URL or the environment names no store.
pub async fn open_with(url: Option<&str>, options: Options) -> Result<SharedStore, Box<dyn Error>> {
    match url {
        Some(url) => store::connect_with(url, options)
            .await
            .map_err(|error| format!("--store: {error}").into()),
        None => Ok(store::connect_from_env_or_memory().await?),
    }
}

/// Reads a time in seconds or milliseconds, such as `2s` or `500ms`.
///
/// # Errors
///
/// Returns what to write instead.
pub fn time(text: &str) -> Result<Duration, String> {
    let read = |unit: &str| text.strip_suffix(unit)?.parse().ok();
    let time = read("ms").map(Duration::from_millis);
    let time = time.or_else(|| read("s").map(Duration::from_secs));
    time.ok_or_else(|| "write a time such as 2s or 500ms".into())
}

/// Listens on an address, such as `127.0.0.1:3000`.
///
/// # Errors
///
/// Returns a message that says what to write if the address is taken, or is none.
pub async fn listen(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address} ({error}): write another address, such as 127.0.0.1:0")
    })
}

/// Serves on the address in the first argument, by default 127.0.0.1:3000, until SIGTERM or ctrl-c.
///
/// # Errors
///
/// Returns an error if it cannot listen there.
pub async fn serve(app: App) -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let listener = listen(address.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve_on(listener, app).await?;
    Ok(())
}

/// Serves until SIGTERM or ctrl-c, and then until the requests that have begun are answered, at most [`GRACE`] longer.
///
/// Returns what is left of that time, for work that goes on without a client.
///
/// # Errors
///
/// Returns an error if the signals cannot be received.
pub async fn serve_on(listener: TcpListener, app: App) -> io::Result<Duration> {
    let mut shutdown = Shutdown::listen()?;
    let (begun, stopping) = oneshot::channel();
    let served = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.requested().await;
        let _ = begun.send(Instant::now() + GRACE);
    });
    let mut served = pin!(async { served.await });
    let end = tokio::select! {
        result = &mut served => return result.map(|()| GRACE),
        // An error means that the server is gone, and then nobody waits here.
        end = stopping => end.unwrap_or_else(|_| Instant::now()),
    };
    match tokio::time::timeout_at(end, served).await {
        Ok(result) => result?,
        Err(_) => tracing::warn!("stopping with requests that have not been answered"),
    }
    Ok(end.saturating_duration_since(Instant::now()))
}

/// A router that tells its handlers and layers the address of the client.
pub type App = IntoMakeServiceWithConnectInfo<Router, SocketAddr>;

/// The signals that end a service. Once they are listened for, they no longer end the process at once.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Listens for SIGTERM and ctrl-c.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not allow it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The time that requests have to end after the service was asked to stop. A client that never finishes its request must
/// not keep it.
pub const GRACE: Duration = Duration::from_secs(10);

/// The workspace's README, whose code is compiled as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    /// The program in the README can be copied unchanged, since it is the example that the tests run.
    #[test]
    fn the_program_in_the_readme_is_the_example_quickstart() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```rust,no_run\n").unwrap();
        let (program, _) = rest.split_once("```\n").unwrap();
        let example = include_str!("quickstart.rs");
        // Without its header, which says what the README says around the program.
        let code = example.split_inclusive('\n');
        let code: String = code.skip_while(|line| line.starts_with("//!")).collect();
        assert_eq!(
            program,
            code.trim_start(),
            "copy examples/quickstart.rs into README.md"
        );
    }
}
