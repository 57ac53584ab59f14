//! The operations that end a run, or renew its claim.
//!
//! Each is one program. A server that refuses programs after all, such as one whose access rules were changed during the run,
//! is asked with plain commands instead: they read the record, and write it if it is still this run's. Somebody could come
//! between the two, but only if the claim ended in this very moment.

use layer_store::{
    Arg, Condition, ErrorKind, Key, Op, Protocol, Reply, Retention, Scratch, StoreError, Ttl, Value,
};

use super::programs::{REMOVE, WRITE, is_own_claim, may_replace};

/// Writes a record over the run's own claim.
#[derive(Debug)]
pub(super) struct WriteRecord<'a> {
    keys: [Key<'a>; 1],
    args: [Arg<'a>; 2],
    life: Ttl,
    step: Step,
    /// The record for a plain command.
    plain: Value,
    /// What is written if the server takes no record of this size.
    smaller: Option<&'a [u8]>,
    written: Written,
}

/// The result of writing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was written.
    Whole,
    /// The server takes no record of its size. The smaller one was written.
    Smaller,
    /// The record is another run's by now, and was left alone.
    NotOwn,
}

/// Removes the run's claim. Its output is false if it is not there, or another run's.
#[derive(Debug)]
pub(super) struct RemoveClaim<'a> {
    keys: [Key<'a>; 1],
    args: [Arg<'a>; 1],
    prefix: &'a [u8],
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// One program does it all.
    Program,
    /// Programs are refused: whose is the record?
    Look,
    /// It is this run's.
    Plain,
}

impl<'a> WriteRecord<'a> {
    /// Keeps `record` for `life`.
    pub(super) fn new(key: Key<'a>, record: &'a [u8], life: Ttl) -> Self {
        Self {
            keys: [key],
            args: [Arg::Int(life.as_millis() as i64), Arg::Bytes(record)],
            life,
            step: Step::Program,
            plain: Value::from(&b""[..]),
            smaller: None,
            written: Written::Whole,
        }
    }

    /// Names a record that is kept instead if the server takes none of this size.
    pub(super) fn or(mut self, smaller: Option<&'a [u8]>) -> Self {
        self.smaller = smaller;
        self
    }

    fn record(&self) -> &'a [u8] {
        match self.args[1] {
            Arg::Bytes(record) => record,
            _ => &[],
        }
    }

    /// Goes on after a refusal: with a smaller record, with plain commands, or not at all.
    fn refused(&mut self, error: StoreError) -> Option<Result<Written, StoreError>> {
        match (error.kind(), self.step, self.smaller.take()) {
            // ## Program => Program, Plain => Plain: with a smaller record.
            (ErrorKind::TooLarge, _, Some(smaller)) => {
                self.args[1] = Arg::Bytes(smaller);
                self.plain = Value::from(smaller);
                self.written = Written::Smaller;
                None
            }
            // ## Program => Look
            (kind, Step::Program, smaller) if refuses_programs(kind) => {
                self.smaller = smaller;
                self.step = Step::Look;
                None
            }
            (_, _, smaller) => {
                self.smaller = smaller;
                Some(Err(error))
            }
        }
    }

    fn looked(&mut self, existing: Option<Value>) -> Option<Result<Written, StoreError>> {
        let is_own =
            existing.is_none_or(|old| old.with_bytes(|old| may_replace(old, self.record())));
        // ## Look => done: the record is another run's.
        if !is_own {
            return Some(Ok(Written::NotOwn));
        }
        // ## Look => Plain
        self.plain = Value::from(self.record());
        self.step = Step::Plain;
        None
    }
}

impl<'a> RemoveClaim<'a> {
    /// Removes the claim that begins with `prefix`.
    pub(super) fn new(key: Key<'a>, prefix: &'a [u8]) -> Self {
        Self {
            keys: [key],
            args: [Arg::Bytes(prefix)],
            prefix,
            step: Step::Program,
        }
    }

    fn looked(&mut self, existing: Option<Value>) -> Option<Result<bool, StoreError>> {
        let is_own =
            existing.is_some_and(|old| old.with_bytes(|old| is_own_claim(old, self.prefix)));
        // ## Look => done: there is none, or it is another run's.
        if !is_own {
            return Some(Ok(false));
        }
        // ## Look => Plain
        self.step = Step::Plain;
        None
    }
}

impl Protocol for WriteRecord<'_> {
    type Output = Result<Written, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        match self.step {
            Step::Program => Op::Run {
                program: &WRITE,
                keys: &self.keys,
                args: &self.args,
            },
            Step::Look => Op::Get(&self.keys[0]),
            Step::Plain => Op::Set {
                key: &self.keys[0],
                value: &self.plain,
                expiry: self.life.into(),
                condition: Condition::Always,
                retention: Retention::Pinned,
            },
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let done = match self.step {
            Step::Program => was_done(reply),
            Step::Look => match reply.and_then(Reply::into_value) {
                Ok(existing) => return self.looked(existing),
                Err(error) => Err(error),
            },
            Step::Plain => reply.and_then(Reply::into_set).map(|(done, _)| done),
        };
        match done {
            Ok(true) => Some(Ok(self.written)),
            Ok(false) => Some(Ok(Written::NotOwn)),
            Err(error) => self.refused(error),
        }
    }
}

impl Protocol for RemoveClaim<'_> {
    type Output = Result<bool, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        match self.step {
            Step::Program => Op::Run {
                program: &REMOVE,
                keys: &self.keys,
                args: &self.args,
            },
            Step::Look => Op::Get(&self.keys[0]),
            Step::Plain => Op::Delete {
                key: &self.keys[0],
                if_equals: None,
            },
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        let done = match self.step {
            Step::Program => was_done(reply),
            Step::Look => match reply.and_then(Reply::into_value) {
                Ok(existing) => return self.looked(existing),
                Err(error) => Err(error),
            },
            Step::Plain => reply.and_then(Reply::into_count).map(|count| count > 0),
        };
        match done {
            // ## Program => Look
            Err(error) if self.step == Step::Program && refuses_programs(error.kind()) => {
                self.step = Step::Look;
                None
            }
            done => Some(done),
        }
    }
}

/// Returns true for the errors of a server that has no programs, or not for this user.
fn refuses_programs(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Rejected | ErrorKind::Unsupported)
}

fn was_done(reply: Result<Reply, StoreError>) -> Result<bool, StoreError> {
    match reply?.into_output()?.int(0) {
        Some(done) => Ok(done == 1),
        None => Err(Reply::unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use layer_store::{IdentityRef, KeySpace, Output};

    use super::*;

    const TIMEOUT: StoreError = StoreError::unknown(ErrorKind::Timeout);
    const REJECTED: StoreError = StoreError::not_applied(ErrorKind::Rejected);
    const TOO_LARGE: StoreError = StoreError::not_applied(ErrorKind::TooLarge);

    fn output(done: i64) -> Result<Reply, StoreError> {
        Ok(Reply::Output(Output::ints(&[done])))
    }

    /// The fingerprint and the token of this run, and those of another.
    const OWN: [u8; 44] = [b'o'; 44];
    const OTHER: [u8; 44] = [b'x'; 44];

    fn record(state: u8, run: [u8; 44], rest: &[u8]) -> Vec<u8> {
        [&[b'1', state], &run[..], rest].concat()
    }

    /// Calls `test` with the key and the life of a record.
    fn with_key(test: impl FnOnce(Key<'_>, Ttl)) {
        let space = KeySpace::new("record", "http");
        let life = Ttl::from_millis(1_000).unwrap();
        test(Key::new(&space, IdentityRef::Text(b"r")), life);
    }

    #[test]
    fn each_reply_of_a_program_has_one_end() {
        with_key(|key, life| {
            let mut write = WriteRecord::new(key, b"record", life);
            let mut remove = RemoveClaim::new(key, b"prefix");
            assert_eq!(write.take(output(1)).unwrap().unwrap(), Written::Whole);
            assert_eq!(write.take(output(0)).unwrap().unwrap(), Written::NotOwn);
            assert!(remove.take(output(1)).unwrap().unwrap());
            assert!(!remove.take(output(0)).unwrap().unwrap());
            for (reply, kind) in [
                (Err(TIMEOUT), ErrorKind::Timeout),
                (Ok(Reply::Pong), ErrorKind::Corrupt),
                (Ok(Reply::Output(Output::new())), ErrorKind::Corrupt),
            ] {
                let error = write.take(reply.clone()).unwrap().unwrap_err();
                assert_eq!(error.kind(), kind);
                assert_eq!(remove.take(reply).unwrap().unwrap_err().kind(), kind);
            }
        });
    }

    #[test]
    fn a_record_that_is_too_large_is_followed_by_the_smaller_one() {
        with_key(|key, life| {
            let mut write = WriteRecord::new(key, b"record", life).or(Some(b"small"));
            assert!(write.take(Err(TOO_LARGE)).is_none());
            match write.ask(&mut Scratch::default()) {
                Op::Run { args, .. } => assert_eq!(args[1], Arg::Bytes(b"small")),
                op => panic!("{op:?}"),
            }
            assert_eq!(write.take(output(1)).unwrap().unwrap(), Written::Smaller);
            // There is none that is smaller still.
            let error = write.take(Err(TOO_LARGE)).unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        });
    }

    #[test]
    fn a_server_without_programs_is_asked_with_plain_commands() {
        let completed = record(b'C', OWN, b"whole");
        let small = record(b'D', OWN, b"201");
        with_key(|key, life| {
            for existing in [None, Some(record(b'P', OWN, b"7"))] {
                let mut write = WriteRecord::new(key, &completed, life).or(Some(&small));
                assert!(write.take(Err(REJECTED)).is_none());
                let mut scratch = Scratch::default();
                assert!(matches!(write.ask(&mut scratch), Op::Get(_)));
                let existing = existing.map(Value::from);
                assert!(write.take(Ok(Reply::Value(existing))).is_none());
                let wrote = |write: &WriteRecord<'_>| match write.ask(&mut Scratch::default()) {
                    Op::Set { value, expiry, .. } => {
                        assert_eq!(expiry, life.into());
                        value.to_bytes().to_vec()
                    }
                    op => panic!("{op:?}"),
                };
                assert_eq!(wrote(&write), completed);
                assert!(write.take(Err(TOO_LARGE)).is_none());
                assert_eq!(wrote(&write), small);
                let applied = Reply::Set {
                    applied: true,
                    existing: None,
                };
                assert_eq!(write.take(Ok(applied)).unwrap().unwrap(), Written::Smaller);
            }
            let others = [record(b'P', OTHER, b"7"), record(b'U', OWN, b"")];
            for existing in others {
                let mut write = WriteRecord::new(key, &completed, life);
                assert!(write.take(Err(REJECTED)).is_none());
                let output = write.take(Ok(Reply::Value(Some(existing.into()))));
                assert_eq!(output.unwrap().unwrap(), Written::NotOwn);
            }
        });
    }

    #[test]
    fn a_claim_is_removed_without_programs_only_if_it_is_this_runs() {
        let claim = record(b'P', OWN, b"");
        with_key(|key, _| {
            let table = [
                (Some(record(b'P', OWN, b"7")), true),
                (Some(record(b'P', OTHER, b"7")), false),
                (Some(record(b'C', OWN, b"")), false),
                (None, false),
            ];
            for (existing, removes) in table {
                let mut remove = RemoveClaim::new(key, &claim);
                assert!(remove.take(Err(REJECTED)).is_none());
                let output = remove.take(Ok(Reply::Value(existing.map(Value::from))));
                assert_eq!(output.is_none(), removes);
                if removes {
                    let mut scratch = Scratch::default();
                    let op = remove.ask(&mut scratch);
                    assert!(matches!(
                        op,
                        Op::Delete {
                            if_equals: None,
                            ..
                        }
                    ));
                    assert!(remove.take(Ok(Reply::Count(1))).unwrap().unwrap());
                }
            }
        });
    }

    #[test]
    fn the_programs_get_their_arguments_in_order() {
        let space = KeySpace::new("record", "http");
        let key = Key::new(&space, IdentityRef::Text(b"r"));
        let life = Ttl::from_millis(1_000).unwrap();
        let write = WriteRecord::new(key, b"record", life);
        let remove = RemoveClaim::new(key, b"prefix");
        let mut scratch = (Scratch::default(), Scratch::default());
        let ops = [write.ask(&mut scratch.0), remove.ask(&mut scratch.1)];
        let expected: [(&str, &[Arg<'_>]); 2] = [
            ("record_write", &[Arg::Int(1_000), Arg::Bytes(b"record")]),
            ("record_remove", &[Arg::Bytes(b"prefix")]),
        ];
        for (op, (name, arguments)) in ops.into_iter().zip(expected) {
            match op {
                Op::Run { program, args, .. } => {
                    assert_eq!((program.name(), args), (name, arguments));
                }
                op => panic!("{op:?}"),
            }
        }
    }
}
