use std::time::Duration;

use layer_store::{Caller, Effect, ErrorKind, Protocol, StoreError};
use tokio::time::{Instant, sleep_until};

/// Decides when a failed operation is tried again. Time comes in as a value.
///
/// An operation whose reply was lost may have been applied. It has to be tried again with the same token; otherwise its owner
/// would find its own lock or claim and wait for itself.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    /// The deadline once an operation has failed.
    deadline_of_retries: Instant,
    pause: Duration,
    /// True once a failed operation may have been applied.
    unsure: bool,
    repeat: Repeat,
}

/// The failed operations that are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Never,
    /// Once one of them may have been applied.
    IfUnsure,
    /// Those that a later attempt may not meet.
    IfItPasses,
    /// Also a refusal: a person may set the server right meanwhile.
    Always,
}

impl Retry {
    /// Retries for a caller who waits: only operations that may have been applied, and all of it within 180 ms. One attempt may
    /// take 500 ms, on a store that has no limit of its own.
    ///
    /// So a client is told within 200 ms that a store is gone. A call over a network has a limit of 100 ms by default.
    pub(crate) fn for_caller(now: Instant) -> Self {
        Self {
            deadline_of_retries: now + RETRIES_OF_CALLER,
            ..Self::new(now + CALLER_LIMIT, Repeat::IfUnsure)
        }
    }

    /// Makes one attempt for a caller who waits, of at most 500 ms.
    pub(crate) fn once(now: Instant) -> Self {
        Self::new(now + CALLER_LIMIT, Repeat::Never)
    }

    /// Retries in the background until `deadline`: every operation that may succeed later.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self::new(deadline, Repeat::IfItPasses)
    }

    /// Retries in the background until `deadline`, whatever the error is.
    pub(crate) fn stubborn(deadline: Instant) -> Self {
        Self::new(deadline, Repeat::Always)
    }

    fn new(deadline: Instant, repeat: Repeat) -> Self {
        Self {
            deadline,
            deadline_of_retries: deadline,
            pause: FIRST_PAUSE,
            unsure: false,
            repeat,
        }
    }

    /// Returns the time after which nothing is tried.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns true if an operation that failed may have been applied.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Decides about an operation that failed at `now` with `error`: returns the time of the next attempt, or `None` to give
    /// up.
    pub(crate) fn after(&mut self, error: &StoreError, now: Instant) -> Option<Instant> {
        self.unsure |= error.effect() == Effect::Unknown;
        // ## Give up: another attempt would fail in the same way.
        if self.repeat != Repeat::Always && !passes(error.kind()) {
            return None;
        }
        // ## Give up: this was the only attempt, or nothing was applied and a caller who waits is told so at once.
        let repeats = match self.repeat {
            Repeat::Never => false,
            Repeat::IfUnsure => self.unsure,
            Repeat::IfItPasses | Repeat::Always => true,
        };
        if !repeats {
            return None;
        }
        // ## Give up: no time is left.
        self.deadline = self.deadline.min(self.deadline_of_retries);
        let next = now + self.pause;
        if next >= self.deadline {
            return None;
        }
        // ## Try again. Pauses double, so that a store that comes back is not hit by all at once.
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        Some(next)
    }
}

/// Runs `protocol` until it succeeds or `retry` gives up. Returns the result, and when its last operation was sent.
pub(crate) async fn run_with_retry<P, T>(
    caller: &Caller,
    protocol: &mut P,
    retry: &mut Retry,
) -> (Result<T, StoreError>, Instant)
where
    P: Protocol<Output = Result<T, StoreError>> + Send + Sync,
{
    loop {
        let sent = Instant::now();
        let deadline = retry.deadline().into_std();
        let result = caller.run_by(protocol, Some(deadline)).await;
        let next = match &result {
            Ok(_) => None,
            Err(error) => retry.after(error, Instant::now()),
        };
        match next {
            Some(next) => sleep_until(next).await,
            None => return (result, sent),
        }
    }
}

/// Returns true for an error that a later attempt may not meet.
fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Deadline
            | ErrorKind::Overloaded
            | ErrorKind::Throttled
    )
}

/// The time that a caller waits for the reply to one attempt, and the limit of a call where the store has none.
pub(crate) const CALLER_LIMIT: Duration = Duration::from_millis(500);
/// The time after which a caller whose attempts have failed is told so: 200 ms, less what the rest of a request takes.
const RETRIES_OF_CALLER: Duration = Duration::from_millis(180);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: StoreError = StoreError::unknown(ErrorKind::Timeout);
    const FAILED: StoreError = StoreError::not_applied(ErrorKind::Unavailable);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_retries_only_what_may_have_been_applied() {
        let now = Instant::now();
        let mut retry = Retry::for_caller(now);
        assert_eq!(retry.deadline(), now + millis(500));
        assert_eq!(retry.after(&FAILED, now), None);
        assert!(!retry.is_unsure());
        assert_eq!(retry.after(&LOST, now), Some(now + millis(20)));
        assert!(retry.is_unsure());
        // Once one attempt may have been applied, the next one is repeated however it fails.
        assert_eq!(retry.after(&FAILED, now), Some(now + millis(40)));
        assert!(retry.is_unsure());
    }

    /// The limit of a call over a network is 100 ms: the second attempt has what is left.
    #[tokio::test(start_paused = true)]
    async fn a_caller_is_told_within_180_ms_that_attempts_fail_and_waits_longer_for_the_first_alone()
     {
        let now = Instant::now();
        let mut retry = Retry::for_caller(now);
        assert_eq!(retry.deadline(), now + millis(500));
        let second = now + millis(120);
        assert_eq!(retry.after(&LOST, now + millis(100)), Some(second));
        assert_eq!(retry.deadline(), now + millis(180));
        assert_eq!(retry.after(&LOST, retry.deadline()), None);
        let mut retry = Retry::for_caller(now);
        assert_eq!(retry.after(&LOST, now + millis(161)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_attempt_is_not_repeated() {
        let now = Instant::now();
        let mut retry = Retry::once(now);
        assert_eq!(retry.deadline(), now + millis(500));
        assert_eq!(retry.after(&LOST, now), None);
        assert!(retry.is_unsure());
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_the_background_retries_every_failure_that_passes() {
        let now = Instant::now();
        let all = [
            (ErrorKind::Unavailable, true),
            (ErrorKind::Timeout, true),
            (ErrorKind::Deadline, true),
            (ErrorKind::Overloaded, true),
            (ErrorKind::Throttled, true),
            (ErrorKind::Full, false),
            (ErrorKind::TooLarge, false),
            (ErrorKind::Rejected, false),
            (ErrorKind::CrossTag, false),
            (ErrorKind::Unsupported, false),
            (ErrorKind::Corrupt, false),
        ];
        for (kind, passes) in all {
            let mut retry = Retry::until(now + millis(1_000));
            let next = retry.after(&StoreError::not_applied(kind), now);
            assert_eq!(next.is_some(), passes, "{kind:?}");
            assert!(!retry.is_unsure());
            let mut stubborn = Retry::stubborn(now + millis(1_000));
            let next = stubborn.after(&StoreError::not_applied(kind), now);
            assert_eq!(next, Some(now + millis(20)), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_second() {
        let now = Instant::now();
        let mut retry = Retry::until(now + millis(1_000_000));
        for pause in [20, 40, 80, 160, 320, 640, 1_000, 1_000] {
            assert_eq!(retry.after(&FAILED, now), Some(now + millis(pause)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_begins_at_the_deadline_or_after_it() {
        let now = Instant::now();
        let next = |left: u64| Retry::until(now + millis(left)).after(&FAILED, now);
        assert_eq!(next(19), None);
        assert_eq!(next(20), None);
        assert_eq!(next(21), Some(now + millis(20)));
    }
}
