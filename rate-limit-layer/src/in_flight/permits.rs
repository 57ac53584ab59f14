use std::{fmt, iter, slice, sync::Arc, time::Duration};

use layer_http::TypicalHold;
use layer_store::{
    Arg, Caller, Clock, Effect, ErrorKind, Op, Program, Reply, SharedStore, StoreError,
};
use tokio::{runtime::Handle, time::Instant};

use super::{
    held::Held,
    keeper::{self, joined},
    limit::InFlightLimit,
    permit::Permit,
    program::{GIVE_BACK, RENEW, TAKE},
    refusal::{InFlightRefusal, LimitReached},
    token::Token,
};
use crate::{
    InFlightPolicy,
    check::{outage::Outage, partition::Partition},
    ledger::gates::Gates,
    metrics::Outcome,
};

/// The permits of one limit over a store: takes them, renews them, gives them back.
pub(crate) struct Permits {
    caller: Caller,
    pub(crate) limit: InFlightLimit,
    outage: Outage,
    pub(crate) held: Held,
    pub(crate) typical_hold: TypicalHold,
    pub(crate) clock: Clock,
    /// Bounds the takes of one key that are under way. `None` for a store that answers at once.
    gates: Option<Gates>,
}

/// The store's answer to a take.
enum Answer {
    /// Taken. So many are held with this one.
    Taken(u32),
    /// No more may be held.
    Full,
}

impl Permits {
    pub(crate) fn new(store: SharedStore, policy: &InFlightPolicy) -> Self {
        let caller = Caller::new(store, "ratelimit");
        let answers_now = caller.answers_now();
        Self {
            outage: Outage::of(&caller.info()),
            limit: InFlightLimit::new(policy, answers_now),
            held: Held::default(),
            typical_hold: TypicalHold::default(),
            clock: Clock::system(),
            gates: (!answers_now).then(Gates::new),
            caller,
        }
    }

    /// Takes a permit, or refuses, if that needs no waiting. `None`: nothing was done, [`take`](Self::take) it.
    pub(crate) fn take_now(
        self: &Arc<Self>,
        partition: &Partition<'_>,
    ) -> Option<Result<Permit, InFlightRefusal>> {
        // ## Over a network => refused, if this process alone holds all permits
        // The store has them all, and would refuse too.
        if !self.caller.answers_now() {
            let bits = self.limit.key(partition).bits();
            return self.is_full_here(bits).then(|| Err(self.refuse_here()));
        }
        let token = Token::random();
        let reply = self.caller.call_now(&Op::Run {
            program: &TAKE,
            keys: slice::from_ref(&self.limit.key(partition)),
            args: &self.take_args(self.limit.limit, &token),
        })?;
        let owned = || partition.clone().into_owned();
        Some(match read(reply) {
            Ok(Answer::Taken(in_flight)) => {
                self.limit.count(Outcome::Admitted);
                Ok(Permit::unlisted(self.clone(), owned(), token, in_flight))
            }
            Ok(Answer::Full) => Err(self.refuse(Outcome::Refused)),
            Err(error) => {
                let pending = Permit::pending(self.clone(), owned(), token);
                self.unanswered(pending, &error)
            }
        })
    }

    /// Takes a permit, waiting for the store, after [`take_now`](Self::take_now) has tried.
    ///
    /// Dropped at any point, it gives back what it may have taken.
    pub(crate) async fn take(
        self: &Arc<Self>,
        partition: Partition<'static>,
    ) -> Result<Permit, InFlightRefusal> {
        let bits = self.limit.key(&partition).bits();
        let (token, deadline) = (Token::random(), self.caller.deadline());
        let mut permit = Permit::pending(self.clone(), partition, token);
        let mut passage = None;
        if let Some(gates) = &self.gates {
            passage = gates.enter(iter::once((0, bits)), deadline).await;
            // ## At the gate => not sent in time
            if passage.is_none() {
                let error = StoreError::not_applied(ErrorKind::Overloaded);
                return self.unanswered(permit, &error);
            }
            // ## At the gate => refused
            // Those before it may have taken all.
            if self.is_full_here(bits) {
                return Err(self.refuse_here());
            }
        }
        // ## Asked => taken | refused | unanswered
        permit.sent();
        let reply = {
            let key = self.limit.key(permit.partition());
            let op = Op::Run {
                program: &TAKE,
                keys: slice::from_ref(&key),
                args: &self.take_args(self.limit.limit, &token),
            };
            self.caller.call_by(&op, deadline).await
        };
        drop(passage);
        match read(reply) {
            Ok(Answer::Taken(in_flight)) => {
                permit.hold(in_flight, self.renew_at(Instant::now()));
                self.limit.count(Outcome::Admitted);
                self.keep();
                Ok(permit)
            }
            Ok(Answer::Full) => {
                permit.not_sent();
                Err(self.refuse(Outcome::Refused))
            }
            Err(error) => self.unanswered(permit, &error),
        }
    }

    /// Decides on a request whose take the store did not answer.
    #[cold]
    fn unanswered(
        self: &Arc<Self>,
        mut permit: Permit,
        error: &StoreError,
    ) -> Result<Permit, InFlightRefusal> {
        // What was not applied need not be given back.
        if error.effect() == Effect::NotApplied {
            permit.not_sent();
        }
        let closed = self.limit.fails_closed();
        let outcome = match closed {
            true => Outcome::FailedClosed,
            false => Outcome::FailedOpen,
        };
        self.limit.count(outcome);
        tracing::debug!(
            policy = &*self.limit.name,
            outcome = outcome.as_str(),
            kind = error.kind().as_str(),
            error = %error.report(),
            "in-flight limit not checked"
        );
        // ## Unanswered => refused: the limit fails closed
        if let Some(unavailable) = self.outage.decide(error, closed) {
            return Err(InFlightRefusal::Unavailable(unavailable));
        }
        // ## Unanswered => held | refused: this process counts for itself
        // What is held now goes to the store with the next renewal that it answers.
        if !permit.hold_unseen(self.limit.share, self.renew_at(Instant::now())) {
            return Err(self.refuse_here());
        }
        self.keep();
        Ok(permit)
    }

    /// Counts the permits of a partition that are held in the store.
    pub(crate) async fn count(&self, partition: &Partition<'_>) -> Result<u32, StoreError> {
        // A take of none.
        let token = Token::random();
        let args = self.take_args(0, &token);
        let output = self.run(&TAKE, partition, &args).await?.into_output()?;
        let count = output.int(1).and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(Reply::unexpected)
    }

    /// Renews permits of a partition.
    pub(crate) async fn renew(
        &self,
        partition: &Partition<'_>,
        tokens: &[Token],
    ) -> Result<(), StoreError> {
        let args = [
            Arg::Int(self.limit.lease as i64),
            Arg::Bytes(&joined(tokens)),
        ];
        let output = self.run(&RENEW, partition, &args).await?.into_output()?;
        match output.int(0) {
            Some(0..) => Ok(()),
            _ => Err(Reply::unexpected()),
        }
    }

    /// Gives permits of a partition back. What fails is left to the keeper.
    pub(crate) async fn give_back(
        self: &Arc<Self>,
        partition: &Partition<'static>,
        tokens: &[Token],
    ) {
        let args = [Arg::Bytes(&joined(tokens))];
        let Err(error) = self.run(&GIVE_BACK, partition, &args).await else {
            return;
        };
        tracing::debug!(
            policy = &*self.limit.name,
            kind = error.kind().as_str(),
            error = %error.report(),
            "a permit is given back later"
        );
        let bits = self.limit.key(partition).bits();
        let until = self.lease_end();
        self.held
            .lock()
            .not_given_back(bits, partition, tokens, until);
        self.keep();
    }

    /// Gives a permit back, from a destructor: nothing waits for it.
    pub(crate) fn give_back_soon(self: &Arc<Self>, partition: Partition<'static>, token: Token) {
        if self.caller.answers_now() && self.give_back_now(&partition, token) {
            return;
        }
        // ## Without a runtime
        // The lease ends by itself: such a store cannot be called at all.
        let here = Handle::try_current().ok();
        let Some(runtime) = here.or_else(|| self.held.lock().runtime()) else {
            return;
        };
        let permits = self.clone();
        runtime.spawn(async move { permits.give_back(&partition, &[token]).await });
    }

    fn give_back_now(&self, partition: &Partition<'_>, token: Token) -> bool {
        let reply = self.caller.call_now(&Op::Run {
            program: &GIVE_BACK,
            keys: slice::from_ref(&self.limit.key(partition)),
            args: &[Arg::Bytes(token.as_bytes())],
        });
        matches!(reply, Some(Ok(_)))
    }

    /// Makes the refusal of a request that finds all permits held.
    #[cold]
    fn refuse(&self, outcome: Outcome) -> InFlightRefusal {
        self.limit.count(outcome);
        let reached = LimitReached::new(
            self.limit.name.clone(),
            self.limit.limit,
            self.typical_hold.get(),
        );
        tracing::debug!(
            policy = &*self.limit.name,
            limit = self.limit.limit,
            "in-flight limit reached"
        );
        InFlightRefusal::LimitReached(reached)
    }

    /// Refuses a request because of what this process holds.
    #[cold]
    fn refuse_here(&self) -> InFlightRefusal {
        self.refuse(Outcome::RefusedByLedger)
    }

    fn is_full_here(&self, bits: u128) -> bool {
        self.held.lock().held(bits) >= self.limit.limit as usize
    }

    /// Sees to it that what is held is renewed.
    fn keep(self: &Arc<Self>) {
        // Without a runtime there is no network either.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let begin = || runtime.spawn(keeper::keep(self.clone())).abort_handle();
        self.held.lock().keep(&runtime, begin);
    }

    /// Returns when permits are due that were taken or renewed at `sent`.
    pub(crate) fn renew_at(&self, sent: Instant) -> Instant {
        sent + keeper::due_after(self.lease())
    }

    /// Returns the time between two looks at what is due.
    pub(crate) fn tick(&self) -> Duration {
        keeper::tick(self.lease())
    }

    /// Returns when a permit that was renewed until now has ended by itself.
    pub(crate) fn lease_end(&self) -> Instant {
        Instant::now() + self.lease()
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.limit.lease)
    }

    const fn take_args<'a>(&self, limit: u32, token: &'a Token) -> [Arg<'a>; 3] {
        [
            Arg::Int(limit as i64),
            Arg::Int(self.limit.lease as i64),
            Arg::Bytes(token.as_bytes()),
        ]
    }

    async fn run(
        &self,
        program: &'static Program,
        partition: &Partition<'_>,
        args: &[Arg<'_>],
    ) -> Result<Reply, StoreError> {
        let key = self.limit.key(partition);
        let op = Op::Run {
            program,
            keys: slice::from_ref(&key),
            args,
        };
        self.caller.call(&op).await
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("store", self.caller.store())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Reads the reply to a take.
fn read(reply: Result<Reply, StoreError>) -> Result<Answer, StoreError> {
    let output = reply.and_then(Reply::into_output)?;
    let held = output.int(1).and_then(|held| u32::try_from(held).ok());
    match (output.int(0), held) {
        (Some(1), Some(held)) => Ok(Answer::Taken(held)),
        (Some(0), Some(_)) => Ok(Answer::Full),
        // A value in the store is not ours, or the reply is not the program's.
        _ => Err(Reply::unexpected()),
    }
}
