//! Talks of one operation each, about many locks, in one round trip.

use layer_store::{Op, Protocol, Reply, Scratch, StoreError};

/// A talk of one operation.
pub(super) trait OneOp {
    type Output;

    /// Returns the operation.
    fn op(&self) -> Op<'_>;

    /// Reads the reply to it.
    ///
    /// # Errors
    ///
    /// That of the store, or the reply cannot be read.
    fn read(&self, reply: Result<Reply, StoreError>) -> Result<Self::Output, StoreError>;
}

/// Several talks as one operation: a batch. One that fails does not stop the others.
pub(super) struct Together<T>(pub(super) Vec<T>);

impl<T: OneOp> Protocol for Together<T> {
    /// One result for each talk, in their order.
    type Output = Vec<Result<T::Output, StoreError>>;

    fn ask<'r, 's: 'r>(&'s self, scratch: &'r mut Scratch<'s>) -> Op<'r> {
        match &self.0[..] {
            // Alone, a script goes by its hash.
            [one] => one.op(),
            all => Op::Batch(scratch.ops(all.iter().map(OneOp::op))),
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let talks = self.0.iter();
        let replies = match (&self.0[..], reply) {
            ([_], reply) => vec![reply],
            (all, reply) => match reply.and_then(|reply| reply.into_batch(all.len())) {
                Ok(replies) => replies,
                Err(error) => vec![Err(error); all.len()],
            },
        };
        Some(
            talks
                .zip(replies)
                .map(|(talk, reply)| talk.read(reply))
                .collect(),
        )
    }
}
