use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use siphasher::sip128::{Hasher128, SipHasher13};

pub(crate) use self::owned::OwnedKey;
use self::text::{escape, render_identity, shorten};
use crate::IdentityRef;

mod owned;

pub(crate) mod text;

/// The key of a value: a [`KeySpace`], an identity ([`IdentityRef`]), and a rest that may be empty.
///
/// A key borrows its parts and allocates nothing. It carries 128 bits made from them under seeds of this process, and the
/// memory store compares only these. A store that speaks text [`render`](Self::render)s the key.
///
/// ```
/// use layer_store::{Identity, Key, KeySpace};
///
/// let space = KeySpace::new("limit", "100/min");
/// let ada = Identity::from("ada:7");
/// let mut text = Vec::new();
/// Key::new(&space, ada.as_ref()).with_rest(b"seat 1").render(&mut text);
/// assert_eq!(text, b"{ada%3A7}:limit:100/min:seat%201");
/// ```
///
/// # Text
///
/// `[prefix:]{identity}:kind:name[:rest]`. The identity is the hash tag, so all keys of one identity live in one slot of a
/// Cluster. Every byte except `A-Za-z0-9-._~@/` is written `%XX`, so no header or path can choose a slot, a pattern or another
/// key. An identity longer than 128 escaped bytes is written as `#` and 128 bits of BLAKE3, and so is the text after the kind.
/// The text is a stored format.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    tag: Id,
    id: Id,
    space: &'a KeySpace,
    identity: IdentityRef<'a>,
    rest: &'a [u8],
    prefix: Option<&'a PrefixChain<'a>>,
}

/// The part of a key that all values of one use share: a kind and a name. It is made once, with a policy or a cache.
///
/// ```
/// use layer_store::KeySpace;
///
/// let space = KeySpace::new("limit", "100/min");
/// assert_eq!((space.kind(), space.name()), ("limit", "100/min"));
/// ```
#[derive(Clone)]
pub struct KeySpace {
    id: Id,
    kind: &'static str,
    name: Arc<str>,
    /// `kind:name`, escaped, or `kind:#hash` if the name is too long.
    text: Arc<str>,
}

/// The text that a [`Prefix`](crate::wrap::Prefix) puts before every key, such as `KeyPrefix::new("shop")`.
#[derive(Clone, Debug)]
pub struct KeyPrefix {
    id: Id,
    /// The factor by which the bits of a key are multiplied before `id` is added. It depends on the number of prefixes.
    factor: u64,
    text: Box<str>,
}

/// The prefixes of a key: one, and those of the wrappers further out. It lies on the stack of the wrapper that adds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrefixChain<'a> {
    prefix: &'a KeyPrefix,
    outer: Option<&'a Self>,
}

/// 128 bits that stand for the parts of a key in this process. Equal parts have equal bits. Without the seeds nobody can find
/// two different ones that do.
pub(crate) type Id = [u64; 2];

impl<'a> Key<'a> {
    /// Makes the key of `identity` in `space`.
    #[inline]
    pub fn new(space: &'a KeySpace, identity: IdentityRef<'a>) -> Self {
        let tag = tag_of(identity);
        Self {
            tag,
            id: chain(tag, space.id),
            space,
            identity,
            rest: &[],
            prefix: None,
        }
    }

    /// Sets the last part, such as a lock's unit. An empty one is no part.
    #[must_use]
    pub fn with_rest(self, rest: &'a [u8]) -> Self {
        // Made anew from the tag: a rest that was set before is replaced, and the prefixes are applied last, as in `within`.
        let id = chain(self.tag, self.space.id);
        let id = match rest {
            [] => id,
            _ => chain(id, hash(REST, rest)),
        };
        let mut key = Self { id, rest, ..self };
        key.id = key.prefixed_id(id);
        key
    }

    /// Returns the kind of the key's space, such as `limit`.
    #[inline]
    pub fn kind(&self) -> &'static str {
        self.space.kind
    }

    /// Returns true if both keys live in one slot of a Cluster, so that one program may have both.
    #[inline]
    pub fn same_tag(&self, other: &Self) -> bool {
        self.tag == other.tag
    }

    /// Returns 128 bits that stand for the key in this process, for a table of one's own.
    ///
    /// Equal keys have equal bits. Two different keys with the same bits cannot be found on purpose, as the bits are seeded when
    /// the process starts. They are another number in the next process, so they are not for a store.
    #[inline]
    pub const fn bits(&self) -> u128 {
        (self.id[0] as u128) << 64 | self.id[1] as u128
    }

    /// Appends the key's text to `out`.
    pub fn render(&self, out: &mut Vec<u8>) {
        if let Some(prefix) = self.prefix {
            prefix.render(out);
        }
        out.push(b'{');
        render_identity(self.identity, out);
        out.extend_from_slice(b"}:");
        if self.rest.is_empty() {
            out.extend_from_slice(self.space.text.as_bytes());
        } else {
            self.space.render_with(self.rest, out);
        }
    }

    /// Returns 10 bits that all keys of one tag share, for the choice of a shard.
    ///
    /// The upper bits of the sum: in each word alone the tags of neighbouring numbers may fall close together under some seeds.
    #[inline]
    pub(crate) fn tag_bits(&self) -> usize {
        (self.tag[0].wrapping_add(self.tag[1]) >> (u64::BITS - 10)) as usize
    }

    #[inline]
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Returns the key behind one more prefix.
    pub(crate) fn within<'b>(&self, within: &'b PrefixChain<'b>) -> Key<'b>
    where
        'a: 'b,
    {
        Key {
            id: within.prefix.put_before(self.id),
            prefix: Some(within),
            ..*self
        }
    }

    pub(crate) fn prefix(&self) -> Option<&'a PrefixChain<'a>> {
        self.prefix
    }

    /// Returns the parts, without the prefixes.
    pub(crate) fn parts(&self) -> (&'a KeySpace, IdentityRef<'a>, &'a [u8]) {
        (self.space, self.identity, self.rest)
    }

    fn prefixed_id(&self, id: Id) -> Id {
        // The chain goes from the innermost wrapper outwards. The prefixes were applied the other way round.
        fn apply(id: Id, within: Option<&PrefixChain<'_>>) -> Id {
            match within {
                None => id,
                Some(PrefixChain { prefix, outer }) => prefix.put_before(apply(id, *outer)),
            }
        }
        apply(id, self.prefix)
    }
}

impl fmt::Debug for Key<'_> {
    /// Shows the space alone: the identity may be an address or an API key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.space.text).finish()
    }
}

impl KeySpace {
    /// Makes the space of values of one `kind` under one `name`, such as a policy's.
    ///
    /// `kind` is a short word of the layer that owns the values. The known ones:
    ///
    /// | Kind | Layer | Values |
    /// | --- | --- | --- |
    /// | `limit` | `rate-limit-layer` | the state of a rate limit by GCRA |
    /// | `sliding` | `rate-limit-layer` | the counts of a sliding window |
    /// | `window` | `rate-limit-layer` | the count of a fixed or a calendar window |
    /// | `log` | `rate-limit-layer` | the times of an exact log |
    /// | `block` | `rate-limit-layer` | the strikes of a limit and the end of its block |
    /// | `permit` | `rate-limit-layer` | the permits of an in-flight limit |
    /// | `entry` | `cache-layer` | a stored response or object |
    /// | `stamp` | `cache-layer` | a token that a purge deletes |
    /// | `fill` | `cache-layer` | the process that fetches a missing entry |
    /// | `lock` | `lock-layer` | the holder of a unit |
    /// | `fence` | `lock-layer` | the last fencing token of a unit |
    /// | `record` | `lock-layer` | the outcome of a request with an idempotency key |
    /// | `probe` | `layer-store` | a byte that an open circuit breaker writes to try a store |
    /// | `data` | examples and the conformance kit | anything |
    ///
    /// Take another word for a layer of your own.
    ///
    /// # Panics
    ///
    /// If `kind` is not 1 to 16 lower-case ASCII letters.
    #[track_caller]
    pub fn new(kind: &'static str, name: &str) -> Self {
        assert!(
            (1..=16).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase()),
            "{kind:?} cannot be the kind of a key: write 1 to 16 lower-case letters, such as \"limit\""
        );
        let mut space = Self {
            id: chain(hash(KIND, kind.as_bytes()), hash(NAME, name.as_bytes())),
            kind,
            name: name.into(),
            text: Arc::default(),
        };
        let mut text = Vec::new();
        space.render_with(&[], &mut text);
        space.text = String::from_utf8(text)
            .expect("an escaped text is ASCII")
            .into();
        space
    }

    /// Returns the kind, such as `limit`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns `kind:name`, escaped: the part of a key's text that all keys of the space share.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn render_with(&self, rest: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.kind.as_bytes());
        out.push(b':');
        let start = out.len();
        escape(self.name.as_bytes(), out);
        if !rest.is_empty() {
            out.push(b':');
            escape(rest, out);
        }
        shorten(start, out);
    }
}

impl fmt::Debug for KeySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySpace").field(&self.text).finish()
    }
}

impl KeyPrefix {
    /// Makes a prefix. Its text is escaped like every other part of a key.
    ///
    /// # Panics
    ///
    /// If `text` is empty.
    #[track_caller]
    pub fn new(text: &str) -> Self {
        assert!(
            !text.is_empty(),
            "an empty prefix does not separate anything: write a name, such as \"shop\""
        );
        let mut escaped = Vec::new();
        escape(text.as_bytes(), &mut escaped);
        Self {
            id: hash(PREFIX, text.as_bytes()),
            factor: ODD,
            text: String::from_utf8(escaped)
                .expect("an escaped text is ASCII")
                .into(),
        }
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }
}

impl KeyPrefix {
    /// Returns the bits of a key behind this prefix.
    #[inline]
    const fn put_before(&self, id: Id) -> Id {
        [
            id[0].wrapping_mul(self.factor).wrapping_add(self.id[0]),
            id[1].wrapping_mul(self.factor).wrapping_add(self.id[1]),
        ]
    }
}

impl<'a> PrefixChain<'a> {
    pub(crate) fn new(prefix: &'a KeyPrefix, outer: Option<&'a Self>) -> Self {
        Self { prefix, outer }
    }

    /// Makes one prefix of all: a key behind it is the one behind each of them.
    pub(crate) fn joined(&self) -> KeyPrefix {
        let Some(outer) = self.outer else {
            return self.prefix.clone();
        };
        // The outer ones are put before a key first.
        let outer = outer.joined();
        KeyPrefix {
            id: self.prefix.put_before(outer.id),
            factor: self.prefix.factor.wrapping_mul(outer.factor),
            text: format!("{}:{}", self.prefix.text, outer.text).into(),
        }
    }

    /// Appends the prefixes' text, the innermost wrapper's first.
    pub(crate) fn render(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.text.as_bytes());
        out.push(b':');
        if let Some(outer) = self.outer {
            outer.render(out);
        }
    }
}

/// Seeds of this process. Without them nobody can make two identities that share a rate limit.
struct Seeds {
    spread: [u64; 4],
    sip: SipHasher13,
}

fn seeds() -> &'static Seeds {
    static SEEDS: OnceLock<Seeds> = OnceLock::new();
    SEEDS.get_or_init(|| {
        use std::hash::{BuildHasher, RandomState};
        let random = || RandomState::new().hash_one(0);
        Seeds {
            spread: [random(), random() | 1, random(), random() | 1],
            sip: SipHasher13::new_with_keys(random(), random()),
        }
    })
}

#[inline]
fn tag_of(identity: IdentityRef<'_>) -> Id {
    match identity {
        IdentityRef::V4(address) => spread(V4, u64::from(address)),
        IdentityRef::V6(network) => spread(V6, network),
        IdentityRef::Int(number) => spread(INT, number),
        IdentityRef::Text(text) => hash(TEXT, text),
    }
}

/// Spreads a number over 128 bits by two keyed multiplications.
///
/// The second word alone is a bijection (its factor is odd), so two numbers of one kind never collide. The first word is
/// folded, so that each of its bits depends on all bits of the number.
#[inline]
fn spread(kind: u8, number: u64) -> Id {
    let [a, b, c, d] = seeds().spread;
    let kind = u64::from(kind).wrapping_mul(ODD);
    let folded = u128::from(number ^ a ^ kind) * u128::from(b);
    let folded = (folded as u64) ^ ((folded >> 64) as u64);
    let whole = (number ^ c).wrapping_add(kind).wrapping_mul(d);
    [folded, whole ^ folded.rotate_left(32)]
}

fn hash(kind: u8, bytes: &[u8]) -> Id {
    use std::hash::Hasher;
    let mut hasher = seeds().sip;
    // The bytes first: the hasher reads them eight at a time, which the kind before them would shift.
    hasher.write(bytes);
    hasher.write_u8(kind);
    let hash = hasher.finish128();
    [hash.h1, hash.h2]
}

/// Adds a part. The multiplication makes a difference between `a, b` and `b, a`.
#[inline]
const fn chain(id: Id, part: Id) -> Id {
    [
        id[0].wrapping_mul(ODD).wrapping_add(part[0]),
        id[1].wrapping_mul(ODD).wrapping_add(part[1]),
    ]
}

/// The odd number next to 2^64 over the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

// The kind of a part goes into its bits, so that equal bytes of two kinds differ.
const V4: u8 = 1;
const V6: u8 = 2;
const INT: u8 = 3;
const TEXT: u8 = 4;
const KIND: u8 = 5;
const NAME: u8 = 6;
const REST: u8 = 7;
const PREFIX: u8 = 8;

#[cfg(test)]
mod tests;
