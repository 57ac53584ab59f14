use std::{
    future::Future,
    task::{Context, Poll, Waker},
};

use tokio::{runtime::Handle, task::JoinHandle};

/// Work that goes on when its caller is dropped.
#[derive(Debug)]
pub(crate) enum Detached<T> {
    /// It needed no waiting.
    Done(T),
    /// It runs in a task of its own.
    Running(JoinHandle<T>),
    /// It has to wait, and there is no runtime for it.
    Lost,
}

/// Runs `work` to its end, even if the caller is dropped: at once if it needs no waiting, otherwise in a task of its own.
pub(crate) fn detach<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Detached<T> {
    let mut work = Box::pin(work);
    let first = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    match (first, Handle::try_current()) {
        (Poll::Ready(done), _) => Detached::Done(done),
        (Poll::Pending, Ok(runtime)) => Detached::Running(runtime.spawn(work)),
        (Poll::Pending, Err(_)) => Detached::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_waits_goes_on_in_a_task() {
        assert!(matches!(detach(async { 1 }), Detached::Done(1)));
        let Detached::Running(task) = detach(async {
            tokio::task::yield_now().await;
            2
        }) else {
            panic!("it waits");
        };
        assert_eq!(task.await.unwrap(), 2);
    }

    #[test]
    fn work_that_waits_is_lost_without_a_runtime() {
        let work = std::future::pending::<()>();
        assert!(matches!(detach(work), Detached::Lost));
    }
}
