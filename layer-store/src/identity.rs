use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Who a request counts for: what a key extractor gives. It lends its [reference](Self::as_ref) to a [`Key`](crate::Key).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// An IPv4 address.
    V4(u32),
    /// The upper half of an IPv6 address: its /64 network, which is what one subscriber has.
    V6(u64),
    /// A number, such as a user's.
    Int(u64),
    /// Any bytes, such as an API key. They never reach a log, and no store as they are: see [`Key`](crate::Key).
    Text(Cow<'a, [u8]>),
}

/// An [`Identity`] on loan, as small as a [`Key`](crate::Key) needs it.
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
    /// What a [`Key`](crate::Key) takes.
    #[inline]
    pub fn as_ref(&self) -> IdentityRef<'_> {
        match self {
            Self::V4(address) => IdentityRef::V4(*address),
            Self::V6(network) => IdentityRef::V6(*network),
            Self::Int(number) => IdentityRef::Int(*number),
            Self::Text(text) => IdentityRef::Text(text),
        }
    }

    /// The same, owning its text.
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
    /// Decides by the bits, not by the notation: a mapped IPv4 address is that IPv4 address.
    fn from(address: Ipv6Addr) -> Self {
        match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Self::V6((address.to_bits() >> 64) as u64),
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

impl From<u64> for Identity<'_> {
    fn from(number: u64) -> Self {
        Self::Int(number)
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
    }
}
