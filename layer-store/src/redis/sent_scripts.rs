use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The scripts whose texts went over one connection, so that its server has them.
///
/// There is one bit for each script, chosen by its hash. If two share a bit, or the server has forgotten a script, a hash is
/// sent that the server does not know. It says so, and the text follows.
#[derive(Debug)]
pub(super) struct SentScripts([AtomicU64; BITS / 64]);

impl SentScripts {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BITS / 64])
    }

    /// Notes that the text of a script is sent. Returns false if that is already noted: then the hash is enough.
    pub(super) fn note(&self, sha1: &str) -> bool {
        let at = place(sha1);
        let (word, bit) = (&self.0[at / 64], 1 << (at % 64));
        // All calls but the first read alone.
        word.load(Relaxed) & bit == 0 && word.fetch_or(bit, Relaxed) & bit == 0
    }
}

/// Returns the bit of a script: the first three digits of its hash.
fn place(sha1: &str) -> usize {
    let digits = sha1.get(..3).unwrap_or_default();
    usize::from_str_radix(digits, 16).unwrap_or_default()
}

/// So many that the few scripts of a process rarely share one.
const BITS: usize = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_new_once() {
        let sent = SentScripts::new();
        for sha1 in ["000aa", "001aa", "0ffaa", "fffaa"] {
            assert!(sent.note(sha1), "{sha1}");
            assert!(!sent.note(sha1), "{sha1}");
        }
        assert!(!sent.note("fffbb"), "it shares a bit");
        assert!(SentScripts::new().note("fffaa"), "another connection");
    }
}
