//! The stored form of a lock that several holders share. A stored format: `lua/share.lua` writes it, too.

use layer_store::Value;

use super::holder_token::HolderToken;

/// A lock whose holders share the unit: `*`, the time until which a writer waits, and for each holder `,`, its token and the end of
/// its lease. Times are Unix milliseconds of 13 digits, so that their texts are in their order.
///
/// An exclusive lock begins with a token, which has no `*`. So a service that knows exclusive locks alone takes this one for
/// somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SharedLock(Vec<u8>);

impl SharedLock {
    /// Makes a lock without holders.
    pub(super) fn new() -> Self {
        let mut lock = vec![MARK];
        lock.extend_from_slice(&time_text(0));
        Self(lock)
    }

    /// Reads the value of a lock. `None`: it is exclusive.
    pub(super) fn read(value: &Value) -> Option<Self> {
        value.with_bytes(|bytes| {
            let is_shared = bytes.first() == Some(&MARK) && bytes.len() % HOLDER == HEAD;
            is_shared.then(|| Self(bytes.to_vec()))
        })
    }

    pub(super) fn into_value(self) -> Value {
        self.0.into()
    }

    /// Returns the number of holders, with those whose lease has ended.
    pub(super) fn len(&self) -> usize {
        self.0.len() / HOLDER
    }

    /// Returns the ms for which a writer waits after `now`.
    pub(super) fn writer_waits(&self, now: u64) -> Option<u64> {
        let until = number(&self.0[1..HEAD]);
        (until > now).then(|| until - now)
    }

    /// Says that a writer waits until `until`.
    pub(super) fn let_writer_wait(&mut self, until: u64) {
        self.0[1..HEAD].copy_from_slice(&time_text(until));
    }

    /// Returns the number of holders whose lease goes on after `now`.
    pub(super) fn live(&self, now: u64) -> usize {
        self.ends().filter(|ends| *ends > now).count()
    }

    /// Returns the latest of the times in it.
    pub(super) fn latest(&self) -> u64 {
        let until = number(&self.0[1..HEAD]);
        self.ends().fold(until, u64::max)
    }

    /// Returns true if it has the holder with this token.
    pub(super) fn has(&self, token: &[u8]) -> bool {
        self.place_of(token).is_some()
    }

    /// Adds a holder whose lease ends at `ends`, or renews its lease.
    pub(super) fn put(&mut self, token: &[u8], ends: u64) {
        let at = self.place_of(token).unwrap_or(self.0.len());
        let next = self.0.len().min(at + HOLDER);
        let holder = [&[SEPARATOR], token, &time_text(ends)].concat();
        self.0.splice(at..next, holder);
    }

    /// Removes a holder. Returns true if it was there.
    pub(super) fn remove(&mut self, token: &[u8]) -> bool {
        let place = self.place_of(token);
        place.is_some_and(|at| self.0.drain(at..at + HOLDER).len() > 0)
    }

    /// Removes the holders whose lease has ended.
    pub(super) fn remove_dead(&mut self, now: u64) {
        let alive = self
            .holders()
            .filter(|holder| number(&holder[ENDS..]) > now);
        let alive: Vec<u8> = alive.flatten().copied().collect();
        self.0.truncate(HEAD);
        self.0.extend(alive);
    }

    fn holders(&self) -> impl Iterator<Item = &[u8]> {
        self.0[HEAD..].chunks_exact(HOLDER)
    }

    fn ends(&self) -> impl Iterator<Item = u64> {
        self.holders().map(|holder| number(&holder[ENDS..]))
    }

    fn place_of(&self, token: &[u8]) -> Option<usize> {
        let at = self
            .holders()
            .position(|holder| &holder[1..ENDS] == token)?;
        Some(HEAD + at * HOLDER)
    }
}

fn time_text(millis: u64) -> [u8; TIME] {
    let mut text = [b'0'; TIME];
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(millis.min(MAX_TIME)).as_bytes();
    text[TIME - digits.len()..].copy_from_slice(digits);
    text
}

/// Reads a time. Something else never ends.
fn number(text: &[u8]) -> u64 {
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.unwrap_or(MAX_TIME)
}

const MARK: u8 = b'*';
const SEPARATOR: u8 = b',';
/// The length of a time in digits.
const TIME: usize = 13;
const MAX_TIME: u64 = 9_999_999_999_999;
/// The length before the holders.
const HEAD: usize = 1 + TIME;
/// Where the end of its lease stands in a holder.
const ENDS: usize = 1 + HolderToken::LEN;
const HOLDER: usize = ENDS + TIME;

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &[u8; 22] = b"adaadaadaadaadaadaadaa";
    const BOB: &[u8; 22] = b"bobbobbobbobbobbobbobb";

    #[test]
    fn holders_come_go_and_die_one_by_one() {
        let mut lock = SharedLock::new();
        lock.put(ADA, 1_000);
        lock.put(BOB, 2_000);
        lock.put(ADA, 3_000);
        assert_eq!((lock.len(), lock.live(1_999), lock.live(2_000)), (2, 2, 1));
        assert!(lock.has(ADA) && lock.has(BOB));
        lock.let_writer_wait(2_500);
        assert_eq!(
            (lock.writer_waits(2_400), lock.writer_waits(2_500)),
            (Some(100), None)
        );
        assert_eq!(lock.latest(), 3_000);
        let read = SharedLock::read(&lock.clone().into_value());
        assert_eq!(read.as_ref(), Some(&lock));
        lock.remove_dead(2_000);
        assert!(lock.has(ADA) && !lock.has(BOB));
        assert!(lock.remove(ADA) && !lock.remove(ADA));
        assert_eq!((lock.len(), lock.latest()), (0, 2_500));
    }

    #[test]
    fn an_exclusive_lock_is_not_shared() {
        for text in [
            "",
            "*",
            "*000000000000",
            "adaadaadaadaadaadaadaa1767225600000000",
        ] {
            assert_eq!(SharedLock::read(&Value::from(text)), None, "{text}");
        }
        assert!(SharedLock::read(&Value::from("*0000000000000")).is_some());
    }
}
