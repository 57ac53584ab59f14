use crate::{ErrorKind, Output, Page, StoreError, Value};

/// The reply of a [`Store`](crate::Store) to an [`Op`](crate::Op).
///
/// Each operation has its variant. The `into_` methods take the expected one out and turn every other into the error of an
/// unexpected reply: [`ErrorKind::Corrupt`] with [`Effect::Unknown`](crate::Effect::Unknown).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// The reply to [`Op::Get`](crate::Op::Get).
    Value(Option<Value>),
    /// The reply to [`Op::GetMany`](crate::Op::GetMany), in the order of the keys.
    Values(Vec<Option<Value>>),
    /// The reply to [`Op::Set`](crate::Op::Set).
    Set {
        /// True if the value was written.
        applied: bool,
        /// The value that is there, after a refused [`Condition::Absent`](crate::Condition::Absent) or
        /// [`Condition::Equals`](crate::Condition::Equals).
        existing: Option<Value>,
    },
    /// The reply to [`Op::Delete`](crate::Op::Delete), [`Op::DeleteMany`](crate::Op::DeleteMany) and
    /// [`Op::Touch`](crate::Op::Touch): how many values were deleted or touched.
    Count(u64),
    /// The reply to [`Op::Add`](crate::Op::Add).
    Added {
        /// True if the sum was written.
        applied: bool,
        /// The sum. If it would have been above the maximum: the integer that is there.
        value: i64,
    },
    /// The reply to [`Op::Scan`](crate::Op::Scan).
    Page(Box<Page>),
    /// The reply to [`Op::Run`](crate::Op::Run).
    Output(Output),
    /// The reply to [`Op::Batch`](crate::Op::Batch): a reply or an error for each operation.
    Batch(Vec<Result<Self, StoreError>>),
    /// The reply to [`Op::Ping`](crate::Op::Ping).
    Pong,
}

impl Reply {
    /// Takes out the value of [`Reply::Value`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_value(self) -> Result<Option<Value>, StoreError> {
        match self {
            Self::Value(value) => Ok(value),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the values of [`Reply::Values`].
    ///
    /// # Errors
    ///
    /// The reply is another one, or has another number of values than `len`.
    pub fn into_values(self, len: usize) -> Result<Vec<Option<Value>>, StoreError> {
        match self {
            Self::Values(values) if values.len() == len => Ok(values),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the two fields of [`Reply::Set`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_set(self) -> Result<(bool, Option<Value>), StoreError> {
        match self {
            Self::Set { applied, existing } => Ok((applied, existing)),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the number of [`Reply::Count`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_count(self) -> Result<u64, StoreError> {
        match self {
            Self::Count(count) => Ok(count),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the two fields of [`Reply::Added`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_added(self) -> Result<(bool, i64), StoreError> {
        match self {
            Self::Added { applied, value } => Ok((applied, value)),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the page of [`Reply::Page`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_page(self) -> Result<Page, StoreError> {
        match self {
            Self::Page(page) => Ok(*page),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the output of [`Reply::Output`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_output(self) -> Result<Output, StoreError> {
        match self {
            Self::Output(output) => Ok(output),
            _ => Err(Self::unexpected()),
        }
    }

    /// Takes out the results of [`Reply::Batch`].
    ///
    /// # Errors
    ///
    /// The reply is another one, or has another number of results than `len`.
    pub fn into_batch(self, len: usize) -> Result<Vec<Result<Self, StoreError>>, StoreError> {
        match self {
            Self::Batch(replies) if replies.len() == len => Ok(replies),
            _ => Err(Self::unexpected()),
        }
    }

    /// Checks for [`Reply::Pong`].
    ///
    /// # Errors
    ///
    /// The reply is another one.
    pub fn into_pong(self) -> Result<(), StoreError> {
        match self {
            Self::Pong => Ok(()),
            _ => Err(Self::unexpected()),
        }
    }

    /// Makes the error for a reply of another operation, or one whose content is not possible: [`ErrorKind::Corrupt`] with
    /// [`Effect::Unknown`](crate::Effect::Unknown).
    #[cold]
    pub fn unexpected() -> StoreError {
        StoreError::unknown(ErrorKind::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effect;

    #[test]
    fn every_other_reply_is_an_error_that_may_have_been_applied() {
        let replies = || {
            [
                Reply::Value(None),
                Reply::Values(vec![None]),
                Reply::Set {
                    applied: true,
                    existing: None,
                },
                Reply::Count(1),
                Reply::Added {
                    applied: true,
                    value: 1,
                },
                Reply::Page(Box::default()),
                Reply::Output(Output::new()),
                Reply::Batch(vec![Ok(Reply::Pong)]),
                Reply::Pong,
            ]
        };
        let taken: [fn(Reply) -> Result<(), StoreError>; 9] = [
            |reply| reply.into_value().map(drop),
            |reply| reply.into_values(1).map(drop),
            |reply| reply.into_set().map(drop),
            |reply| reply.into_count().map(drop),
            |reply| reply.into_added().map(drop),
            |reply| reply.into_page().map(drop),
            |reply| reply.into_output().map(drop),
            |reply| reply.into_batch(1).map(drop),
            |reply| reply.into_pong(),
        ];
        for (i, take) in taken.iter().enumerate() {
            for (j, reply) in replies().into_iter().enumerate() {
                match take(reply) {
                    Ok(()) => assert_eq!(i, j),
                    Err(error) => {
                        assert_ne!(i, j);
                        assert_eq!(
                            (error.kind(), error.effect()),
                            (ErrorKind::Corrupt, Effect::Unknown)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn another_number_of_values_than_asked_for_is_an_error() {
        assert!(Reply::Values(vec![None]).into_values(2).is_err());
        assert!(Reply::Batch(Vec::new()).into_batch(1).is_err());
    }
}
