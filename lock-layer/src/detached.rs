use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tracing::Instrument;

/// A future that goes on in a task of its own if it is dropped before its end.
///
/// For work that must not stop when its caller leaves. The usual caller stays: then there is no task, and no hop to it and back.
///
/// The task runs on the runtime on which the future was made. If that has ended, the future is dropped.
pub(crate) struct Detached<T: Send + 'static> {
    /// `None` once it has ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    runtime: Option<Handle>,
}

impl<T: Send + 'static> Detached<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            work: Some(Box::pin(work)),
            runtime: Handle::try_current().ok(),
        }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out: if it panics, it is dropped here and does not go on.
        let work = self.work.take();
        let mut work = work.expect("a future is not polled again after it is ready");
        let poll = work.as_mut().poll(cx);
        if poll.is_pending() {
            self.work = Some(work);
        }
        poll
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        // ## Waiting => Left: the work goes on.
        if let (Some(work), Some(runtime)) = (self.work.take(), self.runtime.take()) {
            let rest = async move { drop(work.await) };
            runtime.spawn(rest.instrument(tracing::Span::current()));
        }
    }
}

/// Spawns `task` in the caller's span.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task.instrument(tracing::Span::current()));
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Duration,
    };

    use futures_util::FutureExt;
    use tokio::{
        runtime::Runtime,
        task::yield_now,
        time::{advance, sleep},
    };

    use super::*;

    /// Makes work that counts its ends.
    fn counted(ends: &Arc<AtomicUsize>) -> Detached<()> {
        let ends = ends.clone();
        Detached::new(async move {
            sleep(Duration::from_millis(10)).await;
            ends.fetch_add(1, SeqCst);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_once_if_its_caller_stays_and_if_it_leaves() {
        let ends = Arc::new(AtomicUsize::new(0));
        counted(&ends).await;
        assert_eq!(ends.load(SeqCst), 1);
        drop(counted(&ends));
        let mut begun = counted(&ends);
        assert!((&mut begun).now_or_never().is_none());
        drop(begun);
        yield_now().await;
        assert_eq!(ends.load(SeqCst), 1);
        advance(Duration::from_millis(11)).await;
        yield_now().await;
        assert_eq!(ends.load(SeqCst), 3);
    }

    #[test]
    fn a_caller_may_leave_outside_of_the_runtime() {
        let ends = Arc::new(AtomicUsize::new(0));
        let runtime = Runtime::new().unwrap();
        let work = {
            let _entered = runtime.enter();
            counted(&ends)
        };
        drop(work);
        runtime.block_on(async {
            while ends.load(SeqCst) == 0 {
                yield_now().await;
            }
        });
    }

    #[tokio::test]
    async fn work_that_panicked_does_not_go_on() {
        let mut work = Detached::new(async { panic!("as it was asked to") });
        let poll = std::panic::AssertUnwindSafe(&mut work).catch_unwind().await;
        assert!(poll.is_err() && work.work.is_none());
    }
}
