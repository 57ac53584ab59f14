use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    future::pending,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// A source of hints that a key changed, made by [`Store::watch`](crate::Store::watch). Dropping it ends the watch.
///
/// A hint may be late, lost, or come without a change, so every user has a timer too.
/// [`StoreInfo::watches`](crate::StoreInfo::watches) is true for a store that sends hints.
///
/// ```
/// use layer_store::{Context, IdentityRef, Key, KeySpace, MemoryStore, Store, StoreExt, Ttl};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (store, cx, minute) = (MemoryStore::new(), Context::new("example"), Ttl::from_millis(60_000).unwrap());
/// let seats = KeySpace::new("data", "seats");
/// let seat = Key::new(&seats, IdentityRef::Int(7));
/// let mut watch = store.watch(&seat);
/// store.put(&cx, &seat, &"ada".into(), minute).await?;
/// watch.changed().await; // at once
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
#[must_use = "a watch that is dropped gets no hints"]
pub struct Watch(Option<Registered>);

/// A watch of one key, in some store's [`Watchers`].
struct Registered {
    hints: watch::Receiver<()>,
    /// Dropped after `hints`, so that it sees if others are left.
    _entry: Box<dyn Send + Sync>,
}

/// The keys that somebody watches, for a store that sends hints: it makes each [`Watch`], and hints at what changed.
///
/// `K` is what the store knows of a changed key, such as its text. Clones share their watchers.
///
/// ```
/// use layer_store::Watchers;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let watchers: Watchers<Vec<u8>> = Watchers::new();
/// let mut watch = watchers.watch(b"{ada}:data:seats".to_vec());
/// assert!(!watchers.is_empty());
///
/// // The server tells that a key changed.
/// watchers.hint(&b"{ada}:data:seats"[..]);
/// watch.changed().await;
///
/// drop(watch);
/// assert!(watchers.is_empty());
/// # });
/// ```
pub struct Watchers<K>(Arc<Registry<K>>);

struct Registry<K> {
    /// The number of keys, for a look without the lock.
    len: AtomicUsize,
    keys: Mutex<HashMap<K, watch::Sender<()>>>,
}

/// Removes a key when its last watch is dropped.
struct Entry<K: Hash + Eq> {
    watchers: Watchers<K>,
    key: K,
}

impl Watch {
    /// Makes a watch without hints.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Waits for the next hint. A hint since the watch was made, or since the last call, counts.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no hint.
    pub async fn changed(&mut self) {
        if let Some(Registered { hints, .. }) = &mut self.0
            && hints.changed().await.is_ok()
        {
            return;
        }
        // Nobody is left who could send a hint.
        pending().await
    }

    /// Returns true if a hint waits for [`changed`](Self::changed), which would return at once. It takes no hint.
    ///
    /// For one who looks at many watches, such as before each use of a copy.
    #[inline]
    pub fn has_hint(&self) -> bool {
        let hints = self.0.as_ref().map(|Registered { hints, .. }| hints);
        hints.is_some_and(|hints| hints.has_changed().unwrap_or(false))
    }

    /// Takes the hint that waits, if there is one. Returns true if there was.
    pub fn take_hint(&mut self) -> bool {
        let changed = self.has_hint();
        // A hint that comes between the two is not taken unless it is told.
        if changed && let Some(Registered { hints, .. }) = &mut self.0 {
            hints.mark_unchanged();
        }
        changed
    }
}

impl Watch {
    /// Waits for the next hint, or for `time`, whichever comes first. Returns true after a hint.
    ///
    /// This is the timer that every user of a watch needs: look again after it has returned, whatever it returned.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no hint.
    pub async fn changed_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.changed()).await.is_ok()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hints = self.0.is_some();
        f.debug_struct("Watch").field("hints", &hints).finish()
    }
}

impl<K> Watchers<K> {
    /// Returns true if nobody watches.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of keys that are watched.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len.load(Relaxed)
    }
}

impl<K: Hash + Eq> Watchers<K> {
    /// Makes the watchers of a store. There are none yet.
    pub fn new() -> Self {
        Self(Arc::new(Registry {
            len: AtomicUsize::new(0),
            keys: Mutex::default(),
        }))
    }

    /// Hints that `key` changed. Costs one read of a number if nobody watches any key.
    #[inline]
    pub fn hint<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.is_empty() {
            self.hint_watched(key);
        }
    }

    #[cold]
    fn hint_watched<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(hints) = self.0.keys.lock().get(key) {
            hints.send_replace(());
        }
    }

    /// Returns true if `key` is watched.
    pub fn has<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.keys.lock().contains_key(key)
    }

    /// Hints at every watched key, for a store that may have missed changes, such as after a new connection.
    pub fn hint_all(&self) {
        for hints in self.0.keys.lock().values() {
            hints.send_replace(());
        }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Watchers<K> {
    /// Returns the keys that are watched.
    pub fn keys(&self) -> Vec<K> {
        self.0.keys.lock().keys().cloned().collect()
    }

    /// Makes a watch of `key`.
    pub fn watch(&self, key: K) -> Watch {
        let mut keys = self.0.keys.lock();
        let hints = match keys.get(&key) {
            Some(hints) => hints.subscribe(),
            None => {
                let (hints, watch) = watch::channel(());
                keys.insert(key.clone(), hints);
                watch
            }
        };
        self.0.len.store(keys.len(), Relaxed);
        let watchers = self.clone();
        Watch(Some(Registered {
            hints,
            _entry: Box::new(Entry { watchers, key }),
        }))
    }
}

impl<K: Hash + Eq> Drop for Entry<K> {
    fn drop(&mut self) {
        // Whoever subscribes meanwhile waits for this lock, so a key with a new watch is not removed.
        let mut keys = self.watchers.0.keys.lock();
        if keys.get(&self.key).is_some_and(watch::Sender::is_closed) {
            keys.remove(&self.key);
            self.watchers.0.len.store(keys.len(), Relaxed);
        }
    }
}

impl<K> Clone for Watchers<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Hash + Eq> Default for Watchers<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Watchers<K> {
    /// Hides the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Polls `changed` once.
    fn poll(changed: Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        changed.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_hinted(watch: &mut Watch) -> bool {
        poll(pin!(watch.changed())).is_ready()
    }

    #[test]
    fn a_watch_without_hints_never_ends() {
        let mut watch = Watch::never();
        assert!(!is_hinted(&mut watch));
        assert_eq!(format!("{watch:?}"), "Watch { hints: false }");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_hint_is_covered_by_the_time() {
        let time = Duration::from_secs(1);
        let begun = tokio::time::Instant::now();
        assert!(!Watch::never().changed_within(time).await);
        assert_eq!(begun.elapsed(), time);
        let watchers = Watchers::<&str>::default();
        let mut watch = watchers.watch("a");
        watchers.hint("a");
        assert!(watch.changed_within(time).await);
        assert_eq!(begun.elapsed(), time);
    }

    #[test]
    fn a_hint_reaches_every_watch_of_its_key_once() {
        let watchers = Watchers::<&str>::default();
        let [mut a, mut twin, mut b] = ["a", "a", "b"].map(|key| watchers.watch(key));
        assert!(!is_hinted(&mut a));
        watchers.hint("a");
        watchers.hint("a");
        watchers.hint("c");
        assert!(is_hinted(&mut a) && is_hinted(&mut twin));
        assert!(!is_hinted(&mut a) && !is_hinted(&mut b));
        watchers.hint_all();
        assert!(is_hinted(&mut a) && is_hinted(&mut twin) && is_hinted(&mut b));
    }

    #[test]
    fn a_hint_waits_until_it_is_taken() {
        let watchers = Watchers::<&str>::default();
        let mut watch = watchers.watch("a");
        assert!(!watch.has_hint() && !watch.take_hint());
        watchers.hint("a");
        assert!(watch.has_hint() && watch.has_hint());
        assert!(watch.take_hint() && !watch.has_hint() && !is_hinted(&mut watch));
        watchers.hint("a");
        assert!(is_hinted(&mut watch) && !watch.take_hint());
        let mut never = Watch::never();
        assert!(!never.has_hint() && !never.take_hint());
    }

    #[test]
    fn a_hint_between_two_calls_or_after_a_dropped_one_counts() {
        let watchers = Watchers::<&str>::default();
        let mut watch = watchers.watch("a");
        watchers.hint("a");
        assert!(is_hinted(&mut watch));
        {
            let mut dropped = pin!(watch.changed());
            assert!(poll(dropped.as_mut()).is_pending());
            watchers.hint("a");
        }
        assert!(is_hinted(&mut watch));
        // What came before the watch is no hint.
        watchers.hint("b");
        assert!(!is_hinted(&mut watchers.watch("b")));
    }

    #[tokio::test]
    async fn a_waiting_watch_is_woken() {
        let watchers = Watchers::<&str>::default();
        let mut watch = watchers.watch("a");
        let waiting = tokio::spawn(async move { watch.changed().await });
        tokio::task::yield_now().await;
        watchers.hint("a");
        waiting.await.unwrap();
    }

    #[test]
    fn a_key_is_forgotten_with_its_last_watch() {
        let watchers = Watchers::<&str>::default();
        let [a, mut twin, b] = ["a", "a", "b"].map(|key| watchers.watch(key));
        assert_eq!(format!("{watchers:?}"), "Watchers { len: 2 }");
        drop(a);
        assert_eq!(watchers.len(), 2);
        watchers.hint("a");
        assert!(is_hinted(&mut twin));
        drop(twin);
        assert_eq!(watchers.len(), 1);
        drop(b);
        assert!(watchers.is_empty());
        // A watch outlives the store's own handle, and then waits for nobody.
        let mut watch = watchers.watch("a");
        drop(watchers);
        assert!(!is_hinted(&mut watch));
    }
}
