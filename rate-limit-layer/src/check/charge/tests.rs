//! The protocol without a store: replies and errors by hand, and what it asks for next.

use http::Request;
use layer_http::{KeyExtractor, RequestHead, header};
use layer_store::{
    Arg, ErrorKind, Identity, Key, Op, Output, Protocol, Reply, Scratch, StoreError, StoreInfo,
};

use super::Charge;
use crate::{
    FailureMode, Policy, Quota, Unavailable,
    algorithm::{span::Span, usage::Usage},
    check::{
        decision::{Debt, Decision},
        outage::Outage,
        partition::Partitions,
    },
    policy::{limit::Limit, limit_set::LimitSet},
};

/// 1 a minute: a request costs as much.
const MINUTE: i64 = 60_000_000;

fn policy(name: &str, by: &'static str, mode: FailureMode) -> Policy {
    let quota = Quota::per_minute(1).burst(10).name(name);
    let quota = quota.by(header(by).or_skip());
    match mode {
        FailureMode::Open => quota.fail_open(),
        FailureMode::Closed => quota.fail_closed(),
        FailureMode::Local(instances) => quota.fail_local(instances.get()),
    }
}

/// Limits 0 and 2 count by one header, limit 1 by another.
fn limits(first: FailureMode, second: FailureMode) -> Vec<Limit> {
    let policies = [
        policy("a", "x-user", first),
        policy("b", "x-car", second),
        policy("c", "x-user", first),
    ];
    policies.map(Limit::new).into()
}

fn partitions(limits: &[Limit], fields: &[(&'static str, &'static str)]) -> Partitions<'static> {
    let mut request = Request::new(());
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let partitions = Partitions::of(limits, &RequestHead::of(&request));
    partitions.unwrap().to_owned()
}

fn both(limits: &[Limit]) -> Partitions<'static> {
    partitions(limits, &[("x-user", "ada"), ("x-car", "7")])
}

fn outage() -> Outage {
    Outage::of(&StoreInfo::new("test"))
}

fn text(key: &Key<'_>) -> String {
    let mut bytes = Vec::new();
    key.render(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The keys and arguments of the next command.
fn asked(talk: &impl Protocol) -> (Vec<String>, Vec<i64>) {
    let mut scratch = Scratch::default();
    let Op::Run { keys, args, .. } = talk.ask(&mut scratch) else {
        panic!("every operation runs the program");
    };
    let number = |arg: &Arg<'_>| arg.int().unwrap();
    (
        keys.iter().map(text).collect(),
        args.iter().map(number).collect(),
    )
}

/// The keys and arguments of a command for these limits, at a charge of `cost` requests each.
fn command(limits: &[Limit], members: &[(usize, &str)], cost: i64) -> (Vec<String>, Vec<i64>) {
    let key = |(index, name): &(usize, &str)| {
        let limit: &Limit = &limits[*index];
        text(&limit.by.key(Identity::from(*name).as_ref(), false))
    };
    let args = match members {
        // One limit is charged by a program of its own.
        [_] if cost > 0 => vec![10 * MINUTE, cost * MINUTE],
        // The number of GCRA, parts, full and charge.
        _ => [1, 1, 10 * MINUTE, cost * MINUTE].repeat(members.len()),
    };
    (members.iter().map(key).collect(), args)
}

fn reply(numbers: &[i64]) -> Result<Reply, StoreError> {
    Ok(Reply::Output(Output::ints(numbers)))
}

fn gone() -> Result<Reply, StoreError> {
    Err(StoreError::not_applied(ErrorKind::Unavailable))
}

fn set(indices: &[usize]) -> LimitSet {
    let mut set = LimitSet::default();
    for index in indices {
        set |= LimitSet::one(*index);
    }
    set
}

fn admit(limit: usize, minutes: u64) -> Option<Decision> {
    let usage = Usage::Debt(Span::of_micros(minutes * MINUTE as u64));
    Some(Decision::Admit(Some(Debt { limit, usage })))
}

const OPEN: FailureMode = FailureMode::Open;
const CLOSED: FailureMode = FailureMode::Closed;

#[test]
fn the_limits_of_one_identity_are_one_command_and_the_next_identity_follows() {
    let (limits, outage) = (limits(OPEN, OPEN), outage());
    let partitions = both(&limits);
    let mut charge = Charge::begin(&limits, &partitions, &outage, 2).unwrap();
    let first = command(&limits, &[(0, "ada"), (2, "ada")], 2);
    assert_eq!(asked(&charge), first);
    assert_eq!(asked(&charge), first, "asked again, it is the same");
    assert_eq!(charge.charged(), set(&[]));

    assert_eq!(charge.take(reply(&[1, 2 * MINUTE, 3 * MINUTE])), None);
    assert_eq!(charge.charged(), set(&[0, 2]));
    assert_eq!(asked(&charge), command(&limits, &[(1, "7")], 2));

    assert_eq!(charge.take(reply(&[2 * MINUTE])), admit(2, 3));
    assert_eq!(charge.charged(), set(&[]), "it is kept");
}

#[test]
fn the_fewest_left_of_all_commands_are_told() {
    let (limits, outage) = (limits(OPEN, OPEN), outage());
    let partitions = both(&limits);
    for (first, second, told) in [(2, 5, (1, 5)), (5, 2, (0, 5)), (2, 2, (0, 2))] {
        let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
        assert_eq!(charge.take(reply(&[1, first * MINUTE, 0])), None);
        let decision = charge.take(reply(&[second * MINUTE]));
        assert_eq!(decision, admit(told.0, told.1));
    }
}

#[test]
fn a_limit_that_skips_the_request_is_not_asked() {
    let (limits, outage) = (limits(OPEN, OPEN), outage());
    let one = partitions(&limits, &[("x-car", "7")]);
    let mut charge = Charge::begin(&limits, &one, &outage, 1).unwrap();
    assert_eq!(asked(&charge), command(&limits, &[(1, "7")], 1));
    assert_eq!(charge.take(reply(&[MINUTE])), admit(1, 1));

    let none = partitions(&limits, &[]);
    assert!(Charge::begin(&limits, &none, &outage, 1).is_none());
}

#[test]
fn after_a_refusal_the_other_identities_are_only_looked_at() {
    let (limits, outage) = (limits(OPEN, OPEN), outage());
    let partitions = both(&limits);
    // What the second identity owes, what refuses then, and for how many minutes.
    for (look, violated, limit, minutes) in [
        (reply(&[1, 9 * MINUTE]), set(&[0]), 0, 1),
        (reply(&[1, 10 * MINUTE]), set(&[0, 1]), 0, 1),
        (reply(&[1, 11 * MINUTE]), set(&[0, 1]), 1, 2),
        // It is refused anyway.
        (gone(), set(&[0]), 0, 1),
        (reply(&[-1]), set(&[0]), 0, 1),
        (reply(&[1]), set(&[0]), 0, 1),
        (Ok(Reply::Pong), set(&[0]), 0, 1),
    ] {
        let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
        assert_eq!(charge.take(reply(&[0, 10 * MINUTE, 0])), None);
        assert_eq!(asked(&charge), command(&limits, &[(1, "7")], 0));
        let Some(Decision::Refuse(excess)) = charge.take(look) else {
            panic!("it is refused");
        };
        assert_eq!((excess.violated, excess.debt.limit), (violated, limit));
        assert_eq!(excess.retry_after, minutes * MINUTE as u64);
        assert_eq!(charge.charged(), set(&[]), "a refusal charges nothing");
    }
}

/// A look at a limit that fails closed may fail: the answer is the quota's.
#[test]
fn a_refusal_is_not_made_an_outage_by_a_look() {
    let (limits, outage) = (limits(OPEN, CLOSED), outage());
    let partitions = both(&limits);
    let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
    assert_eq!(charge.take(reply(&[0, 10 * MINUTE, 0])), None);
    assert!(matches!(charge.take(gone()), Some(Decision::Refuse(_))));
}

#[test]
fn a_refusal_leaves_the_earlier_charges_to_be_given_back() {
    let (limits, outage) = (limits(OPEN, OPEN), outage());
    let partitions = both(&limits);
    let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
    assert_eq!(charge.take(reply(&[1, MINUTE, MINUTE])), None);
    let refused = charge.take(reply(&[-1 - 10 * MINUTE]));
    assert!(matches!(refused, Some(Decision::Refuse(excess)) if excess.violated == set(&[1])));
    assert_eq!(charge.charged(), set(&[0, 2]));
}

/// The first or the second command fails, or both, and its limits fail open or closed.
#[test]
fn a_failure_passes_over_limits_that_fail_open_and_ends_at_one_that_fails_closed() {
    let fail = Some(Decision::Fail(Unavailable::StoreDown));
    let outage = outage();
    for (modes, replies, decision, charged) in [
        ((OPEN, OPEN), [false, true], admit(1, 1), set(&[])),
        ((OPEN, OPEN), [true, false], admit(0, 1), set(&[])),
        (
            (OPEN, OPEN),
            [false; 2],
            Some(Decision::Admit(None)),
            set(&[]),
        ),
        ((OPEN, CLOSED), [true, false], fail, set(&[0, 2])),
        ((OPEN, CLOSED), [false; 2], fail, set(&[])),
        ((OPEN, CLOSED), [false, true], admit(1, 1), set(&[])),
        ((CLOSED, OPEN), [true, false], admit(0, 1), set(&[])),
    ] {
        let limits = limits(modes.0, modes.1);
        let partitions = both(&limits);
        let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
        let first = match replies[0] {
            true => reply(&[1, MINUTE, 0]),
            false => gone(),
        };
        let second = match replies[1] {
            true => reply(&[MINUTE]),
            false => gone(),
        };
        assert_eq!(charge.take(first), None, "{modes:?} {replies:?}");
        assert_eq!(charge.take(second), decision, "{modes:?} {replies:?}");
        assert_eq!(charge.charged(), charged, "{modes:?} {replies:?}");
    }

    let limits = limits(CLOSED, OPEN);
    let partitions = both(&limits);
    let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
    assert_eq!(charge.take(gone()), fail);
}

#[test]
fn one_of_a_command_s_limits_that_fails_closed_is_enough() {
    let outage = outage();
    let policies = [policy("a", "x-user", OPEN), policy("b", "x-user", CLOSED)];
    let limits = policies.map(Limit::new);
    let partitions = Partitions::all(&limits, &Identity::from("ada"));
    let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
    let fail = Decision::Fail(Unavailable::StoreDown);
    assert_eq!(charge.take(gone()), Some(fail));
}

#[test]
fn a_charge_that_failed_is_not_given_back_when_a_later_one_refuses() {
    let (limits, outage) = (limits(OPEN, OPEN), outage());
    let partitions = both(&limits);
    let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
    assert_eq!(charge.take(gone()), None);
    let refused = charge.take(reply(&[-1 - 10 * MINUTE]));
    assert!(matches!(refused, Some(Decision::Refuse(_))));
    assert_eq!(charge.charged(), set(&[]));
}

#[test]
fn a_reply_that_makes_no_sense_is_a_failure() {
    let outage = outage();
    let limits = limits(CLOSED, OPEN);
    let partitions = both(&limits);
    for odd in [Ok(Reply::Pong), reply(&[]), reply(&[-1]), reply(&[0, 0, 0])] {
        let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
        let fail = Decision::Fail(Unavailable::StoreDown);
        assert_eq!(charge.take(odd), Some(fail));
    }
    let full = Err(StoreError::not_applied(ErrorKind::Full));
    let mut charge = Charge::begin(&limits, &partitions, &outage, 1).unwrap();
    let fail = Decision::Fail(Unavailable::StoreFull);
    assert_eq!(charge.take(full), Some(fail));
}

mod refunds {
    use super::*;
    use crate::check::{demands::Demands, refund::Refund};

    #[test]
    fn a_refund_pays_back_each_identity_once_whatever_is_replied() {
        let limits = limits(OPEN, OPEN);
        let partitions = both(&limits);
        for first in [reply(&[1, 0, 0]), gone(), Ok(Reply::Pong)] {
            let charged = set(&[0, 1, 2]);
            let mut refund = Refund::begin(
                &limits,
                &partitions,
                charged,
                Demands::refund(2.into(), 7, 9),
            )
            .unwrap();
            let user = command(&limits, &[(0, "ada"), (2, "ada")], -2);
            assert_eq!(asked(&refund), user);
            assert_eq!(refund.left(), charged);
            assert_eq!(refund.take(first), None);
            assert_eq!(asked(&refund), command(&limits, &[(1, "7")], -2));
            assert_eq!(refund.left(), set(&[1]));
            assert_eq!(refund.take(gone()), Some(()));
        }
    }

    #[test]
    fn only_what_was_charged_is_paid_back() {
        let limits = limits(OPEN, OPEN);
        let partitions = both(&limits);
        assert!(
            Refund::begin(
                &limits,
                &partitions,
                set(&[]),
                Demands::refund(1.into(), 0, 0)
            )
            .is_none()
        );
        let mut refund = Refund::begin(
            &limits,
            &partitions,
            set(&[1]),
            Demands::refund(1.into(), 0, 0),
        )
        .unwrap();
        assert_eq!(asked(&refund), command(&limits, &[(1, "7")], -1));
        assert_eq!(refund.take(reply(&[1, 0])), Some(()));
    }
}
