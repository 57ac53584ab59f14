use std::{sync::Arc, time::Duration};

use layer_store::{
    Arg, Context, ErrorKind, Identity, Key, Op, Output, Program, Reply, Store, StoreError,
};
use tokio::time::Instant;

use crate::{
    Released,
    locks::Shared,
    patience::{Patience, ask},
    programs::{ACQUIRE, EXTEND, RELEASE, REVOKE},
    token::Token,
};

/// Units of one group, and the token with which they are asked for: what one holder has, or wants to.
#[derive(Debug)]
pub(crate) struct Claim {
    shared: Arc<Shared>,
    group: Identity<'static>,
    /// Sorted, none twice.
    units: Box<[Box<[u8]>]>,
    token: Token,
}

/// What a claim got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) fence: u64,
    /// Before the command was sent: the store began to count later.
    pub(crate) sent: Instant,
}

/// Why a claim got nothing.
#[derive(Debug)]
pub(crate) enum Denied {
    /// Others hold some of it; for so long, if they do nothing.
    Busy { wait: Duration },
    /// The store did not say.
    Unavailable(StoreError),
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    Renewed,
    PutBack,
    Lost,
}

impl Claim {
    pub(crate) fn new(
        shared: Arc<Shared>,
        group: Identity<'static>,
        units: Box<[Box<[u8]>]>,
    ) -> Self {
        Self {
            shared,
            group,
            units,
            token: Token::random(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Asks once, if the store needs no waiting.
    pub(crate) fn acquire_now(&self) -> Option<Result<Grant, Denied>> {
        let sent = Instant::now();
        let reply = self.run_now(&ACQUIRE, &self.acquire_args())?;
        Some(granted(reply, sent))
    }

    /// Asks until there is an answer or the patience ends, with one token: what a lost reply granted is granted again.
    pub(crate) async fn acquire(&self, patience: &mut Patience) -> Result<Grant, Denied> {
        let args = self.acquire_args();
        loop {
            let sent = Instant::now();
            let reply = self.run(&ACQUIRE, &args, patience.deadline()).await;
            match granted(reply, sent) {
                Err(Denied::Unavailable(error)) if patience.outlasts(&error).await => {}
                result => return result,
            }
        }
    }

    /// Renews once.
    pub(crate) async fn extend(&self, fence: u64, until: Instant) -> Result<Extended, StoreError> {
        let args = [
            self.token(),
            Arg::Int(fence as i64),
            Arg::Int(self.shared.lease.ttl().as_millis() as i64),
            FENCE_LIFE,
        ];
        match self.run(&EXTEND, &args, until).await?.int(0) {
            Some(0) => Ok(Extended::Lost),
            Some(1) => Ok(Extended::Renewed),
            Some(2) => Ok(Extended::PutBack),
            _ => Err(odd()),
        }
    }

    /// Gives back once, if the store needs no waiting.
    pub(crate) fn release_now(&self, fence: u64) -> Option<Result<Released, StoreError>> {
        let reply = self.run_now(&RELEASE, &self.release_args(fence))?;
        Some(reply.and_then(|reply| self.released(reply)))
    }

    /// Gives back once.
    pub(crate) async fn release(&self, fence: u64, until: Instant) -> Result<Released, StoreError> {
        let args = self.release_args(fence);
        self.released(self.run(&RELEASE, &args, until).await?)
    }

    /// Takes the units from whoever has them: how many were held.
    pub(crate) async fn revoke(&self) -> Result<u64, StoreError> {
        let until = Patience::of_caller().deadline();
        count(self.run(&REVOKE, &[FENCE_LIFE], until).await?)
    }

    /// How many units somebody holds.
    pub(crate) async fn held(&self) -> Result<usize, StoreError> {
        let keys = self.keys();
        let locks: Vec<_> = keys.iter().step_by(2).copied().collect();
        let until = Patience::of_caller().deadline();
        match ask(&self.shared.store, &Op::GetMany(&locks), CX, until).await? {
            Reply::Values(values) => Ok(values.iter().flatten().count()),
            _ => Err(odd()),
        }
    }

    fn released(&self, reply: Output) -> Result<Released, StoreError> {
        Ok(match count(reply)? == self.units.len() as u64 {
            true => Released::Held,
            false => Released::Ended,
        })
    }

    fn acquire_args(&self) -> [Arg<'_>; 3] {
        let lease = self.shared.lease.ttl().as_millis() as i64;
        [self.token(), Arg::Int(lease), FENCE_LIFE]
    }

    fn release_args(&self, fence: u64) -> [Arg<'_>; 3] {
        [self.token(), Arg::Int(fence as i64), FENCE_LIFE]
    }

    fn token(&self) -> Arg<'_> {
        Arg::Bytes(self.token.as_bytes())
    }

    fn run_now(
        &self,
        program: &'static Program,
        args: &[Arg<'_>],
    ) -> Option<Result<Output, StoreError>> {
        let keys = self.keys();
        let op = Op::Run {
            program,
            keys: &keys,
            args,
        };
        let reply = self.shared.store.call_now(&op, &CX)?;
        Some(reply.and_then(data))
    }

    async fn run(
        &self,
        program: &'static Program,
        args: &[Arg<'_>],
        until: Instant,
    ) -> Result<Output, StoreError> {
        let keys = self.keys();
        let op = Op::Run {
            program,
            keys: &keys,
            args,
        };
        data(ask(&self.shared.store, &op, CX, until).await?)
    }

    /// A lock and a fence for each unit. All share the group as their tag.
    fn keys(&self) -> Vec<Key<'_>> {
        let subject = self.group.as_ref();
        let lock = Key::new(&self.shared.locks, subject);
        let fence = Key::new(&self.shared.fences, subject);
        let units = self.units.iter();
        units
            .flat_map(|unit| [lock.with_rest(unit), fence.with_rest(unit)])
            .collect()
    }
}

fn granted(reply: Result<Output, StoreError>, sent: Instant) -> Result<Grant, Denied> {
    let reply = reply.map_err(Denied::Unavailable)?;
    match (reply.int(0), reply.int(1)) {
        (Some(1), Some(fence)) => Ok(Grant {
            fence: fence as u64,
            sent,
        }),
        (Some(0), Some(wait)) => Err(Denied::Busy {
            wait: Duration::from_millis(wait.max(0) as u64),
        }),
        _ => Err(Denied::Unavailable(odd())),
    }
}

fn data(reply: Reply) -> Result<Output, StoreError> {
    match reply {
        Reply::Output(data) => Ok(data),
        _ => Err(odd()),
    }
}

fn count(data: Output) -> Result<u64, StoreError> {
    data.int(0).map(|count| count as u64).ok_or_else(odd)
}

/// A reply of another command: it may have been applied.
fn odd() -> StoreError {
    StoreError::unknown(ErrorKind::Corrupt)
}

const CX: Context = Context::new("lock");
/// A day, in ms. Fences rise with the time, so they may expire; while one stands it also shows whether a lock that is gone
/// may be put back.
const FENCE_LIFE: Arg<'static> = Arg::Int(24 * 3_600_000);
