use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use tokio::task::yield_now;

/// A look of the runtime at its sockets, which a busy runtime may put off.
///
/// A task learns of bytes that have arrived only after the runtime has asked the system for them. A yielded task goes on after
/// that. So a task that yields first, and then finds nothing to read, knows that nothing had arrived.
pub(super) struct Look(Arc<State>);

struct State {
    is_over: AtomicBool,
    task: Waker,
}

impl Look {
    /// Begins a look. The task of `cx` is woken when it is over.
    pub(super) fn begin(cx: &Context<'_>) -> Self {
        let state = Arc::new(State {
            is_over: AtomicBool::new(false),
            task: cx.waker().clone(),
        });
        // Its own waker tells it from others that wake the task meanwhile.
        let waker = Waker::from(state.clone());
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        Self(state)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test]
    async fn it_is_over_after_the_task_has_yielded_and_not_before() {
        let mut look = None;
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            let look = look.get_or_insert_with(|| Look::begin(cx));
            match look.is_over() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        assert_eq!(polls, 2);
    }
}
