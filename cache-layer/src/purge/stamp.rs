use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use layer_store::Value;

/// A stamp as it was read from the store: its token, and the length of the value that begins with the token.
///
/// Each purge scope has one stamp. An entry holds copies of the stamps that were read before its handler ran, and is valid
/// while the stamps in the store are equal to its copies. A purge deletes the stamp, and with it the validity of every
/// entry that holds a copy. The length takes part in the comparison: a later version may append records to a stamp, and a
/// reader that cannot read them treats the stamp as changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) token: StampToken,
    pub(crate) len: u16,
}

/// 64 random bits as text. A token is never used again, so that a purged stamp never comes back.
pub(crate) type StampToken = [u8; TOKEN_LEN];

/// The result of reading the key of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StampState {
    /// Nothing: the stamp was purged, evicted, or never planted. All three are a miss.
    Missing,
    /// A stamp.
    Present(Stamp),
    /// Bytes of an unknown format. Nothing is known of the scope, so nothing is served or stored.
    Unreadable,
}

impl StampState {
    /// Reads the value under the key of a stamp.
    pub(crate) fn of(value: Option<&Value>) -> Self {
        match value {
            None => Self::Missing,
            Some(value) => value.with_bytes(|bytes| match Stamp::parse(bytes) {
                Some(stamp) => Self::Present(stamp),
                None => Self::Unreadable,
            }),
        }
    }

    /// Returns the stamp, if there is one.
    pub(crate) fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Present(stamp) => Some(stamp),
            Self::Missing | Self::Unreadable => None,
        }
    }
}

impl Stamp {
    /// Reads a value: one format byte, the token, then records of later versions.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else {
            return None;
        };
        let token = *rest.first_chunk()?;
        let len = u16::try_from(bytes.len())
            .ok()
            .filter(|len| *len <= MAX_LEN)?;
        Some(Self { token, len })
    }

    /// Makes a new stamp, without records.
    pub(crate) const fn planted(token: StampToken) -> Self {
        Self {
            token,
            len: 1 + TOKEN_LEN as u16,
        }
    }

    /// Returns the value to store. A stored format.
    pub(crate) fn value(&self) -> Value {
        let mut bytes = [FORMAT; 1 + TOKEN_LEN];
        bytes[1..].copy_from_slice(&self.token);
        Value::from(&bytes[..])
    }
}

/// Makes `count` new tokens with the operating system's random generator. `None` if that fails; then nothing is planted.
pub(crate) fn tokens(count: usize) -> Option<Vec<StampToken>> {
    let mut random = vec![0; count * RANDOM_LEN];
    getrandom::fill(&mut random).ok()?;
    let token = |bytes: &[u8]| {
        let mut token = [0; TOKEN_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut token);
        (written == Ok(TOKEN_LEN)).then_some(token)
    };
    random.chunks_exact(RANDOM_LEN).map(token).collect()
}

/// The length of 8 bytes as base64url.
const TOKEN_LEN: usize = 11;
const RANDOM_LEN: usize = 8;
const FORMAT: u8 = b'1';
/// StampToken and records.
const MAX_LEN: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> StampState {
        StampState::of(Some(&Value::from(text)))
    }

    /// Processes of all versions read each other's stamps.
    #[test]
    fn the_form_of_a_stamp_is_golden() {
        let stamp = Stamp::planted(*b"abcdefghijk");
        assert_eq!(stamp.value(), Value::from("1abcdefghijk"));
        assert_eq!(read("1abcdefghijk"), StampState::Present(stamp));
    }

    #[test]
    fn records_are_seen_by_their_length() {
        let StampState::Present(longer) = read("1abcdefghijkh user:*") else {
            panic!("a stamp with records is present");
        };
        assert_eq!(longer.token, *b"abcdefghijk");
        assert_ne!(longer, Stamp::planted(longer.token));
    }

    #[test]
    fn another_format_is_unreadable_and_not_missing() {
        for odd in [
            "",
            "1",
            "1abcdefghij",
            "2abcdefghijk",
            "42",
            &format!("1{}", "a".repeat(1024)),
        ] {
            assert_eq!(read(odd), StampState::Unreadable, "{odd:?}");
        }
        assert_eq!(StampState::of(None), StampState::Missing);
    }

    #[test]
    fn tokens_differ() {
        let tokens = tokens(100).unwrap();
        for (i, token) in tokens.iter().enumerate() {
            assert!(!tokens[..i].contains(token));
        }
    }

    #[test]
    fn a_stamp_has_at_most_1024_bytes() {
        let long = |len: usize| read(&format!("1{}", "a".repeat(len - 1)));
        assert_eq!(long(1024).stamp().unwrap().len, 1024);
        assert_eq!(long(1025), StampState::Unreadable);
        assert_eq!(long(12).stamp().unwrap().len, 12);
        assert_eq!(StampState::Missing.stamp(), None);
        assert_eq!(StampState::Unreadable.stamp(), None);
    }

    #[test]
    fn each_token_is_new() {
        assert_eq!(tokens(3).unwrap().len(), 3);
        assert_ne!(tokens(1), tokens(1));
    }
}
