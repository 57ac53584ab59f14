//! Workers that send each message once, at most ten a second over all processes, and lose none at a deploy.
//!
//! Messages come over HTTP, and may come twice: a client that heard nothing tries again, at another process. 202 says that a
//! message is on the queue of this process. Each worker asks a [`Limiter`] for its turn, and then [`Idempotent::once`] if it is the
//! first with this message.
//!
//! ```text
//! cargo run --example job-worker -- --store redis://127.0.0.1 --listen 127.0.0.1:3000     # start several, on other ports
//! curl -i -X POST http://127.0.0.1:3000/messages/7
//! curl -i -X POST http://127.0.0.1:3000/messages/7                                        # it is sent once
//! ```
//!
//! SIGTERM and ctrl-c: nothing new is taken, and what is on the queue is sent. What has not been sent after ten seconds is listed.

use std::{error::Error, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    routing::post,
};
use clap::Parser;
use http::StatusCode;
use lock_layer::Idempotent;
use rate_limit_layer::{Limiter, Quota};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    task::JoinSet,
    time::{Instant, timeout},
};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "job-worker", about = "Sends messages, each one once")]
struct Args {
    /// The address to listen on. Port 0 takes a free port and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,

    /// The store of the limit and of what was sent [default: REDIS_URL or REDIS_HOST, else memory]
    #[arg(long, value_name = "URL")]
    store: Option<String>,

    /// The time that a message takes, such as 50ms
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = examples::time)]
    slow: Duration,
}

/// A job. One that is dropped before it was sent is listed.
#[derive(Debug)]
struct Message {
    number: u32,
    is_done: bool,
}

/// The jobs of this process that no worker has taken yet.
type Queue = Arc<Mutex<Receiver<Message>>>;

/// The state that all workers share.
#[derive(Clone, Debug)]
struct Sender {
    limit: Limiter,
    sent: Idempotent,
    slow: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::log();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let store = examples::open(args.store.as_deref()).await?;
    // Closed: while the store is down, nobody knows what the others send.
    let ten_a_second = Quota::per_second(10)
        .burst(1)
        .name("messages")
        .fail_closed();
    let sender = Sender {
        limit: Limiter::new(store.clone(), ten_a_second),
        sent: Idempotent::retry_safe(store).name("messages"),
        slow: args.slow,
    };
    let (accept, queue) = mpsc::channel(ROOM);
    let queue: Queue = Arc::new(Mutex::new(queue));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(sender.clone().work(queue.clone()));
    }

    let listener = examples::listen(&args.listen.to_string()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = Router::new().route("/messages/{number}", post(accept_message));
    let app = app.with_state(accept);
    // The queue closes with the router, and then the workers end when it is empty.
    let grace = examples::serve_on(listener, app.into_make_service_with_connect_info()).await?;
    if timeout(grace, workers.join_all()).await.is_err() {
        tracing::warn!("stopping with messages that have not been sent");
    }
    // Dropped with the queue and the workers, what is left is listed.
    Ok(())
}

async fn accept_message(
    State(queue): State<mpsc::Sender<Message>>,
    Path(number): Path<u32>,
) -> StatusCode {
    // Its client hears of it if there is no room, so it is not listed.
    let Ok(room) = queue.try_reserve() else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    room.send(Message {
        number,
        is_done: false,
    });
    StatusCode::ACCEPTED
}

impl Sender {
    /// Sends what is on the queue, until it is closed and empty.
    async fn work(self, queue: Queue) {
        loop {
            // The lock is free again before the message is sent.
            let next = queue.lock().await.recv().await;
            let Some(mut message) = next else { return };
            while let Err(error) = self.send(message.number).await {
                tracing::warn!(%error, message = message.number, "a message is tried again");
                tokio::time::sleep(PAUSE).await;
            }
            message.is_done = true;
        }
    }

    /// Sends a message, unless it was sent before.
    ///
    /// A process that is killed while it sends has taken the key already. Who cannot lose that message uses [`Idempotent::run`],
    /// which sends again.
    async fn send(&self, message: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        // The turn comes first: a key that is taken before would be lost if the store failed while the message waits.
        let deadline = Instant::now() + PATIENCE;
        self.limit.until_ready("all", deadline).await?;
        if self.sent.once(message.to_string(), REMEMBERED).await? {
            tokio::time::sleep(self.slow).await;
            println!("sent {message}");
        }
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.is_done {
            println!("left {}", self.number);
        }
    }
}

const WORKERS: usize = 4;
/// The most messages on a queue.
const ROOM: usize = 1_000;
/// The time that a message waits for its turn before it says so.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// The time for which a message is known as sent: longer than a client tries again.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
