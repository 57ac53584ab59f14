use std::{fmt, sync::OnceLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::IdentityRef;

/// A name in a store: whose (the [`IdentityRef`]) and what (a [`KeySpace`], and within it a rest).
///
/// A key borrows its parts and allocates nothing. It carries a 128-bit identity made from them under seeds of this
/// process, which is all that the memory store compares; only a store that speaks text [`render`](Self::render)s it.
///
/// # Text
///
/// `[prefix:]{subject}:kind:name[:rest]`. The subject is the hash tag, so all keys of one subject live in one slot of a
/// Cluster. Every byte but `A-Za-z0-9-._~@/` is written `%XX`, so no header or path can choose a slot, a glob or another
/// key. A subject over 128 escaped bytes, and what follows the kind where that is longer, is written as `#` and 128 bits
/// of BLAKE3. The text is a stored format.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    tag: Id,
    id: Id,
    space: &'a KeySpace,
    subject: IdentityRef<'a>,
    rest: &'a [u8],
    prefix: Option<&'a PrefixChain<'a>>,
}

/// What kind of value, and which use of it: built once, where a policy or a cache is built.
#[derive(Clone)]
pub struct KeySpace {
    id: Id,
    kind: &'static str,
    name: Box<str>,
    /// `kind:name`, escaped, or `kind:#hash` if that is too long.
    text: Box<str>,
}

/// A text before every key of a [`Prefix`](crate::wrap::Prefix).
#[derive(Clone, Debug)]
pub struct KeyPrefix {
    id: Id,
    text: Box<str>,
}

/// One prefix on the way from a caller to its store, on the stack of the wrapper that adds it.
#[derive(Clone, Copy)]
pub(crate) struct PrefixChain<'a> {
    prefix: &'a KeyPrefix,
    outer: Option<&'a Self>,
}

/// 128 bits, seeded per process: equal for equal parts, and for no others that anybody can find.
pub(crate) type Id = [u64; 2];

impl<'a> Key<'a> {
    /// The key of `subject` in `space`.
    #[inline]
    pub fn new(space: &'a KeySpace, subject: IdentityRef<'a>) -> Self {
        let tag = tag_of(subject);
        Self {
            tag,
            id: chain(tag, space.id),
            space,
            subject,
            rest: &[],
            prefix: None,
        }
    }

    /// The same with a last part, such as a lock's unit. An empty one is none.
    #[must_use]
    pub fn with_rest(self, rest: &'a [u8]) -> Self {
        let id = chain(self.tag, self.space.id);
        let id = match rest {
            [] => id,
            _ => chain(id, hash(REST, rest)),
        };
        let mut key = Self { id, rest, ..self };
        key.id = key.prefixed_id(id);
        key
    }

    /// Whether both live in one slot of a Cluster, and so may stand in one program.
    #[inline]
    pub fn same_tag(&self, other: &Self) -> bool {
        self.tag == other.tag
    }

    /// Appends the key's text.
    pub fn render(&self, out: &mut Vec<u8>) {
        let mut within = self.prefix;
        while let Some(PrefixChain { prefix, outer }) = within {
            out.extend_from_slice(prefix.text.as_bytes());
            out.push(b':');
            within = *outer;
        }
        out.push(b'{');
        render_subject(self.subject, out);
        out.extend_from_slice(b"}:");
        if self.rest.is_empty() {
            out.extend_from_slice(self.space.text.as_bytes());
        } else {
            self.space.render_with(self.rest, out);
        }
    }

    #[inline]
    pub(crate) fn tag(&self) -> Id {
        self.tag
    }

    #[inline]
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// The key behind one more prefix.
    pub(crate) fn within<'b>(&self, within: &'b PrefixChain<'b>) -> Key<'b>
    where
        'a: 'b,
    {
        Key {
            id: chain(self.id, within.prefix.id),
            prefix: Some(within),
            ..*self
        }
    }

    pub(crate) fn prefix(&self) -> Option<&'a PrefixChain<'a>> {
        self.prefix
    }

    fn prefixed_id(&self, id: Id) -> Id {
        // The prefixes stand in the order from the innermost wrapper out; they were applied from the outermost in.
        fn apply(id: Id, within: Option<&PrefixChain<'_>>) -> Id {
            match within {
                None => id,
                Some(PrefixChain { prefix, outer }) => chain(apply(id, *outer), prefix.id),
            }
        }
        apply(id, self.prefix)
    }
}

impl fmt::Debug for Key<'_> {
    /// Names the space alone: a subject is somebody's address or API key.
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
    /// | `limit` | `rate-limit-layer` | the state of a rate limit |
    /// | `entry` | `cache-layer` | a stored response or object |
    /// | `stamp` | `cache-layer` | a token that a purge deletes |
    /// | `lock` | `lock-layer` | who holds a unit |
    /// | `fence` | `lock-layer` | the last fencing token of a unit |
    /// | `record` | `lock-layer` | the outcome of a request with an idempotency key |
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
            text: Box::default(),
        };
        let mut text = Vec::new();
        space.render_with(&[], &mut text);
        space.text = String::from_utf8(text)
            .expect("an escaped text is ASCII")
            .into();
        space
    }

    /// Its name, as given.
    pub fn name(&self) -> &str {
        &self.name
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
    /// A prefix; it is escaped like every other part.
    pub fn new(text: &str) -> Self {
        let mut escaped = Vec::new();
        escape(text.as_bytes(), &mut escaped);
        Self {
            id: hash(PREFIX, text.as_bytes()),
            text: String::from_utf8(escaped)
                .expect("an escaped text is ASCII")
                .into(),
        }
    }
}

impl<'a> PrefixChain<'a> {
    pub(crate) fn new(prefix: &'a KeyPrefix, outer: Option<&'a Self>) -> Self {
        Self { prefix, outer }
    }
}

/// The subject as the hash tag. Each kind has a form that no other can take: a text has no bare `:`, `%` or `#`.
fn render_subject(subject: IdentityRef<'_>, out: &mut Vec<u8>) {
    match subject {
        IdentityRef::V4(address) => {
            let text = std::net::Ipv4Addr::from_bits(address).to_string();
            out.extend_from_slice(b"ip:");
            out.extend_from_slice(text.as_bytes());
        }
        IdentityRef::V6(network) => out.extend_from_slice(format!("ip:{network:016x}").as_bytes()),
        IdentityRef::Int(number) => out.extend_from_slice(format!("int:{number}").as_bytes()),
        // An empty hash tag is none: a Cluster would then hash the whole key.
        IdentityRef::Text([]) => out.push(b'%'),
        IdentityRef::Text(text) => {
            let start = out.len();
            escape(text, out);
            shorten(start, out);
        }
    }
}

fn escape(part: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in part {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b'/' => {
                out.push(byte);
            }
            _ => out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
}

/// Replaces what was written since `start` by its hash, if it is long.
fn shorten(start: usize, out: &mut Vec<u8>) {
    if out.len() - start <= LONGEST {
        return;
    }
    let hash = blake3::hash(&out[start..]);
    out.truncate(start);
    out.push(b'#');
    let text = URL_SAFE_NO_PAD.encode(&hash.as_bytes()[..16]);
    out.extend_from_slice(text.as_bytes());
}

/// Seeds of this process: with them nobody outside can make two subjects meet in one bucket.
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
fn tag_of(subject: IdentityRef<'_>) -> Id {
    match subject {
        IdentityRef::V4(address) => spread(V4, u64::from(address)),
        IdentityRef::V6(network) => spread(V6, network),
        IdentityRef::Int(number) => spread(INT, number),
        IdentityRef::Text(text) => hash(TEXT, text),
    }
}

/// Two keyed multiplications. The second word alone is a bijection (an odd factor), so no two numbers of a kind collide;
/// the first is folded, so that each of its bits depends on all of the number's.
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
    hasher.write_u8(kind);
    hasher.write(bytes);
    let hash = hasher.finish128();
    [hash.h1, hash.h2]
}

/// Adds a part to an identity. The multiplication makes the order count.
#[inline]
const fn chain(id: Id, part: Id) -> Id {
    [
        id[0].wrapping_mul(ODD).wrapping_add(part[0]),
        id[1].wrapping_mul(ODD).wrapping_add(part[1]),
    ]
}

/// The longest escaped text that stands as it is.
const LONGEST: usize = 128;
/// The odd number next to 2^64 over the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

// What a hash or a spread number is of: equal bytes of two kinds have two identities.
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
