use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use layer_http::{KeyExtractor, RequestHead, Resolved};
use layer_store::Identity;

use crate::{LockMode, LockRefusal, Locks, lease::holder::Holder};

/// The settings that all services of one layer share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) locks: Locks,
    pub(super) key: Arc<dyn KeyExtractor>,
    pub(super) name: Option<Box<str>>,
    /// The longest time that a request waits for its lock. Zero: it does not.
    pub(super) wait: Duration,
    /// The time for which a lock stays after a response that is a success.
    pub(super) hold: Option<Duration>,
    /// Which requests share their lock. `None`: none.
    pub(super) shares: Option<Shares>,
    pub(super) enabled: bool,
}

/// Tells if a request shares its lock.
pub(super) type Shares = Arc<dyn Fn(&RequestHead<'_>) -> bool + Send + Sync>;

/// The lock that a request needs.
pub(super) enum LockNeed {
    /// None: the request passes.
    Nothing,
    /// The units of this holder.
    Lock(Arc<Holder>),
    /// It cannot be told. The request is refused.
    Refused(LockRefusal),
}

impl Shared {
    /// Decides which lock a request needs, before the store is asked.
    pub(super) fn lock_for(&self, head: &RequestHead<'_>) -> LockNeed {
        if !self.enabled {
            return LockNeed::Nothing;
        }
        let group = match self.key.resolve(head) {
            Resolved::Found(identity) => self.group_name(head, "", &identity),
            // Apart from keys that look like addresses.
            Resolved::Fallback(Some(peer)) => self.group_name(head, "/peer", &peer),
            Resolved::Fallback(None) => self.group_name(head, "/peer", &Identity::from("")),
            Resolved::Skip => return LockNeed::Nothing,
            Resolved::Refuse => {
                LockRefusal::tell_unnamed("key_not_found");
                return LockNeed::Refused(LockRefusal::KeyNotFound);
            }
            // Which of the two would be locked is the client's choice.
            Resolved::Ambiguous => {
                LockRefusal::tell_unnamed("key_ambiguous");
                return LockNeed::Refused(LockRefusal::KeyAmbiguous);
            }
            _ => {
                tracing::error!(
                    "a lock's extractor cannot find a key on this route: \
                     add the LockLayer to the route whose parameter the extractor names"
                );
                LockRefusal::tell_unnamed("misconfigured");
                return LockNeed::Refused(LockRefusal::Misconfigured);
            }
        };
        let shares = self.shares.as_ref().is_some_and(|shares| shares(head));
        let mode = match shares {
            true => LockMode::Shared,
            false => LockMode::Exclusive,
        };
        let group = self.locks.group(group);
        match group.waiting_holder(UNIT, mode, self.wait) {
            Ok(holder) => LockNeed::Lock(holder),
            Err(error) => LockNeed::Refused(error.into()),
        }
    }

    /// Returns the time for which a lock stays after a success. One that is shared is given back in any case.
    pub(super) fn hold_for(&self, holder: &Holder) -> Option<Duration> {
        self.hold.filter(|_| holder.mode() == LockMode::Exclusive)
    }

    /// Makes the name `prefix:identity`. One prefix has one extractor, so kinds of identity need no mark of their own.
    fn group_name(
        &self,
        head: &RequestHead<'_>,
        apart: &str,
        identity: &Identity<'_>,
    ) -> Identity<'static> {
        let prefix = match &self.name {
            Some(name) => name,
            None => head.matched_path().unwrap_or_default(),
        };
        let mut group = format!("{prefix}{apart}:").into_bytes();
        match identity {
            Identity::Text(text) => group.extend_from_slice(text),
            Identity::Int(number) => group.extend_from_slice(number.to_string().as_bytes()),
            Identity::V4(address) => {
                let address = Ipv4Addr::from_bits(*address).to_string();
                group.extend_from_slice(address.as_bytes());
            }
            Identity::V6(network) => {
                group.extend_from_slice(format!("{network:016x}").as_bytes());
            }
        }
        Identity::Text(group.into())
    }
}

/// The only unit of a group that a layer locks.
pub(super) const UNIT: &str = "-";

#[cfg(test)]
mod tests {
    use http::Request;
    use layer_http::key_fn;
    use layer_store::{MemoryStore, SharedStore};

    use super::*;

    #[test]
    fn the_name_of_a_group_is_a_stored_format() {
        let request = Request::put("/cars/7").body(()).unwrap();
        let named = |name: Option<&str>, apart: &str, identity: Identity<'_>| {
            let shared = Shared {
                locks: Locks::new(SharedStore::new(MemoryStore::new())),
                key: Arc::new(key_fn(|_| None)),
                name: name.map(Box::from),
                wait: Duration::ZERO,
                hold: None,
                shares: None,
                enabled: true,
            };
            match shared.group_name(&RequestHead::of(&request), apart, &identity) {
                Identity::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                other => panic!("{other:?} is not text"),
            }
        };
        assert_eq!(named(Some("car"), "", Identity::from("7")), "car:7");
        assert_eq!(named(Some("car"), "", Identity::from(7_u64)), "car:7");
        assert_eq!(named(None, "", Identity::from("7")), ":7");
        let peer = Identity::V4(0xC000_0207);
        assert_eq!(named(Some("car"), "/peer", peer), "car/peer:192.0.2.7");
        let peer = Identity::V6(0x2001_0db8_0000_0007);
        assert_eq!(named(None, "/peer", peer), "/peer:20010db800000007");
    }
}
