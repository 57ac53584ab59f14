//! A store that replies as a test sets it and notes its operations.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    Context, Effect, ErrorKind, Key, Op, Output, Reply, Store, StoreError, StoreInfo, Traffic,
    Watch,
};

#[derive(Clone)]
pub(super) struct Fake {
    state: Arc<State>,
    keeps_deadlines: bool,
}

struct State {
    mode: Mutex<Mode>,
    sent: Mutex<Vec<String>>,
    received: AtomicU64,
    shared: AtomicBool,
    traffic: Mutex<Traffic>,
}

#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// Replies, at once or after a while.
    Reply,
    ReplyAfter(Duration),
    /// Fails, not applied.
    Fail(ErrorKind),
    /// Fails, and may have been applied.
    Lose(ErrorKind),
    /// Fails at the caller's deadline.
    FailLate(ErrorKind, Effect),
    /// Replies to reads and fails writes, not applied.
    FailWrites(ErrorKind),
    Hang,
    /// Hangs while bytes come in.
    Drip,
    /// Needs no waiting.
    Now,
}

impl Fake {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            state: Arc::new(State {
                mode: Mutex::new(mode),
                sent: Mutex::default(),
                received: AtomicU64::new(0),
                shared: AtomicBool::new(false),
                traffic: Mutex::default(),
            }),
            keeps_deadlines: false,
        }
    }

    /// Makes a store that says that it ends its calls by their deadline.
    pub(super) fn keeping_deadlines(mode: Mode) -> Self {
        Self {
            keeps_deadlines: true,
            ..Self::new(mode)
        }
    }

    pub(super) fn turn(&self, mode: Mode) {
        *self.state.mode.lock() = mode;
    }

    /// Makes it a store that other processes share.
    #[cfg(feature = "metrics")]
    pub(super) fn shared(self) -> Self {
        self.state.shared.store(true, Relaxed);
        self
    }

    #[cfg(feature = "metrics")]
    pub(super) fn set_traffic(&self, connections: u32, in_flight: u32, commands: u64) {
        *self.state.traffic.lock() = Traffic {
            connections,
            in_flight,
            commands,
        };
    }

    /// Takes the operations since the last time: their names, and their keys' texts.
    pub(super) fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.state.sent.lock())
    }

    /// Returns the number of clones.
    pub(super) fn holders(&self) -> usize {
        Arc::strong_count(&self.state)
    }

    fn note(&self, op: &Op<'_>) {
        self.state.sent.lock().push(describe(op));
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for Fake {
    async fn call<'a>(&'a self, op: &'a Op<'a>, cx: &'a Context) -> Result<Reply, StoreError> {
        self.note(op);
        let mode = *self.state.mode.lock();
        match mode {
            Mode::Reply | Mode::Now => Ok(reply(op)),
            Mode::ReplyAfter(time) => {
                tokio::time::sleep(time).await;
                Ok(reply(op))
            }
            Mode::Fail(kind) => Err(error(kind, Effect::NotApplied)),
            Mode::Lose(kind) => Err(error(kind, Effect::Unknown)),
            Mode::FailLate(kind, effect) => {
                let deadline = cx.deadline.expect("a deadline");
                tokio::time::sleep_until(deadline.into()).await;
                Err(error(kind, effect))
            }
            Mode::FailWrites(kind) => match op.is_read() {
                true => Ok(reply(op)),
                false => Err(error(kind, Effect::NotApplied)),
            },
            Mode::Hang => pending().await,
            Mode::Drip => {
                self.state.received.fetch_add(1, Relaxed);
                pending().await
            }
        }
    }

    fn call_now(&self, op: &Op<'_>, _: &Context) -> Option<Result<Reply, StoreError>> {
        let mode = *self.state.mode.lock();
        matches!(mode, Mode::Now).then(|| {
            self.note(op);
            Ok(reply(op))
        })
    }

    fn watch(&self, key: &Key<'_>) -> Watch {
        self.state.sent.lock().push(format!("watch {}", text(key)));
        Watch::never()
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo::new("fake");
        info.keeps_deadlines = self.keeps_deadlines;
        info.received = self.state.received.load(Relaxed);
        info.shared = self.state.shared.load(Relaxed);
        info.traffic = *self.state.traffic.lock();
        info
    }
}

/// An error with the source that a server would give.
fn error(kind: ErrorKind, effect: Effect) -> StoreError {
    let error = match effect {
        Effect::NotApplied => StoreError::not_applied(kind),
        Effect::Unknown => StoreError::unknown(kind),
    };
    error.with_source("the server's own words")
}

fn reply(op: &Op<'_>) -> Reply {
    match op {
        Op::Get(_) => Reply::Value(None),
        Op::GetMany(keys) => Reply::Values(vec![None; keys.len()]),
        Op::Set { .. } => Reply::Set {
            applied: true,
            existing: None,
        },
        Op::Delete { .. } | Op::DeleteMany(_) | Op::Touch { .. } => Reply::Count(0),
        Op::Add { delta, .. } => Reply::Added {
            applied: true,
            value: *delta,
        },
        Op::Scan(_) => Reply::Page(Box::default()),
        Op::Run { .. } => Reply::Output(Output::ints(&[])),
        Op::Batch(ops) => Reply::Batch(ops.iter().map(|op| Ok(reply(op))).collect()),
        Op::Ping => Reply::Pong,
    }
}

pub(super) fn describe(op: &Op<'_>) -> String {
    let (name, keys) = match op {
        Op::Get(key) => ("get", vec![text(key)]),
        Op::GetMany(keys) => ("get many", keys.iter().map(text).collect()),
        Op::Set { key, .. } => ("set", vec![text(key)]),
        Op::Delete { key, .. } => ("delete", vec![text(key)]),
        Op::DeleteMany(keys) => ("delete many", keys.iter().map(text).collect()),
        Op::Touch { key, .. } => ("touch", vec![text(key)]),
        Op::Add { key, .. } => ("add", vec![text(key)]),
        Op::Scan(scan) => ("scan", vec![scan.text()]),
        Op::Run { keys, .. } => ("run", keys.iter().map(text).collect()),
        Op::Batch(ops) => ("batch", ops.iter().map(describe).collect()),
        Op::Ping => return "ping".into(),
    };
    format!("{name} {}", keys.join(", "))
}

fn text(key: &Key<'_>) -> String {
    let mut text = Vec::new();
    key.render(&mut text);
    String::from_utf8(text).unwrap()
}
