//! Reads the arguments of a program's twin. A missing or impossible one gives a harmless default; no caller passes one.

use layer_store::{Arg, Ttl};

/// Returns the bytes at `index`.
pub(crate) fn bytes<'a>(args: &[Arg<'a>], index: usize) -> &'a [u8] {
    match args.get(index) {
        Some(Arg::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

/// Returns the number at `index`, at least 0.
pub(crate) fn number(args: &[Arg<'_>], index: usize) -> u64 {
    let number = args.get(index).and_then(Arg::int);
    number.map_or(0, |number| number.max(0) as u64)
}

/// Returns the time at `index`, at least a millisecond.
pub(crate) fn ttl(args: &[Arg<'_>], index: usize) -> Ttl {
    Ttl::from_millis(number(args, index).max(1)).expect("at least 1 is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_impossible_argument_has_a_default() {
        let args = [Arg::Int(7), Arg::Bytes(b"a"), Arg::Int(-1)];
        assert_eq!((number(&args, 0), number(&args, 1)), (7, 0));
        assert_eq!((number(&args, 2), number(&args, 3)), (0, 0));
        assert_eq!((bytes(&args, 1), bytes(&args, 0)), (&b"a"[..], &[][..]));
        assert_eq!(
            (ttl(&args, 0).as_millis(), ttl(&args, 2).as_millis()),
            (7, 1)
        );
    }
}
