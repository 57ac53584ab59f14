use layer_store::{Arg, Key, Op};

use crate::{
    gcra::Rate,
    limit::{Bucket, Claim},
    limit_set::{MOST, Set},
    program::CHARGE,
};

/// Whom each policy counts a request for; a policy that skips it has no claim.
#[derive(Debug, Default)]
pub(crate) struct Claims<'a>([Option<Claim<'a>>; MOST]);

/// The policies that count a request for one subject: one command.
pub(crate) struct Group<'a> {
    members: Set,
    keys: [Key<'a>; MOST],
}

impl<'a> Claims<'a> {
    pub(crate) fn push(&mut self, claim: Claim<'a>) {
        let place = claim.bucket;
        self.0[place] = Some(claim);
    }

    /// The same, for a task that outlives the request.
    pub(crate) fn to_owned(&self) -> Claims<'static> {
        let owned = |claim: &Claim<'a>| Claim {
            bucket: claim.bucket,
            fallback: claim.fallback,
            identity: claim.identity.clone().into_owned(),
        };
        Claims(self.0.each_ref().map(|claim| claim.as_ref().map(owned)))
    }

    fn key<'b>(&'b self, buckets: &'b [Bucket], place: usize) -> Option<Key<'b>> {
        let claim = self.0[place].as_ref()?;
        Some(buckets[place].key(claim.identity.as_ref(), claim.fallback))
    }
}

impl<'a> Group<'a> {
    /// The first policy that is not in `seen`, with all later ones that count for the same subject.
    pub(crate) fn next(buckets: &'a [Bucket], claims: &'a Claims<'_>, seen: Set) -> Option<Self> {
        let mut unseen = (0..buckets.len())
            .filter(|place| !seen.contains(*place))
            .filter_map(|place| Some((place, claims.key(buckets, place)?)));
        let (first, key) = unseen.next()?;
        let mut group = Self {
            members: Set::one(first),
            keys: [key; MOST],
        };
        for (place, other) in unseen.filter(|(_, other)| other.same_tag(&key)) {
            group.keys[group.len()] = other;
            group.members |= Set::one(place);
        }
        Some(group)
    }

    pub(crate) const fn members(&self) -> Set {
        self.members
    }

    /// What the command is told, the charge of each bucket by its rate.
    pub(crate) fn args(&self, buckets: &[Bucket], charge: impl Fn(Rate) -> i64) -> Args {
        let mut args = [Arg::Int(0); 3 * MOST];
        for (place, bucket) in self.members.iter().enumerate() {
            let bucket = &buckets[bucket];
            args[3 * place..3 * place + 3].copy_from_slice(&bucket.args(charge(bucket.rate)));
        }
        args
    }

    pub(crate) fn op<'b>(&'b self, args: &'b Args) -> Op<'b> {
        Op::Run {
            program: &CHARGE,
            keys: &self.keys[..self.len()],
            args: &args[..3 * self.len()],
        }
    }

    const fn len(&self) -> usize {
        self.members.len()
    }
}

pub(crate) type Args = [Arg<'static>; 3 * MOST];
