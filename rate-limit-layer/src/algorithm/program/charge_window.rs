//! The twins of the two programs that charge one window. They are short on Redis: three numbers in, and most often one out.

use layer_store::{Arg, Output, Transaction};

use super::{
    MALFORMED,
    args::{self, FIXED_WINDOW, Numbers, SLIDING_WINDOW, write},
    count_step::CountStep,
};
use crate::algorithm::{usage::Count, window_count::MAX_WHOLE};

/// The number of arguments.
pub(crate) const ARGS: usize = 3;

/// Writes the arguments to the front of `args`, and returns their number.
pub(crate) fn charge_window_args(
    limit: u64,
    window: u64,
    cost: u64,
    args: &mut [Arg<'_>],
) -> usize {
    let numbers: [u64; ARGS] = [limit, window, cost];
    write(args, numbers.into_iter().map(|number| number as i64))
}

/// Reads the reply of one number: the window was charged, and would be once more. `None`: the reply has more numbers, or is none.
///
/// `after_end` is how long after the window's end a charge counts, in microseconds.
pub(crate) fn read_charged(output: &Output, window: u64, after_end: u64) -> Option<Count> {
    let &[number] = output.inline_ints()? else {
        return None;
    };
    let (number, base) = (u64::try_from(number).ok()?, window.saturating_add(1));
    Some(Count {
        remaining: number / base,
        reset_after: (number % base).saturating_add(after_end),
        wait: 0,
    })
}

pub(super) fn charge_fixed_window(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    charge(transaction, args, FIXED_WINDOW)
}

pub(super) fn charge_sliding_window(transaction: &mut Transaction<'_>, args: &[Arg<'_>]) -> Output {
    charge(transaction, args, SLIDING_WINDOW)
}

/// Does what [`CHARGE`](super::CHARGE) does for one window, and replies it in one number if that is enough.
fn charge(transaction: &mut Transaction<'_>, args: &[Arg<'_>], algorithm: i64) -> Output {
    let mut numbers = Numbers::of(args);
    let [limit, window, cost] = [(); ARGS].map(|()| numbers.next());
    let long = [limit, window, args::CHARGE, cost, 0].map(Arg::Int);
    let Some(step) = CountStep::take(algorithm, &mut Numbers::of(&long)) else {
        return Output::ints(&[MALFORMED]);
    };
    let Some(charged) = step.allows(transaction, 0) else {
        return Output::ints(&[MALFORMED]);
    };
    let mut output = Output::ints(&[i64::from(charged)]);
    step.settle(transaction, 0, charged, &mut output);
    match in_one(&output, window.unsigned_abs(), algorithm == SLIDING_WINDOW) {
        Some(number) => Output::ints(&[number]),
        None => output,
    }
}

/// Returns the reply in one number. `None`: it was not charged, would not be once more, or the number is too large for Lua.
fn in_one(output: &Output, window: u64, is_sliding: bool) -> Option<i64> {
    let &[1, remaining, reset_after, 0] = output.inline_ints()? else {
        return None;
    };
    let [remaining, reset_after] = [remaining, reset_after].map(i64::unsigned_abs);
    let left = match is_sliding {
        true => reset_after.checked_sub(window)?,
        false => reset_after,
    };
    let number = remaining
        .checked_mul(window.checked_add(1)?)?
        .checked_add(left)?;
    (left <= window && number <= MAX_WHOLE).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use layer_store::{Slot, Value};

    use super::*;
    use crate::algorithm::program::{CHARGE, CHARGE_FIXED_WINDOW, CHARGE_SLIDING_WINDOW};

    const START: u64 = 1_767_225_600_000_000;
    const MINUTE: u64 = 60_000_000;

    /// Charges of some costs, each some time after the one before: both programs leave one value, and tell the same.
    #[test]
    fn one_number_tells_what_the_long_reply_does() {
        for (algorithm, program, after_end) in [
            (FIXED_WINDOW, &CHARGE_FIXED_WINDOW, 0),
            (SLIDING_WINDOW, &CHARGE_SLIDING_WINDOW, MINUTE),
        ] {
            let (mut long, mut short) = ([Slot::absent()], [Slot::absent()]);
            let mut now = START;
            for (pause, cost, in_one) in [
                (0, 1, true),
                (1, 3, true),
                (0, 5, false),
                // Too much: nothing is charged.
                (0, 4, false),
                (1, 1, false),
                // A window later, and long after all of them.
                (MINUTE - 2, 1, algorithm == FIXED_WINDOW),
                (10 * MINUTE, 2, true),
                // All that is left.
                (0, 8, false),
            ] {
                now += pause;
                let all = [algorithm, 10, MINUTE as i64, args::CHARGE, cost, 0].map(Arg::Int);
                let expected = CHARGE.run(&mut Transaction::new(now, &mut long), &all);
                let three = [10, MINUTE as i64, cost].map(Arg::Int);
                let output = program.run(&mut Transaction::new(now, &mut short), &three);
                let told = match read_charged(&output, MINUTE, after_end) {
                    Some(count) => {
                        let Count {
                            remaining,
                            reset_after,
                            wait,
                        } = count;
                        let numbers = [1, remaining, reset_after, wait].map(|number| number as i64);
                        Output::ints(&numbers)
                    }
                    None => output.clone(),
                };
                assert_eq!(told, expected, "{} {cost}", program.name());
                assert_eq!(output.len() == 1, in_one, "{} {cost}", program.name());
                let kept = |slot: &Slot| (slot.get(now).cloned(), slot.expires());
                assert_eq!(kept(&short[0]), kept(&long[0]), "{} {cost}", program.name());
            }
        }
    }

    #[test]
    fn a_number_that_lua_has_no_room_for_is_told_in_full() {
        let year = 365 * 1_440 * MINUTE;
        for (limit, window, in_one) in [(100, MINUTE, true), (1_000_000, year, false)] {
            let args = [limit, window as i64, 1].map(Arg::Int);
            let mut slots = [Slot::absent()];
            let mut transaction = Transaction::new(START + 1, &mut slots);
            let output = CHARGE_FIXED_WINDOW.run(&mut transaction, &args);
            assert_eq!(read_charged(&output, window, 0).is_some(), in_one);
            assert_eq!(output.len() == 1, in_one);
        }
    }

    #[test]
    fn a_foreign_value_is_no_charge() {
        for program in [&CHARGE_FIXED_WINDOW, &CHARGE_SLIDING_WINDOW] {
            let mut slots = [Slot::until(Value::from("ada"), None)];
            let mut transaction = Transaction::new(START, &mut slots);
            let output = program.run(&mut transaction, &[10, 1_000, 1].map(Arg::Int));
            assert_eq!(output, Output::ints(&[MALFORMED]));
            assert_eq!(read_charged(&output, 1_000, 0), None);
        }
    }
}
