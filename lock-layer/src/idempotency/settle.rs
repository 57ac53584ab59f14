//! The operations that end a run, or renew its claim.

use layer_store::{Arg, Key, Op, Protocol, Reply, Scratch, StoreError, Ttl};

use super::programs::{REMOVE, WRITE};

/// Writes a record over the run's own claim: one operation. Its output is false if the record is another run's by now.
#[derive(Debug)]
pub(super) struct WriteRecord<'a> {
    keys: [Key<'a>; 1],
    args: [Arg<'a>; 2],
}

/// Removes the run's claim: one operation. Its output is false if it is not there, or another run's.
#[derive(Debug)]
pub(super) struct RemoveClaim<'a> {
    keys: [Key<'a>; 1],
    args: [Arg<'a>; 1],
}

impl<'a> WriteRecord<'a> {
    /// Keeps `record` for `life`.
    pub(super) fn new(key: Key<'a>, record: &'a [u8], life: Ttl) -> Self {
        Self {
            keys: [key],
            args: [Arg::Int(life.as_millis() as i64), Arg::Bytes(record)],
        }
    }
}

impl<'a> RemoveClaim<'a> {
    /// Removes the claim that begins with `prefix`.
    pub(super) fn new(key: Key<'a>, prefix: &'a [u8]) -> Self {
        Self {
            keys: [key],
            args: [Arg::Bytes(prefix)],
        }
    }
}

impl Protocol for WriteRecord<'_> {
    type Output = Result<bool, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &WRITE,
            keys: &self.keys,
            args: &self.args,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(was_done(reply))
    }
}

impl Protocol for RemoveClaim<'_> {
    type Output = Result<bool, StoreError>;

    fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
        Op::Run {
            program: &REMOVE,
            keys: &self.keys,
            args: &self.args,
        }
    }

    fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
        Some(was_done(reply))
    }
}

fn was_done(reply: Result<Reply, StoreError>) -> Result<bool, StoreError> {
    match reply?.into_output()?.int(0) {
        Some(done) => Ok(done == 1),
        None => Err(Reply::unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use layer_store::{ErrorKind, IdentityRef, KeySpace, Output};

    use super::*;

    fn check(protocol: &mut dyn Protocol<Output = Result<bool, StoreError>>) {
        let mut take = |reply| protocol.take(reply).unwrap();
        let lost = take(Err(StoreError::unknown(ErrorKind::Timeout)));
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(take(Ok(Reply::Output(Output::ints(&[1])))).unwrap());
        assert!(!take(Ok(Reply::Output(Output::ints(&[0])))).unwrap());
        for unexpected in [Reply::Pong, Reply::Output(Output::new())] {
            let error = take(Ok(unexpected)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn each_reply_has_one_end() {
        let space = KeySpace::new("record", "http");
        let key = Key::new(&space, IdentityRef::Text(b"r"));
        let life = Ttl::from_millis(1_000).unwrap();
        check(&mut WriteRecord::new(key, b"record", life));
        check(&mut RemoveClaim::new(key, b"prefix"));
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
