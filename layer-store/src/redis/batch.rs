use redis::Pipeline;

use super::{
    RedisStore,
    error::Failure,
    wire::{self, Expected, Plan, Scripts},
};
use crate::{Op, Reply, StoreError, op::check_batch};

impl RedisStore {
    pub(super) async fn answer_batch(&self, ops: &[Op<'_>]) -> Result<Reply, Failure> {
        check_batch(ops)?;
        let mut pipeline = Pipeline::with_capacity(ops.len());
        // A script that the server does not have would fail in its place: the text goes along.
        let parts = ops.iter().map(|op| match wire::plan(op, Scripts::ByText) {
            Ok(Plan::Send(command, expected)) => {
                pipeline.add_command(command);
                Part::Sent(expected)
            }
            Ok(Plan::Done(reply)) => Part::Here(Ok(reply)),
            Err(error) => Part::Here(Err(error)),
        });
        let parts: Vec<Part> = parts.collect();
        let mut values = match pipeline.is_empty() {
            true => Vec::new(),
            false => {
                let connection = self.link.connection().await?;
                let values = connection.send_all(&pipeline).await?;
                if values.len() != pipeline.len() {
                    return Err(Failure::Odd("as many replies as commands"));
                }
                if values.iter().any(wire::is_of_a_replica) {
                    self.link.leave(&connection);
                }
                values
            }
        }
        .into_iter();
        let replies = parts.into_iter().map(|part| match part {
            Part::Here(result) => result,
            Part::Sent(expected) => match values.next() {
                Some(value) => Ok(expected.read(value)?),
                None => Err(Failure::Odd("as many replies as commands").into()),
            },
        });
        Ok(Reply::Batch(replies.collect()))
    }
}

/// What becomes of one operation.
enum Part {
    /// It needs no command.
    Here(Result<Reply, StoreError>),
    Sent(Expected),
}
