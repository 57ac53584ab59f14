use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// 128 bits as 22 characters of base64url: the text of holder tokens, run tokens, record names and fingerprints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id128([u8; Self::LEN]);

impl Id128 {
    /// The length in characters.
    pub(crate) const LEN: usize = 22;

    /// Makes one that nobody else has, in this process or another, and that nobody can guess.
    pub(crate) fn random() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let [low, high] = SECRETS.each_ref().map(|secret| secret.hash_one(count));
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&low.to_le_bytes());
        bits[8..].copy_from_slice(&high.to_le_bytes());
        Self::from_bits(&bits)
    }

    /// Takes the first 128 bits of `hash`.
    pub(crate) fn from_hash(hash: &blake3::Hash) -> Self {
        let (bits, _) = hash.as_bytes().split_first_chunk().expect("32 bytes");
        Self::from_bits(bits)
    }

    fn from_bits(bits: &[u8; 16]) -> Self {
        let mut text = [0; Self::LEN];
        URL_SAFE_NO_PAD
            .encode_slice(bits, &mut text)
            .expect("16 bytes are 22 characters");
        Self(text)
    }

    /// Reads the text that [`as_bytes`](Self::as_bytes) returned. `None` if it has another length.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }

    /// Returns the text. Empty if it was read from bytes that are no text.
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Id128 {
    /// Hides the text: a person who knows a holder's token can release its lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Id128")
    }
}

/// The keys of this process, by which a count becomes 128 bits: two keyed hashes of 64 bits each. The standard library takes them
/// from the system.
static SECRETS: LazyLock<[RandomState; 2]> =
    LazyLock::new(|| [RandomState::new(), RandomState::new()]);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_text_is_base64url_without_padding(bits: [u8; 16]) {
            let text = Id128::from_bits(&bits);
            prop_assert_eq!(text.as_str(), URL_SAFE_NO_PAD.encode(bits));
        }
    }

    #[test]
    fn ids_are_22_characters_and_never_the_same() {
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let id = Id128::random();
            let text = str::from_utf8(id.as_bytes()).unwrap();
            assert!(
                text.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
            assert_eq!(Id128::read(id.as_bytes()), Some(id));
            assert_eq!(Id128::read(&id.as_bytes()[1..]), None);
            assert_eq!(format!("{id:?}"), "Id128");
            assert!(seen.insert(text.to_owned()));
        }
    }
}
