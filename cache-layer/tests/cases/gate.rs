//! A store that releases one call at a time.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use cache_layer::store::{
    Context, ErrorKind, Key, Op, Reply, SharedStore, Store, StoreError, StoreInfo, Watch,
};
use tokio::sync::oneshot;

use super::eventually;

/// A store that a test holds up: each call waits before it is applied and before it is answered.
#[derive(Clone)]
pub struct Gate {
    inner: SharedStore,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    split: AtomicBool,
    waiting: Mutex<Vec<Held>>,
}

/// A call that waits.
pub struct Held {
    pub name: &'static str,
    apply: Option<oneshot::Sender<()>>,
    applied: oneshot::Receiver<()>,
    answer: oneshot::Sender<bool>,
}

impl Gate {
    /// An open gate before `store`, which always waits: nothing is answered through `call_now`.
    pub fn new(store: &SharedStore) -> Self {
        Self {
            inner: store.clone(),
            shared: Arc::default(),
        }
    }

    pub fn store(&self) -> SharedStore {
        SharedStore::new(self.clone())
    }

    /// From now on every call waits for the test.
    pub fn close(&self) {
        self.shared.closed.store(true, SeqCst);
    }

    pub fn open(&self) {
        self.shared.closed.store(false, SeqCst);
    }

    /// Sends the operations of a batch, or of a delete of several keys, one after the other, as a Cluster may.
    pub fn split(&self) {
        self.shared.split.store(true, SeqCst);
    }

    /// The next call, once it has come.
    pub async fn next(&self, name: &str) -> Held {
        eventually(name, || !self.shared.waiting.lock().unwrap().is_empty()).await;
        let held = self.shared.waiting.lock().unwrap().remove(0);
        assert_eq!(held.name, name);
        held
    }

    pub fn is_idle(&self) -> bool {
        self.shared.waiting.lock().unwrap().is_empty()
    }

    /// Lets all calls through for a while.
    pub async fn drain(&self) {
        for _ in 0..1_000 {
            for held in self.take() {
                held.pass().await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes all calls that wait.
    pub fn take(&self) -> Vec<Held> {
        std::mem::take(&mut *self.shared.waiting.lock().unwrap())
    }

    async fn pass(&self, op: &Op<'_>, cx: &Context) -> Result<Reply, StoreError> {
        if !self.shared.closed.load(SeqCst) {
            return self.inner.call(op, cx).await;
        }
        let (apply, may_apply) = oneshot::channel();
        let (has_applied, applied) = oneshot::channel();
        let (answer, may_answer) = oneshot::channel();
        self.shared.waiting.lock().unwrap().push(Held {
            name: name(op),
            apply: Some(apply),
            applied,
            answer,
        });
        may_apply.await.unwrap();
        let reply = self.inner.call(op, cx).await;
        let _ = has_applied.send(());
        match may_answer.await {
            Ok(true) => reply,
            _ => Err(StoreError::unknown(ErrorKind::Timeout)),
        }
    }
}

impl Held {
    /// Applies the call. Its sender does not know yet.
    pub async fn apply(&mut self) {
        let _ = self.apply.take().unwrap().send(());
        (&mut self.applied).await.unwrap();
    }

    pub fn is_applied(&self) -> bool {
        self.apply.is_none()
    }

    pub fn answer(self) {
        let _ = self.answer.send(true);
    }

    /// Loses the reply on its way.
    pub fn lose(self) {
        let _ = self.answer.send(false);
    }

    pub async fn pass(mut self) {
        self.apply().await;
        self.answer();
    }
}

impl Store for Gate {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        let split = self.shared.split.load(SeqCst);
        match op {
            Op::DeleteMany(keys) if split => {
                for key in *keys {
                    let if_equals = None;
                    self.pass(&Op::Delete { key, if_equals }, cx).await?;
                }
                Ok(Reply::Count(keys.len() as u64))
            }
            Op::Batch(ops) if split => {
                let mut replies = Vec::new();
                for op in *ops {
                    replies.push(self.pass(op, cx).await);
                }
                Ok(Reply::Batch(replies))
            }
            _ => self.pass(op, cx).await,
        }
    }

    fn call_now(&self, _: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        None
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.inner.watch(key)
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        // A call waits until the gate is opened.
        info.answers_now = false;
        info.keeps_deadlines = false;
        // It is asked for nothing but what a test names.
        info.incarnation = None;
        info
    }
}

fn name(op: &Op<'_>) -> &'static str {
    match op {
        Op::Get(_) => "get",
        Op::GetMany(_) => "get_many",
        Op::Set { .. } => "set",
        Op::Delete { .. } => "delete",
        Op::DeleteMany(_) => "delete_many",
        Op::Touch { .. } => "touch",
        Op::Batch(_) => "batch",
        _ => "other",
    }
}
