//! The arithmetic of a limit, and the programs that run it in a store.
//!
//! - [`gcra`]: the numbers of the generic cell rate algorithm. [`span`]: the lengths of time in which it counts.
//! - [`fixed_window`], [`sliding_window`], [`exact_log`]: the numbers of the others. [`window_count`]: what they have in common.
//! - [`block`]: the strikes and blocks of those who are refused again and again.
//! - [`calendar`]: windows that are days or months.
//! - [`demand`]: what a limit is asked. [`usage`]: what it tells.
//! - [`program`]: the atomic steps in the store, as twins in Rust and as scripts in `lua/`.

pub(crate) mod block;
pub(crate) mod calendar;
pub(crate) mod demand;
pub(crate) mod exact_log;
pub(crate) mod fixed_window;
pub(crate) mod gcra;
pub(crate) mod program;
pub(crate) mod sliding_window;
pub(crate) mod span;
pub(crate) mod usage;
pub(crate) mod window_count;

/// The way in which a [`Quota`](crate::Quota) is enforced.
///
/// The [crate docs](crate#algorithms) compare them.
///
/// ```
/// use rate_limit_layer::{Algorithm, Quota};
///
/// assert_eq!(Quota::per_minute(100).algorithm(), Algorithm::Gcra);
/// assert_eq!(Quota::per_minute(100).sliding_window().algorithm(), Algorithm::SlidingWindow);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// The generic cell rate algorithm, which earns requests evenly. In any interval of length `t` at most
    /// `burst + limit * t / window` pass.
    #[default]
    Gcra,
    /// The sliding-window counter: what passed in the window before fades out. At most `limit` in each window, fewer than `2 * limit`
    /// in any span of time that is shorter than a window.
    SlidingWindow,
    /// The fixed window: all of the limit is there again at the edge of each window. At most `limit` in each window, at most `2 * limit`
    /// in any span of time that is shorter than a window.
    FixedWindow,
    /// The log of all times: at most `limit` in any span of time that is shorter than a window.
    ExactLog,
    /// A fixed window whose edges are those of a calendar's days or months. Written `Quota::per_calendar_day`, with the feature
    /// `calendar`.
    CalendarWindow,
}
