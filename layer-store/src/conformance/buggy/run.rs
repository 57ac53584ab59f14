use super::{Bug, BuggyStore};
use crate::{
    Arg, Clock, Condition, Context, ErrorKind, Expiry, Key, Op, Program, Reply, Retention, Slot,
    Store, StoreError, Transaction, Ttl, op::check_program,
};

impl<T: Store> BuggyStore<T> {
    pub(super) async fn run(
        &self,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
        cx: &Context,
    ) -> Result<Reply, StoreError> {
        let op = Op::Run {
            program,
            keys,
            args,
        };
        // A program that only reads has nothing to race for.
        let writes = program.retention() == Retention::Pinned;
        match self.bug {
            Bug::RacesPrograms if writes => {
                check_program(keys)?;
                self.run_apart(program, keys, args, cx).await
            }
            Bug::TearsPrograms if writes => {
                check_program(keys)?;
                let _alone = self.running.lock().await;
                self.run_apart(program, keys, args, cx).await
            }
            Bug::RunsTwice => {
                let reply = self.inner.call(&op, cx).await?;
                self.inner.call(&op, cx).await?;
                Ok(reply)
            }
            Bug::IgnoresTags => match self.inner.call(&op, cx).await {
                Err(error) if error.kind() == ErrorKind::CrossTag => {
                    self.run_apart(program, keys, args, cx).await
                }
                result => result,
            },
            _ => self.inner.call(&op, cx).await,
        }
    }

    /// Reads, runs the twin, and writes, with others in between.
    async fn run_apart(
        &self,
        program: &'static Program,
        keys: &[Key<'_>],
        args: &[Arg<'_>],
        cx: &Context,
    ) -> Result<Reply, StoreError> {
        let now = Clock::system().now();
        let mut slots = Vec::with_capacity(keys.len());
        for key in keys {
            slots.push(match self.inner.call(&Op::Get(key), cx).await? {
                Reply::Value(Some(value)) => Slot::until(value, None),
                _ => Slot::absent(),
            });
        }
        others_go_on().await;
        let mut transaction = Transaction::new(now, &mut slots);
        let output = program.run(&mut transaction, args);
        let written = transaction.written();
        for (index, (key, slot)) in keys.iter().zip(&slots).enumerate() {
            if written & (1 << index) != 0 {
                others_go_on().await;
                self.write_back(key, slot, program, now, cx).await?;
            }
        }
        Ok(Reply::Output(output))
    }

    async fn write_back(
        &self,
        key: &Key<'_>,
        slot: &Slot,
        program: &Program,
        now: u64,
        cx: &Context,
    ) -> Result<(), StoreError> {
        let ttl = |expires: u64| Ttl::from_millis((expires - now).div_ceil(1_000));
        let op = match slot.get(now) {
            Some(value) => Op::Set {
                key,
                value,
                expiry: slot
                    .expires()
                    .and_then(ttl)
                    .map_or(Expiry::NEVER, Expiry::from),
                condition: Condition::Always,
                retention: program.retention(),
            },
            None => Op::Delete {
                key,
                if_equals: None,
            },
        };
        self.inner.call(&op, cx).await.map(drop)
    }
}

/// Lets all other tasks go on, more than once: a runtime may run a task last in one round and first in the next.
async fn others_go_on() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}
