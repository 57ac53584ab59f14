use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The text by which a store knows a permit: 64 random bits as 11 characters of base64url.
///
/// An identity has at most a few thousand permits at once, so that two of them have one token about never: once in 10^13.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; Self::LEN]);

impl Token {
    /// The length in characters.
    pub(crate) const LEN: usize = 11;

    /// Makes one that nobody else has, in this process or another.
    pub(crate) fn random() -> Self {
        static SEED: OnceLock<RandomState> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let seed = SEED.get_or_init(RandomState::new);
        Self::of(seed.hash_one(NEXT.fetch_add(1, Relaxed)))
    }

    fn of(bits: u64) -> Self {
        let mut text = [0; Self::LEN];
        for (place, shift) in text.iter_mut().rev().zip((0..64).step_by(6)) {
            *place = DIGITS[(bits >> shift & 63) as usize];
        }
        Self(text)
    }

    /// Returns the text.
    pub(crate) const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Token {
    /// Hides the text: who knows it can give the permit back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_token_is_its_bits_in_base64url() {
        for (bits, text) in [
            (0, b"AAAAAAAAAAA"),
            (1, b"AAAAAAAAAAB"),
            (63, b"AAAAAAAAAA_"),
            (64, b"AAAAAAAAABA"),
            (u64::MAX, b"P__________"),
        ] {
            assert_eq!(Token::of(bits).as_bytes(), text);
        }
    }

    #[test]
    fn no_two_tokens_are_equal() {
        let tokens: HashSet<_> = (0..10_000).map(|_| Token::random()).collect();
        assert_eq!(tokens.len(), 10_000);
    }
}
