use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// The clock of a [`MemoryStore`](crate::MemoryStore), in Unix microseconds.
///
/// The system clock is read once, at the first use in a process. From there a monotonic counter goes on, so the time never
/// runs backwards, and after a restart it goes on where it should.
///
/// If the counter itself begins anew, as on a machine that wakes up or is restored from a snapshot, the system clock is read again, and
/// a warning tells of it. Otherwise the time would stand still until the counter is where it was.
///
/// ```
/// use std::time::Duration;
///
/// use layer_store::Clock;
///
/// let (clock, time) = Clock::manual(1_000_000);
/// time.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), 3_000_000);
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System(System),
    Manual(Arc<AtomicU64>),
    Function(Arc<dyn Fn() -> u64 + Send + Sync>),
}

#[derive(Clone)]
struct System {
    counter: quanta::Clock,
    /// Microseconds per tick, times 2^64, so that a reading is one multiplication. This is below 2^64 because no counter ticks
    /// slower than once a microsecond.
    micros_per_tick: u64,
    /// The counter at the start. All clones share it, as it moves if the counter begins anew.
    started: Arc<AtomicU64>,
    unix_at_start: u64,
}

/// Moves a [`Clock`] made by [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl Clock {
    /// Returns the system's clock. All of them in one process show the same time.
    pub fn system() -> Self {
        static SYSTEM: OnceLock<System> = OnceLock::new();
        Self(Source::System(SYSTEM.get_or_init(System::start).clone()))
    }

    /// Makes a clock that shows `unix_micros` until it is moved, and the handle that moves it.
    pub fn manual(unix_micros: u64) -> (Self, ManualClock) {
        let now = Arc::new(AtomicU64::new(unix_micros));
        (Self(Source::Manual(now.clone())), ManualClock(now))
    }

    /// Makes a clock that shows what `now` returns, in Unix microseconds. For tests that have a clock already, such as tokio's
    /// paused one.
    ///
    /// ```
    /// use layer_store::Clock;
    ///
    /// let start = tokio::time::Instant::now();
    /// let clock = Clock::from_fn(move || 1_000_000 + start.elapsed().as_micros() as u64);
    /// assert!(clock.now() >= 1_000_000);
    /// ```
    pub fn from_fn(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Source::Function(Arc::new(now)))
    }

    /// Returns the time, in Unix microseconds.
    #[inline]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System(system) => system.now(),
            Source::Manual(now) => now.load(Ordering::Relaxed),
            Source::Function(now) => now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System(_) => "Clock::system",
            Source::Manual(_) => "Clock::manual",
            Source::Function(_) => "Clock::from_fn",
        })
    }
}

impl System {
    fn start() -> Self {
        Self::of(quanta::Clock::new())
    }

    fn of(counter: quanta::Clock) -> Self {
        let nanos = u128::from(counter.delta_as_nanos(0, MANY_TICKS));
        let scale = (nanos << 64) / (u128::from(MANY_TICKS) * 1_000);
        Self {
            micros_per_tick: u64::try_from(scale).unwrap_or(u64::MAX),
            started: Arc::new(counter.raw().into()),
            unix_at_start: wall(),
            counter,
        }
    }

    #[inline]
    fn now(&self) -> u64 {
        let mut ticks = self.ticks();
        // Below zero, in two's complement: no counter runs for 2^63 ticks.
        if ticks > i64::MAX as u64 {
            self.restart(wall());
            ticks = self.ticks();
        }
        let elapsed = u128::from(ticks) * u128::from(self.micros_per_tick);
        self.unix_at_start + (elapsed >> 64) as u64
    }

    /// Returns the ticks since the start.
    #[inline]
    fn ticks(&self) -> u64 {
        let started = self.started.load(Ordering::Relaxed);
        self.counter.raw().wrapping_sub(started)
    }

    /// Goes on from `unix_micros`, as the counter has begun anew. Several threads may do this at once, with nearly the same time.
    #[cold]
    fn restart(&self, unix_micros: u64) {
        let elapsed = u128::from(unix_micros.saturating_sub(self.unix_at_start));
        let ticks = (elapsed << 64) / u128::from(self.micros_per_tick.max(1));
        let started = self.counter.raw().wrapping_sub(ticks as u64);
        self.started.store(started, Ordering::Relaxed);
        tracing::warn!(
            unix_micros,
            "the counter of this machine's clock began anew, so the system clock was read again"
        );
    }
}

/// Returns the time of the system clock, in Unix microseconds.
fn wall() -> u64 {
    let elapsed = SystemTime::UNIX_EPOCH.elapsed();
    elapsed.map_or(0, |elapsed| elapsed.as_micros() as u64)
}

impl ManualClock {
    /// Moves the clock forwards, by whole microseconds.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }

    /// Sets the clock to `unix_micros`. It may go backwards, as a server's clock does in a failover.
    pub fn set(&self, unix_micros: u64) {
        self.0.store(unix_micros, Ordering::Relaxed);
    }

    /// Returns the time, in Unix microseconds.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Enough ticks that rounding the scale costs less than a millisecond a year.
const MANY_TICKS: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_near_the_wall_clock_and_never_runs_back() {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        let clock = Clock::system();
        let mut last = clock.now();
        assert!(last.abs_diff(wall) < 5_000_000);
        for _ in 0..1_000 {
            let now = clock.clone().now();
            assert!(now >= last);
            last = now;
        }
    }

    /// On a machine that is restored from a snapshot the counter is behind its start. Time goes on, at the system's time.
    #[test]
    fn a_counter_that_begins_anew_does_not_stop_the_time() {
        let (counter, hand) = quanta::Clock::mock();
        hand.increment(3_600_000_000_000_u64);
        let system = System::of(counter);
        let clone = system.clone();
        let started = system.unix_at_start;
        hand.increment(5_000_u64);
        assert!(system.now().abs_diff(started + 5) <= 1);

        hand.decrement(3_600_000_000_000_u64);
        let (before, now, after) = (wall(), system.now(), wall());
        assert!(
            (before - 1..=after).contains(&now),
            "{before} {now} {after}"
        );
        hand.increment(7_000_000_u64);
        assert!((now + 6_999..=now + 7_001).contains(&system.now()));
        assert_eq!(clone.now(), system.now());

        // A system clock that is behind too: time goes on from the start.
        system.restart(started - 9_000_000);
        assert!(system.now().abs_diff(started) <= 1);
        hand.increment(1_000_u64);
        assert!(system.now().abs_diff(started + 1) <= 1);
    }

    #[test]
    fn the_system_clock_goes_as_fast_as_its_counter() {
        let system = System::start();
        let (counter, started) = (&system.counter, quanta::Instant::now());
        let before = (system.now(), counter.raw());
        while started.elapsed() < Duration::from_millis(20) {}
        let after = (system.now(), counter.raw());
        let micros = counter.delta_as_nanos(before.1, after.1) / 1_000;
        assert!((after.0 - before.0).abs_diff(micros) <= 10);
    }
}
