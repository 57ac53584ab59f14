use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// The runs that are under way, so that a service that stops can wait for those whose client has left.
///
/// A server's graceful shutdown waits for its connections. A run whose client has gone has none, and would be lost with the
/// runtime. So wait for the runs too:
///
/// ```no_run
/// # #[cfg(feature = "axum")] {
/// # use std::time::Duration;
/// use axum::{Router, routing::post};
/// use lock_layer::{ClientScope, IdempotencyLayer, store};
///
/// # async fn serve(stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Box<dyn std::error::Error>> {
/// let once = IdempotencyLayer::at_most_once(store::connect_from_env().await?, ClientScope::global());
/// let runs = once.tracker();
/// let app: Router = Router::new().route("/payments", post(async || "paid").layer(once));
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// axum::serve(listener, app).with_graceful_shutdown(stop).await?;
/// let left = runs.close_and_wait(Duration::from_secs(10)).await;
/// if left > 0 {
///     eprintln!("{left} runs have not ended");
/// }
/// # Ok(())
/// # }
/// # }
/// ```
///
/// Clones share everything.
#[derive(Clone, Default)]
pub struct RunTracker(Arc<Runs>);

#[derive(Default)]
struct Runs {
    running: AtomicUsize,
    is_closed: AtomicBool,
    /// Notified when the last run has ended.
    idle: Notify,
}

/// Counts as a run until it is dropped.
pub(crate) struct TrackedRun(Arc<Runs>);

impl RunTracker {
    /// Makes a tracker for several layers: [`IdempotencyLayer::tracked_by`](crate::IdempotencyLayer::tracked_by). Each layer
    /// has one of its own otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of runs under way. A run ends when its record is written, or given up.
    pub fn running(&self) -> usize {
        self.0.running.load(SeqCst)
    }

    /// Returns true after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(SeqCst)
    }

    /// Lets no more runs begin: requests that need one get 503 `closing` from now on. Those under way go on.
    ///
    /// Call it after the server has stopped to accept requests.
    pub fn close(&self) {
        self.0.is_closed.store(true, SeqCst);
    }

    /// Waits until no run is under way.
    ///
    /// # Cancel safety
    ///
    /// A dropped future changes nothing.
    pub async fn wait(&self) {
        loop {
            let mut idle = pin!(self.0.idle.notified());
            // Before the look: a run that ends after it is heard of.
            idle.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Lets no more runs begin, waits for those under way for at most `grace`, and returns the number of those that are left.
    ///
    /// A run that is left goes on until its runtime ends. Its record then says `in-progress`, and `outcome-unknown` after the
    /// expected run, with `at_most_once`; with `retry_safe` a repetition runs once its claim has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the tracker is closed all the same.
    pub async fn close_and_wait(&self, grace: Duration) -> usize {
        self.close();
        match timeout(grace, self.wait()).await {
            Ok(()) => 0,
            Err(_) => self.running(),
        }
    }

    /// Begins a run. `None`: the tracker is closed.
    pub(crate) fn begin(&self) -> Option<TrackedRun> {
        self.0.running.fetch_add(1, SeqCst);
        let run = TrackedRun(self.0.clone());
        // After it was counted: whoever closes and then finds no run can be sure that none begins.
        (!self.is_closed()).then_some(run)
    }
}

impl Drop for TrackedRun {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl fmt::Debug for RunTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunTracker")
            .field("running", &self.running())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_tracker_waits_for_the_runs_that_have_begun_and_begins_none() {
        let tracker = RunTracker::new();
        let runs = [tracker.begin().unwrap(), tracker.begin().unwrap()];
        assert_eq!(tracker.running(), 2);
        let begun = Instant::now();
        let ends = async {
            for run in runs {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(run);
            }
        };
        let (left, ()) = tokio::join!(tracker.close_and_wait(Duration::from_secs(9)), ends);
        assert_eq!((left, begun.elapsed()), (0, Duration::from_secs(2)));
        assert!(tracker.is_closed() && tracker.begin().is_none());
        assert_eq!(tracker.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_grace_the_runs_that_are_left_are_counted() {
        let tracker = RunTracker::new();
        let _runs = [tracker.begin(), tracker.begin(), tracker.begin()];
        let begun = Instant::now();
        assert_eq!(tracker.close_and_wait(Duration::from_secs(3)).await, 3);
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
        assert_eq!(
            format!("{tracker:?}"),
            "RunTracker { running: 3, is_closed: true }"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_runs_there_is_nothing_to_wait_for() {
        assert_eq!(RunTracker::new().close_and_wait(Duration::ZERO).await, 0);
    }
}
