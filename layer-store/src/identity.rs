use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The identity of a client: the result of a key extractor. A [`Key`](crate::Key) takes its [reference](Self::as_ref).
///
/// ```
/// use std::net::Ipv4Addr;
///
/// use layer_store::Identity;
///
/// let by_address = Identity::from(Ipv4Addr::new(203, 0, 113, 9));
/// let by_user = Identity::from(7);
/// let by_api_key = Identity::from("key-of-ada");
/// assert_ne!(by_user, Identity::from("7"));
/// # let _ = (by_address, by_api_key);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// An IPv4 address.
    V4(u32),
    /// The upper half of an IPv6 address: its /64 network, because one subscriber has a whole one.
    V6(u64),
    /// A number, such as a user's.
    Int(u64),
    /// Any bytes, such as an API key. They never reach a log, and a store only in the form of a [`Key`](crate::Key)'s text.
    Text(Cow<'a, [u8]>),
}

/// A borrowed [`Identity`], as small as a [`Key`](crate::Key) needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityRef<'a> {
    /// See [`Identity::V4`].
    V4(u32),
    /// See [`Identity::V6`].
    V6(u64),
    /// See [`Identity::Int`].
    Int(u64),
    /// See [`Identity::Text`].
    Text(&'a [u8]),
}

impl Identity<'_> {
    /// Borrows the identity, for a [`Key`](crate::Key).
    #[inline]
    pub fn as_ref(&self) -> IdentityRef<'_> {
        match self {
            Self::V4(address) => IdentityRef::V4(*address),
            Self::V6(network) => IdentityRef::V6(*network),
            Self::Int(number) => IdentityRef::Int(*number),
            Self::Text(text) => IdentityRef::Text(text),
        }
    }

    /// Copies the text if it is borrowed.
    pub fn into_owned(self) -> Identity<'static> {
        match self {
            Self::V4(address) => Identity::V4(address),
            Self::V6(network) => Identity::V6(network),
            Self::Int(number) => Identity::Int(number),
            Self::Text(text) => Identity::Text(Cow::Owned(text.into_owned())),
        }
    }
}

impl From<Ipv4Addr> for Identity<'_> {
    fn from(address: Ipv4Addr) -> Self {
        Self::V4(address.to_bits())
    }
}

impl From<Ipv6Addr> for Identity<'_> {
    /// Takes the /64 network. An address that holds an IPv4 one becomes that IPv4 address: mapped (`::ffff:0:0/96`), or translated by
    /// NAT64 (`64:ff9b::/96`, RFC 6052). All of NAT64 would otherwise be one /64.
    fn from(address: Ipv6Addr) -> Self {
        match of_v6(address) {
            IdentityRef::V4(address) => Self::V4(address),
            IdentityRef::V6(network) => Self::V6(network),
            IdentityRef::Int(_) | IdentityRef::Text(_) => unreachable!("an address is neither"),
        }
    }
}

impl From<IpAddr> for Identity<'_> {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<IpAddr> for IdentityRef<'_> {
    /// Takes what [`Identity`] takes of it.
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

impl From<u64> for Identity<'_> {
    fn from(number: u64) -> Self {
        Self::Int(number)
    }
}

impl From<u32> for Identity<'_> {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<i64> for Identity<'_> {
    /// Makes the number a [`Identity::Int`] if it is not negative, and its decimal text otherwise: `-7` is the text `-7`.
    ///
    /// The minus sign and the other kind keep it apart from every number that is not negative.
    fn from(number: i64) -> Self {
        match u64::try_from(number) {
            Ok(number) => Self::Int(number),
            Err(_) => number.to_string().into(),
        }
    }
}

impl From<i32> for Identity<'_> {
    /// See [`From<i64>`](#impl-From%3Ci64%3E-for-Identity%3C'_%3E).
    fn from(number: i32) -> Self {
        i64::from(number).into()
    }
}

impl<'a> From<&'a str> for Identity<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a [u8]> for Identity<'a> {
    fn from(text: &'a [u8]) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Identity<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Identity<'_> {
    fn from(bytes: [u8; N]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<Vec<u8>> for Identity<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Text(Cow::Owned(bytes))
    }
}

impl From<String> for Identity<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text.into_bytes()))
    }
}

impl<'a> From<&'a String> for Identity<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

/// Returns the /64 network, or the IPv4 address that is in it.
// Inlined, so that the identity of a peer needs no place in memory.
#[inline(always)]
fn of_v6(address: Ipv6Addr) -> IdentityRef<'static> {
    let bits = address.to_bits();
    match bits >> 32 {
        MAPPED | NAT64 => IdentityRef::V4(bits as u32),
        _ => IdentityRef::V6((bits >> 64) as u64),
    }
}

/// The 96 bits before a mapped IPv4 address.
const MAPPED: u128 = 0xffff;
/// The 96 bits of the well-known prefix of NAT64 before the IPv4 address.
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_subscriber_are_one_identity() {
        let v6 = |text: &str| Identity::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(v6("2001:db8:0:1::1"), v6("2001:db8::1"));
        assert_eq!(v6("::ffff:192.0.2.7"), v6("192.0.2.7"));
        assert_ne!(v6("::ffff:192.0.2.7"), v6("::ffff:192.0.2.8"));
        assert_eq!(v6("64:ff9b::192.0.2.7"), v6("192.0.2.7"));
        assert_ne!(v6("64:ff9b::192.0.2.7"), v6("64:ff9b::192.0.2.8"));
        for text in [
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "64:ff9b::192.0.2.7",
            "2001:db8::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IdentityRef::from(address), Identity::from(address).as_ref());
        }
        // Neighbours of the two prefixes, and the one for local use (RFC 8215), whose form is not known.
        for network in [
            "64:ff9b::1:0:0",
            "64:ff9b:1::c000:207",
            "::fffe:192.0.2.7",
            "::192.0.2.7",
        ] {
            assert!(matches!(v6(network), Identity::V6(_)), "{network}");
        }
    }

    #[test]
    fn a_number_is_one_identity_whatever_its_type() {
        for identity in [
            7_u32.into(),
            7_u64.into(),
            7_i32.into(),
            Identity::from(7_i64),
        ] {
            assert_eq!(identity, Identity::Int(7));
        }
        assert_eq!(Identity::from(0_i64), Identity::Int(0));
    }

    #[test]
    fn a_negative_number_is_no_other_number() {
        for (number, text) in [(-7, "-7"), (i64::MIN, "-9223372036854775808")] {
            assert_eq!(Identity::from(number), Identity::from(text));
            assert_ne!(Identity::from(number), Identity::from(number as u64));
        }
        assert_eq!(Identity::from(-7_i32), Identity::from(-7_i64));
    }

    #[test]
    fn bytes_are_one_identity_whoever_owns_them() {
        let bytes = [1, 2, 255];
        let identity = Identity::from(&bytes[..]);
        assert_eq!(Identity::from(&bytes), identity);
        assert_eq!(Identity::from(bytes), identity);
        assert_eq!(Identity::from(bytes.to_vec()), identity);
        let text = "ada".to_owned();
        assert_eq!(Identity::from(&text), Identity::from("ada"));
        assert_eq!(Identity::from(text), Identity::from(b"ada"));
    }
}
