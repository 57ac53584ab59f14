use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// 128 bits in base64url, with which a holder or a run knows its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token([u8; Self::LEN]);

impl Token {
    pub(crate) const LEN: usize = 22;

    /// One that nobody else has, in this process or another.
    pub(crate) fn random() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        Self::from_hash(&blake3::keyed_hash(seed(), &count))
    }

    /// The first 128 bits of `hash`.
    pub(crate) fn from_hash(hash: &blake3::Hash) -> Self {
        let mut text = [0; Self::LEN];
        URL_SAFE_NO_PAD
            .encode_slice(&hash.as_bytes()[..16], &mut text)
            .expect("16 bytes are 22 characters");
        Self(text)
    }

    /// Reads what [`as_bytes`](Self::as_bytes) gave.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    /// Says nothing: who knows a token can release its lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The system's randomness, which the standard library keeps in its hash keys, taken once.
fn seed() -> &'static [u8; 32] {
    static SEED: OnceLock<[u8; 32]> = OnceLock::new();
    SEED.get_or_init(|| {
        let mut seed = [0; 32];
        for (place, word) in seed.chunks_exact_mut(8).zip(0_u64..) {
            place.copy_from_slice(&RandomState::new().hash_one(word).to_le_bytes());
        }
        seed
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_22_characters_and_never_the_same() {
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let token = Token::random();
            let text = str::from_utf8(token.as_bytes()).unwrap();
            assert!(
                text.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
            assert_eq!(Token::read(token.as_bytes()), Some(token));
            assert!(seen.insert(text.to_owned()));
        }
    }
}
