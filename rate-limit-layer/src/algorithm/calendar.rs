use std::{
    fmt,
    hash::{Hash, Hasher},
    panic::{RefUnwindSafe, UnwindSafe},
    ptr,
    sync::{Mutex, PoisonError},
};

#[cfg(feature = "calendar")]
pub(crate) mod zone;

/// Windows whose edges are those of a calendar. A handle: one for each text lives as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct Calendar(&'static Windows);

/// The windows of one period in one time zone.
pub(crate) struct Windows {
    /// As a quota's text has it: `day Europe/Berlin`.
    text: String,
    edges: Box<EdgesAround>,
    /// The edges that were asked for last. The next request mostly lies in the same window.
    last: Mutex<[u64; 4]>,
}

/// Returns the edges of three windows, in Unix microseconds: those of the window of a time, of the one before and of the one after.
type EdgesAround = dyn Fn(u64) -> [u64; 4] + Send + Sync + UnwindSafe + RefUnwindSafe;

impl Calendar {
    /// Returns the edges of three windows: `now` lies in the second.
    ///
    /// The store decides by its own clock in which of the three it is. So clocks may differ by a whole window.
    pub(crate) fn edges(self, now: u64) -> [u64; 4] {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !(last[1]..last[2]).contains(&now) {
            *last = (self.0.edges)(now);
        }
        *last
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Calendar").field(&self.0.text).finish()
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Calendar {}

impl Hash for Calendar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}
