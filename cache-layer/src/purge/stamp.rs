use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use layer_store::Value;

/// What a reader saw of a stamp: its token, and how long the value was that begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) token: Token,
    pub(crate) len: u16,
}

/// 64 random bits as text. Never used twice: a purge is a token that is gone.
pub(crate) type Token = [u8; TOKEN];

/// What stands, or does not, where a stamp may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nothing: it was purged, forgotten, or never planted. All three are a miss.
    Missing,
    /// A stamp.
    Stands(Stamp),
    /// Bytes of another format, from which nothing may be concluded.
    Unreadable,
}

impl Reading {
    pub(crate) fn of(value: Option<&Value>) -> Self {
        match value {
            None => Self::Missing,
            Some(value) => value.with_bytes(|bytes| match Stamp::parse(bytes) {
                Some(stamp) => Self::Stands(stamp),
                None => Self::Unreadable,
            }),
        }
    }

    pub(crate) fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Stands(stamp) => Some(stamp),
            Self::Missing | Self::Unreadable => None,
        }
    }
}

impl Stamp {
    /// One format byte, the token, then records: a reader that can read none remembers how many bytes it saw.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else {
            return None;
        };
        let token = *rest.first_chunk()?;
        let len = u16::try_from(bytes.len())
            .ok()
            .filter(|len| *len <= LONGEST)?;
        Some(Self { token, len })
    }

    /// A stamp as it is planted, without records.
    pub(crate) const fn planted(token: Token) -> Self {
        Self {
            token,
            len: 1 + TOKEN as u16,
        }
    }

    /// The value that plants it.
    pub(crate) fn value(&self) -> Value {
        let mut bytes = [FORMAT; 1 + TOKEN];
        bytes[1..].copy_from_slice(&self.token);
        Value::from(&bytes[..])
    }
}

/// So many new tokens from the operating system's generator. None: it has none to give, and nothing is planted.
pub(crate) fn tokens(count: usize) -> Option<Vec<Token>> {
    let mut random = vec![0; count * RANDOM];
    getrandom::fill(&mut random).ok()?;
    let token = |bytes: &[u8]| {
        let mut token = [0; TOKEN];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut token);
        (written == Ok(TOKEN)).then_some(token)
    };
    random.chunks_exact(RANDOM).map(token).collect()
}

/// 8 bytes as base64url.
const TOKEN: usize = 11;
const RANDOM: usize = 8;
const FORMAT: u8 = b'1';
/// Token and records.
const LONGEST: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading {
        Reading::of(Some(&Value::from(text)))
    }

    /// Processes of all versions read each other's stamps.
    #[test]
    fn the_form_of_a_stamp_is_golden() {
        let stamp = Stamp::planted(*b"abcdefghijk");
        assert_eq!(stamp.value(), Value::from("1abcdefghijk"));
        assert_eq!(read("1abcdefghijk"), Reading::Stands(stamp));
    }

    #[test]
    fn records_are_seen_by_their_length() {
        let Reading::Stands(longer) = read("1abcdefghijkh user:*") else {
            panic!("a stamp with records stands");
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
            assert_eq!(read(odd), Reading::Unreadable, "{odd:?}");
        }
        assert_eq!(Reading::of(None), Reading::Missing);
    }

    #[test]
    fn tokens_differ() {
        let tokens = tokens(100).unwrap();
        for (i, token) in tokens.iter().enumerate() {
            assert!(!tokens[..i].contains(token));
        }
    }
}
