//! A batch as one pipeline, and its replies. Nothing here does I/O.

use redis::{Pipeline, Value as Wire};

use super::{
    old_error::CallError,
    old_wire::{self, Expected, Plan, Scripts},
};
use crate::{Op, Reply, StoreError, op::check_batch};

/// The commands of a batch, and how their replies become those of its operations.
pub(super) struct BatchPlan {
    pipeline: Pipeline,
    parts: Vec<Part>,
}

/// One operation of a batch.
enum Part {
    /// It is in the pipeline.
    Sent(Expected),
    /// It needs no command.
    Done(Result<Reply, StoreError>),
}

impl BatchPlan {
    pub(super) fn of(ops: &[Op<'_>]) -> Result<Self, StoreError> {
        check_batch(ops)?;
        let mut pipeline = Pipeline::with_capacity(ops.len());
        // A script goes along as text. By its hash it would fail in its place if the server does not have it.
        let parts = ops.iter().map(|op| match old_wire::plan(op, Scripts::ByText) {
            Ok(Plan::Send(command, expected)) => {
                pipeline.add_command(command);
                Part::Sent(expected)
            }
            Ok(Plan::Done(reply)) => Part::Done(Ok(reply)),
            Err(error) => Part::Done(Err(error)),
        });
        let parts = parts.collect();
        Ok(Self { pipeline, parts })
    }

    /// Returns the commands. `None`: there is nothing to send.
    pub(super) fn pipeline(&self) -> Option<&Pipeline> {
        Some(&self.pipeline).filter(|pipeline| !pipeline.is_empty())
    }

    /// Reads the replies, one for each command.
    pub(super) fn read(self, values: Vec<Wire>) -> Result<Reply, CallError> {
        const ONE_EACH: CallError = CallError::UnexpectedReply("to each command of a batch");
        if values.len() != self.pipeline.len() {
            return Err(ONE_EACH);
        }
        let mut values = values.into_iter();
        let replies = self.parts.into_iter().map(|part| match part {
            Part::Done(result) => result,
            Part::Sent(expected) => {
                let value = values.next().ok_or(ONE_EACH)?;
                Ok(expected.read(value)?)
            }
        });
        Ok(Reply::Batch(replies.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, ErrorKind};

    #[test]
    fn another_number_of_replies_than_commands_is_an_error() {
        for len in [0, 1, 3] {
            let plan = BatchPlan::of(&[Op::Ping, Op::GetMany(&[]), Op::Ping]).unwrap();
            let values = vec![Wire::SimpleString("PONG".into()); len];
            let error = StoreError::from(plan.read(values).unwrap_err());
            assert_eq!(
                (error.kind(), error.effect()),
                (ErrorKind::Corrupt, Effect::Unknown)
            );
        }
    }

    #[test]
    fn an_operation_without_a_command_has_its_reply_in_its_place() {
        let plan = BatchPlan::of(&[Op::Ping, Op::GetMany(&[]), Op::Ping]).unwrap();
        assert_eq!(plan.pipeline().unwrap().len(), 2);
        let values = vec![Wire::SimpleString("PONG".into()), Wire::Int(1)];
        let replies = plan.read(values).unwrap().into_batch(3).unwrap();
        assert!(matches!(&replies[0], Ok(Reply::Pong)));
        assert!(matches!(&replies[1], Ok(Reply::Values(values)) if values.is_empty()));
        assert!(replies[2].is_err());
        assert!(
            BatchPlan::of(&[Op::GetMany(&[])])
                .unwrap()
                .pipeline()
                .is_none()
        );
    }
}
