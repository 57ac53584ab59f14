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
    started: u64,
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
        let counter = quanta::Clock::new();
        let nanos = u128::from(counter.delta_as_nanos(0, MANY_TICKS));
        let scale = (nanos << 64) / (u128::from(MANY_TICKS) * 1_000);
        Self {
            micros_per_tick: u64::try_from(scale).unwrap_or(u64::MAX),
            started: counter.raw(),
            unix_at_start: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |elapsed| elapsed.as_micros() as u64),
            counter,
        }
    }

    #[inline]
    fn now(&self) -> u64 {
        let ticks = self.counter.raw().saturating_sub(self.started);
        let elapsed = u128::from(ticks) * u128::from(self.micros_per_tick);
        self.unix_at_start + (elapsed >> 64) as u64
    }
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
