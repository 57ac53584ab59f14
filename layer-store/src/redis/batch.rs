//! A batch as one pipeline, and its replies. Nothing here does I/O.

use super::{
    connection::Replies,
    error::CallError,
    features::Features,
    resp::RespValue,
    wire::{self, Expected, Plan, Scripts},
};
use crate::{Op, Reply, StoreError, op::check_batch};

/// Turns the replies to the commands of a batch into those of its operations.
pub(super) struct BatchPlan<'o> {
    parts: Vec<Part<'o>>,
    /// The number of commands.
    commands: u32,
}

/// One operation of a batch.
enum Part<'o> {
    /// Its command was appended.
    Sent(Expected<'o>),
    /// It needs no command.
    Done(Result<Reply, StoreError>),
}

impl<'o> BatchPlan<'o> {
    /// Appends the commands of `ops` to `out`.
    ///
    /// # Errors
    ///
    /// A batch within a batch. Nothing was appended then.
    pub(super) fn write(
        ops: &[Op<'o>],
        features: Features,
        out: &mut Vec<u8>,
    ) -> Result<Self, StoreError> {
        check_batch(ops)?;
        // A script goes along as text. By its hash it would fail in its place if the server does not have it.
        let parts = ops
            .iter()
            .map(|op| match wire::plan(op, Scripts::Text, features, out) {
                Ok(Plan::Send(expected)) => Part::Sent(expected),
                Ok(Plan::Done(reply)) => Part::Done(Ok(reply)),
                Err(error) => Part::Done(Err(error)),
            });
        let parts: Vec<_> = parts.collect();
        let sent = parts.iter().filter(|part| matches!(part, Part::Sent(_)));
        Ok(Self {
            commands: sent.count() as u32,
            parts,
        })
    }

    pub(super) const fn commands(&self) -> u32 {
        self.commands
    }

    /// Reads the replies, one for each command. `None` for a batch without commands.
    pub(super) fn read(self, replies: Option<Replies>) -> Result<Reply, CallError> {
        const ONE_EACH: CallError = CallError::UnexpectedReply("to each command of a batch");
        let values: Vec<RespValue> = match replies {
            None => Vec::new(),
            Some(Replies::One(value)) => vec![value],
            Some(Replies::Many(values)) => values,
        };
        if values.len() != self.commands as usize {
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

    fn plan<'o>(ops: &[Op<'o>]) -> BatchPlan<'o> {
        BatchPlan::write(ops, Features::default(), &mut Vec::new()).unwrap()
    }

    fn pong() -> RespValue {
        RespValue::Status("PONG".into())
    }

    #[test]
    fn another_number_of_replies_than_commands_is_an_error() {
        for replies in [
            None,
            Some(Replies::One(pong())),
            Some(Replies::Many(vec![pong(); 3])),
        ] {
            let plan = plan(&[Op::Ping, Op::GetMany(&[]), Op::Ping]);
            let error = StoreError::from(plan.read(replies).unwrap_err());
            assert_eq!(
                (error.kind(), error.effect()),
                (ErrorKind::Corrupt, Effect::Unknown)
            );
        }
    }

    #[test]
    fn an_operation_without_a_command_has_its_reply_in_its_place() {
        let two = plan(&[Op::Ping, Op::GetMany(&[]), Op::Ping]);
        assert_eq!(two.commands(), 2);
        let values = vec![pong(), RespValue::Int(1)];
        let replies = two.read(Some(Replies::Many(values))).unwrap();
        let replies = replies.into_batch(3).unwrap();
        assert!(matches!(&replies[0], Ok(Reply::Pong)));
        assert!(matches!(&replies[1], Ok(Reply::Values(values)) if values.is_empty()));
        assert!(replies[2].is_err());
        let none = plan(&[Op::GetMany(&[])]);
        assert_eq!(none.commands(), 0);
        assert!(none.read(None).is_ok());
    }
}
