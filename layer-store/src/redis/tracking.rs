use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    connection::{SendError, Terms},
    link::Link,
    resp::{Command, RespValue},
};
use crate::{
    Key, Watch, Watchers,
    background::{self, Background},
};

/// Hints that watched keys changed, from a server that tracks them for this connection (`CLIENT TRACKING`, RESP3 alone).
///
/// The server tells once for each key that was read with tracking on. So a key is *armed* by such a read, and armed again after
/// each hint. A change between two armings is not told, so every arming gives a hint too. A new connection arms all keys.
///
/// It costs nothing before the first watch.
pub(super) struct Tracking {
    watchers: Watchers<Vec<u8>>,
    /// Keys to arm. All keys, if the connection is a new one.
    due: Mutex<BTreeSet<Vec<u8>>>,
    changed: Notify,
    task: Background,
    /// False if the server of the last connection does not track.
    available: AtomicBool,
}

/// The part of the tracking that a connection holds: messages go there. It is dropped with the connection, and so tells its end.
pub(super) struct Pushes(pub(super) Arc<Tracking>);

impl Tracking {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            watchers: Watchers::new(),
            due: Mutex::default(),
            changed: Notify::new(),
            task: Background::new(),
            available: AtomicBool::new(true),
        })
    }

    /// Watches a key. The server is asked in the background.
    pub(super) fn watch(self: &Arc<Self>, link: &Arc<Link>, key: &Key<'_>) -> Watch {
        let mut text = Vec::new();
        key.render(&mut text);
        let watch = self.watchers.watch(text.clone());
        self.due.lock().insert(text);
        self.changed.notify_one();
        let mut task = self.task.lock();
        if !task.is_running() {
            let tracking = run(self.clone(), Arc::downgrade(link));
            task.replace(background::spawn(link.runtime(), tracking));
        }
        watch
    }

    /// Returns false if the server gives no hints.
    pub(super) fn is_available(&self) -> bool {
        self.available.load(Relaxed)
    }

    /// Notes if the server of a new connection can give hints, as far as is known.
    pub(super) fn set_available(&self, available: bool) {
        self.available.store(available, Relaxed);
    }

    /// Ends the task.
    pub(super) fn stop(&self) {
        self.task.stop();
    }

    /// Takes a message such as `invalidate ["{ada}:data:seats"]`. Without keys everything was deleted.
    pub(super) fn take(&self, message: &[RespValue]) {
        let [kind, keys] = message else { return };
        if kind.to_text().as_deref() != Some("invalidate") {
            return;
        }
        match keys {
            RespValue::Array(keys) => {
                for key in keys {
                    if let RespValue::Bulk(key) = key {
                        self.invalidated(key.to_bytes().to_vec());
                    }
                }
            }
            _ => self.all_may_have_changed(),
        }
    }

    fn invalidated(&self, key: Vec<u8>) {
        self.watchers.hint(key.as_slice());
        self.due.lock().insert(key);
        self.changed.notify_one();
    }

    fn all_may_have_changed(&self) {
        if self.watchers.is_empty() {
            return;
        }
        self.watchers.hint_all();
        self.due.lock().extend(self.watchers.keys());
        self.changed.notify_one();
    }

    /// Takes the keys to arm that are still watched.
    fn take_due(&self) -> Vec<Vec<u8>> {
        let due = std::mem::take(&mut *self.due.lock());
        let watched = due.into_iter().filter(|key| self.watchers.has(key));
        watched.collect()
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.0.all_may_have_changed();
    }
}

/// Arms keys as they come.
async fn run(tracking: Arc<Tracking>, link: Weak<Link>) {
    loop {
        let keys = tracking.take_due();
        if keys.is_empty() {
            tracking.changed.notified().await;
            continue;
        }
        let Some(link) = link.upgrade() else { return };
        match arm(&link, &keys).await {
            Arming::Done => {
                tracking.set_available(true);
                for key in keys {
                    tracking.watchers.hint(key.as_slice());
                }
            }
            // ## The server does not track: the next connection may be to one that does
            Arming::Refused => tracking.set_available(false),
            // ## No connection, or one that is lost: later, all that is still watched
            Arming::Failed => {
                drop(link);
                tracking.due.lock().extend(keys);
                sleep(PAUSE).await;
            }
        }
    }
}

enum Arming {
    Done,
    Refused,
    Failed,
}

/// Has the server track keys.
async fn arm(link: &Arc<Link>, keys: &[Vec<u8>]) -> Arming {
    let deadline = Some(Instant::now() + LIMIT);
    let Ok(line) = link.line(deadline).await else {
        return Arming::Failed;
    };
    let terms = Terms {
        source: "watch",
        begun: Instant::now(),
        deadline,
        is_check: false,
    };
    // The inspection has switched tracking on, if the server has it.
    if !line.tracks() {
        return Arming::Refused;
    }
    let write = |out: &mut Vec<u8>| {
        for key in keys {
            Command::new(out, "CLIENT", 2).text("CACHING").text("YES");
            // The cheapest read of a key of any size.
            Command::new(out, "PTTL", 1).bytes(key);
        }
        Ok::<_, SendError>((2 * keys.len() as u32, ()))
    };
    match line.connection.send(terms, write).await {
        Ok((Some(replies), ())) if replies.as_slice().iter().any(is_refusal) => Arming::Refused,
        // Such as a server that is busy or loading.
        Ok((Some(replies), ())) if replies.as_slice().iter().any(is_error) => Arming::Failed,
        Ok(_) => Arming::Done,
        Err(SendError::Unproven) => {
            // The deadline of the check is that of the arming, which is tried again.
            let _ = link.check(&line, terms).await;
            Arming::Failed
        }
        Err(_) => Arming::Failed,
    }
}

fn is_refusal(reply: &RespValue) -> bool {
    let RespValue::Error(error) = reply else {
        return false;
    };
    matches!(error.code(), "NOPERM" | "ERR")
}

fn is_error(reply: &RespValue) -> bool {
    matches!(reply, RespValue::Error(_))
}

/// The time of one arming.
const LIMIT: Duration = Duration::from_secs(1);
/// The time from an arming that failed to the next.
const PAUSE: Duration = Duration::from_millis(100);
