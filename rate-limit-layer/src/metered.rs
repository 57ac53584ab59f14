use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use layer_store::Identity;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;

use crate::{Limiter, body_end::has_ended};

impl Limiter {
    /// Charges `identity` the bytes of `body` as they go by, one unit for each: the body of a request or of a response, of any length.
    ///
    /// For quotas of bytes where the length of a body is not known before, such as streams, downloads that break off, and uploads. They are
    /// charged in steps of 64 KiB ([`MeteredBody::step`]), and the rest when the body ends or is dropped: half-way, what went by.
    ///
    /// A body never waits and is never cut short. Once nothing is left its bytes go on uncharged, as with
    /// [`penalize`](Self::penalize), and the next check is refused. So in any interval of length `t` at most `burst + limit * t / window` bytes
    /// go by, and those of the bodies that were let through before nothing was left. If the store fails, the bytes of that step are not
    /// charged, and an event at debug tells so.
    ///
    /// Over a network a step is a command, two if less is left than it takes; a body has one under way at a time. What goes by meanwhile is
    /// added to the next.
    ///
    /// ```
    /// use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
    /// use rate_limit_layer::{Quota, RateLimitLayer, store::MemoryStore};
    /// use std::net::SocketAddr;
    ///
    /// // 10 GB a day for each address. The layer refuses a request once nothing is left.
    /// let bytes = Quota::per_day(10_000_000_000).name("bytes").fail_open();
    /// let limit = RateLimitLayer::new(MemoryStore::new(), bytes);
    /// let meter = limit.handle();
    /// let download = async move |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
    ///     let stream = Body::from("a long file");
    ///     Body::new(meter.meter(peer.ip(), stream))
    /// };
    /// let app: Router = Router::new().route("/file", get(download)).layer(limit);
    /// # let _ = app;
    /// ```
    ///
    /// Over a network it needs a tokio runtime, also where the body is dropped. Without one the bytes of that step are not charged.
    pub fn meter<'a, B>(&self, identity: impl Into<Identity<'a>>, body: B) -> MeteredBody<B> {
        let account = Account {
            limiter: self.clone(),
            identity: identity.into().into_owned(),
            owed: AtomicU64::new(0),
            is_charging: AtomicBool::new(false),
        };
        MeteredBody {
            inner: body,
            meter: Meter {
                account: Arc::new(account),
                step: STEP,
                passed: 0,
            },
        }
    }
}

pin_project! {
    /// A body whose bytes are charged as they go by: see [`Limiter::meter`].
    #[must_use]
    pub struct MeteredBody<B> {
        #[pin]
        inner: B,
        meter: Meter,
    }
}

/// The bytes that went by and are not charged yet. Dropped, it charges them.
struct Meter {
    account: Arc<Account>,
    step: u64,
    passed: u64,
}

/// The bytes of a body that are still to be charged, and the right to charge them.
struct Account {
    limiter: Limiter,
    identity: Identity<'static>,
    owed: AtomicU64,
    /// True while one task, or one call, charges.
    is_charging: AtomicBool,
}

impl<B> MeteredBody<B> {
    /// Sets how many bytes go by before they are charged. Default 65,536. Zero charges each frame.
    ///
    /// A smaller step is nearer to the truth, a larger one takes fewer commands.
    pub fn step(mut self, bytes: u64) -> Self {
        self.meter.step = bytes;
        self
    }
}

impl Meter {
    fn pass(&mut self, bytes: usize) {
        self.passed = self.passed.saturating_add(bytes as u64);
        if self.passed >= self.step {
            self.charge();
        }
    }

    fn charge(&mut self) {
        match std::mem::take(&mut self.passed) {
            0 => {}
            passed => self.account.charge(passed),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.charge();
    }
}

impl Account {
    fn charge(self: &Arc<Self>, bytes: u64) {
        self.owed.fetch_add(bytes, AcqRel);
        // ## Charging => charging more
        if self.is_charging.swap(true, AcqRel) {
            return;
        }
        // ## Idle => charged at once | charged by a task
        // It may run in a destructor, which cannot wait.
        let mut work = Box::pin(self.clone().work());
        let mut cx = Context::from_waker(Waker::noop());
        if work.as_mut().poll(&mut cx).is_pending()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }

    /// Charges what is owed, until nothing is.
    async fn work(self: Arc<Self>) {
        // Also if the task ends with its runtime: a later step is then charged by another one.
        let charging = Charging(&self.is_charging);
        loop {
            while let bytes @ 1.. = self.owed.swap(0, AcqRel) {
                if let Err(error) = self.limiter.penalize(self.identity.clone(), bytes).await {
                    tracing::debug!(
                        bytes,
                        kind = error.kind().as_str(),
                        error = %error.report(),
                        "bytes not charged"
                    );
                }
            }
            // A swap and not a store: whoever adds bytes and finds this flag set is seen by the load that follows.
            self.is_charging.swap(false, AcqRel);
            // ## Charging => idle | more came in between, and nobody else charges it
            if self.owed.load(Acquire) == 0 || self.is_charging.swap(true, AcqRel) {
                break;
            }
        }
        // It is somebody else's now.
        std::mem::forget(charging);
    }
}

/// The right to charge, given up on drop.
struct Charging<'a>(&'a AtomicBool);

impl Drop for Charging<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

impl<B> http_body::Body for MeteredBody<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.meter.pass(data.len());
        }
        if has_ended(&frame, &*this.inner) {
            this.meter.charge();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for MeteredBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeteredBody")
            .field("step", &self.meter.step)
            .field("passed", &self.meter.passed)
            .finish_non_exhaustive()
    }
}

/// In bytes.
const STEP: u64 = 65_536;

#[cfg(test)]
mod tests;
