use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use layer_store::{ErrorKind, Finding, IdentityRef, Key, KeySpace, SharedStore, StoreError, Ttl};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::oneshot, time::Instant};

use super::{
    claim::Claimed,
    client_scope::ClientScope,
    config::{IdempotencyConfig, MAX_TIME},
    fingerprint::{Fields, run_name},
    handle::IdempotencyHandle,
    handler_run::HandlerRun,
    interrupted::{Interruption, settle_interrupted},
    once::TakeOnce,
    outcome::IdempotencyRefusal,
    record::{Record, RecordState},
    replay::refusal_of,
    retry_policy::RetryPolicy,
    run_error::RunError,
    settlement::Settlement,
};
use crate::{
    detached::spawn,
    doctor::UnfitStore,
    metrics::count_idempotent,
    retry::{Retry, run_with_retry},
    shared_store::warn_unless_shared,
    tracker::{RunTracker, TrackedRun},
};

/// Runs work once for each key, without HTTP: for job workers, consumers of queues and CLIs.
///
/// The first run with a key keeps its result. A repetition gets that result, and does not run. The claims, the records and the
/// meaning of a failure are those of [`IdempotencyLayer`](crate::IdempotencyLayer); the keys are apart from its keys. Clones
/// share everything.
///
/// ```
/// use std::convert::Infallible;
/// use lock_layer::{Idempotent, store::{MemoryStore, SharedStore}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let jobs = Idempotent::retry_safe(SharedStore::new(MemoryStore::new())).name("invoices");
/// let mut sent = 0;
/// for _ in 0..2 {
///     let number: u32 = jobs
///         .run("invoice 7", async || {
///             sent += 1;
///             Ok::<_, Infallible>(4711)
///         })
///         .await
///         .unwrap();
///     assert_eq!(number, 4711);
/// }
/// assert_eq!(sent, 1);
///
/// // Without a result: true for the first alone.
/// let minute = std::time::Duration::from_secs(60);
/// assert!(jobs.once("message 1", minute).await.unwrap());
/// assert!(!jobs.once("message 1", minute).await.unwrap());
/// # });
/// ```
#[derive(Clone)]
pub struct Idempotent {
    config: Arc<IdempotencyConfig>,
    name: Arc<str>,
    once: KeySpace,
}

impl Idempotent {
    /// Runs nothing twice, whatever happens. Work that panics or fails, or whose process dies, may have taken effect:
    /// repetitions get [`RunError::OutcomeUnknown`].
    ///
    /// Warns, once per process, if `store` is not shared.
    pub fn at_most_once(store: impl Into<SharedStore>) -> Self {
        Self::new(store.into(), RetryPolicy::AtMostOnce)
    }

    /// Runs work again that panicked or failed, or whose process died.
    ///
    /// Warns, once per process, if `store` is not shared.
    pub fn retry_safe(store: impl Into<SharedStore>) -> Self {
        Self::new(store.into(), RetryPolicy::RetrySafe)
    }

    fn new(store: SharedStore, retry_policy: RetryPolicy) -> Self {
        warn_unless_shared(&store);
        let mut config = IdempotencyConfig::new(store, ClientScope::global(), retry_policy);
        config.records = KeySpace::new("record", "run");
        Self {
            config: Arc::new(config),
            name: "".into(),
            once: KeySpace::new("record", "once"),
        }
    }

    /// Names the keys, such as `invoices`, so that those of two kinds of work are apart. Default: no name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the time for which results are kept. See [`IdempotencyLayer::keep_for`](crate::IdempotencyLayer::keep_for).
    ///
    /// # Panics
    ///
    /// Where that does.
    #[must_use]
    #[track_caller]
    pub fn keep_for(mut self, time: Duration) -> Self {
        match Arc::make_mut(&mut self.config).set_keep_for(time) {
            Ok(()) => self,
            Err(text) => panic!("{text}"),
        }
    }

    /// Sets the time that a run is expected to take. See
    /// [`IdempotencyLayer::expected_run`](crate::IdempotencyLayer::expected_run).
    ///
    /// # Panics
    ///
    /// Where that does.
    #[must_use]
    #[track_caller]
    pub fn expected_run(mut self, time: Duration) -> Self {
        match Arc::make_mut(&mut self.config).set_expected_run(time) {
            Ok(()) => self,
            Err(text) => panic!("{text}"),
        }
    }

    /// Keeps copies of results in this process, of at most so many bytes in all, and believes each for `time`. By default there
    /// are none. See [`IdempotencyLayer::local_copies`](crate::IdempotencyLayer::local_copies).
    ///
    /// For a queue that delivers a message many times: the second repetition costs no command.
    ///
    /// # Panics
    ///
    /// If one of them is zero.
    #[must_use]
    #[track_caller]
    pub fn local_copies(mut self, bytes: usize, time: Duration) -> Self {
        Arc::make_mut(&mut self.config).set_local_copies(bytes, time);
        self
    }

    /// Returns a handle that settles the records of runs that wait for a person. It finds them by name, and lists them.
    pub fn handle(&self) -> IdempotencyHandle {
        IdempotencyHandle::new(self.config.clone())
    }

    /// Returns the tracker of the runs, so that a worker that stops can wait for them. See [`RunTracker`].
    pub fn tracker(&self) -> RunTracker {
        self.config.tracker.clone()
    }

    /// Lets `tracker` track the runs, together with those of others.
    #[must_use]
    pub fn tracked_by(mut self, tracker: &RunTracker) -> Self {
        Arc::make_mut(&mut self.config).tracker = tracker.clone();
        self
    }

    /// Returns what is known of the store's server. See [`IdempotencyLayer::doctor`](crate::IdempotencyLayer::doctor).
    pub fn doctor(&self) -> Vec<Finding> {
        let store_use = self.config.retry_policy.store_use();
        store_use.findings(&self.config.caller.info())
    }

    /// Checks that the store is fit for these records. See [`IdempotencyLayer::checked`](crate::IdempotencyLayer::checked).
    ///
    /// # Errors
    ///
    /// Where that does.
    pub fn checked(self) -> Result<Self, UnfitStore> {
        let store_use = self.config.retry_policy.store_use();
        store_use.check(&self.config.caller.info())?;
        Ok(self)
    }

    /// Runs `work`, or returns the result of the run that there was with this key. The result is kept as JSON.
    ///
    /// # Errors
    ///
    /// - [`Failed`](RunError::Failed): the work failed.
    /// - [`InProgress`](RunError::InProgress), [`OutcomeUnknown`](RunError::OutcomeUnknown),
    ///   [`ResultNotKept`](RunError::ResultNotKept): there was a run, and this is what is known of it.
    /// - [`Unavailable`](RunError::Unavailable), [`Closing`](RunError::Closing): nothing was done.
    ///
    /// # Panics
    ///
    /// If `work` panics, after that was recorded; and outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the work. The run is recorded as one that broke off, at once in memory, and elsewhere
    /// with the next call. Spawn what must not be stopped.
    pub async fn run<T, E, F>(
        &self,
        key: impl AsRef<[u8]>,
        work: impl FnOnce() -> F,
    ) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, E>>,
    {
        let name = run_name(&self.name, key.as_ref());
        // A repetition is no run, and has its result while the worker stops, too.
        if let Some(record) = self.config.local_copy(&name) {
            return repeated(Some(record), &self.config);
        }
        let Some(tracked) = self.config.tracker.begin() else {
            return Err(refuse(IdempotencyRefusal::Closing));
        };
        settle_interrupted(&self.config);
        let run = HandlerRun::new(
            self.config.clone(),
            name,
            Fields::new("fingerprint").into_fingerprint(),
        );
        let (run, tracked) = match claim(run, tracked).await {
            Ok((run, tracked, Claimed::Mine)) => (run, tracked),
            Ok((run, _, Claimed::Taken(record))) => {
                if let Some(record) = &record {
                    run.config.keep_local_copy(run.name, record);
                }
                return repeated(record, &run.config);
            }
            Err(error) => {
                count_idempotent("store_unavailable");
                return Err(RunError::Unavailable(error));
            }
        };
        count_idempotent("run");
        let interruption = Interruption::of(&run);
        let worked = run.renewing(AssertUnwindSafe(work()).catch_unwind()).await;
        interruption.settled();
        let settlement = match &worked {
            Ok(Ok(value)) => run.keep_result(value),
            Ok(Err(_)) | Err(_) => run.broken_off(),
        };
        if let Err(error) = run.settle_once(&settlement).await {
            tracing::warn!(error = %error.report(), "an idempotency record is written in the background");
            spawn(async move {
                run.settle_in_background(&settlement).await;
                drop(tracked);
            });
        }
        match worked {
            Ok(result) => result.map_err(RunError::Failed),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Returns true the first time that it is called with `key` within `time`, over all processes on the store. For work without
    /// a result, such as a message that a queue may deliver twice.
    ///
    /// The key is taken before the work: if that fails, it is not repeated. Where it must be, use [`run`](Self::run) with
    /// `retry_safe`. `time` is 1 ms to ten years; one that is shorter or longer is taken as the nearest of them.
    ///
    /// # Errors
    ///
    /// The store did not reply: within 200 ms over a network by default, and within 500 ms on any store. The key may have been
    /// taken all the same.
    pub async fn once(&self, key: impl AsRef<[u8]>, time: Duration) -> Result<bool, StoreError> {
        let name = run_name(&self.name, key.as_ref());
        let time = time.clamp(Duration::from_millis(1), MAX_TIME);
        let life = Ttl::try_from(time).expect("a millisecond is not zero");
        let key = Key::new(&self.once, IdentityRef::Text(name.as_bytes()));
        let mut protocol = TakeOnce::new(key, life);
        let caller = &self.config.caller;
        match caller.run_now(&mut protocol) {
            Some(taken) => taken,
            None => {
                let mut retry = Retry::for_caller(Instant::now());
                run_with_retry(caller, &mut protocol, &mut retry).await.0
            }
        }
    }
}

/// Returns what is known of the run that there was.
fn repeated<T, E>(record: Option<Record>, config: &IdempotencyConfig) -> Result<T, RunError<E>>
where
    T: DeserializeOwned,
{
    let Some(record) = record else {
        tracing::error!("an idempotency record cannot be read");
        return Err(refuse(IdempotencyRefusal::OutcomeUnknown));
    };
    match record.state {
        RecordState::Completed(kept) => {
            count_idempotent("replayed");
            serde_json::from_slice(kept.content.data()).map_err(|error| {
                tracing::error!(%error, "the result of a run is of another type");
                RunError::ResultNotKept
            })
        }
        state => {
            let refusal = refusal_of(&state, |deadline| config.is_overdue(deadline));
            Err(refuse(refusal))
        }
    }
}

fn refuse<E>(refusal: IdempotencyRefusal) -> RunError<E> {
    count_idempotent(refusal.as_str());
    RunError::of(refusal)
}

type ClaimedRun = (HandlerRun, TrackedRun, Claimed);

/// Claims the record. In a task, if the store has to wait: a caller that is gone by then leaves no claim.
async fn claim(mut run: HandlerRun, tracked: TrackedRun) -> Result<ClaimedRun, StoreError> {
    if let Some(claimed) = run.claim_now() {
        return claimed.map(|claimed| (run, tracked, claimed));
    }
    let (reply, receiver) = oneshot::channel();
    spawn(async move {
        let mut retry = Retry::for_caller(Instant::now());
        match run.claim(&mut retry).await {
            Ok(claimed) => {
                // ## Claimed => Removed: nobody waits for it any more.
                if let Err(Ok((run, _tracked, Claimed::Mine))) =
                    reply.send(Ok((run, tracked, claimed)))
                {
                    run.give_up_claim().await;
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                if retry.is_unsure() {
                    run.give_up_claim().await;
                }
            }
        }
    });
    match receiver.await {
        Ok(claimed) => claimed,
        // The runtime shuts down and dropped the task.
        Err(_) => Err(StoreError::unknown(ErrorKind::Unavailable)),
    }
}

impl HandlerRun {
    /// Returns the settlement of a run with this result.
    fn keep_result(&self, value: &impl Serialize) -> Settlement {
        match serde_json::to_vec(value) {
            Ok(json) => {
                let content = self.content(json.into(), None);
                let (settlement, _) = self.completed(StatusCode::OK, &HeaderMap::new(), content);
                settlement
            }
            Err(error) => {
                tracing::error!(%error, "the result of a run cannot be kept: it cannot be written as JSON");
                Settlement::small(self.id.body_not_kept(StatusCode::OK))
            }
        }
    }
}

impl fmt::Debug for Idempotent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotent")
            .field("store", self.config.caller.store())
            .field("retry_policy", &self.config.retry_policy)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
