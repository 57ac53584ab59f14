use crate::conformance::Random;

/// The fault of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFault {
    /// It is not applied, and its caller is told so.
    Refused,
    /// It is applied, and its caller does not learn it.
    ReplyLost,
    /// It is not applied, and its caller does not learn it.
    Swallowed,
    /// It is applied when its caller has given up.
    Late,
    /// Its first parts are applied, and its caller does not learn it.
    Cut,
}

/// An event between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An operation arrives whose caller has given up.
    Arrival,
    /// Time passes for everybody.
    Pause,
    /// The store's clock jumps forwards.
    Jump,
    /// The store forgets everything.
    Flush,
    /// The store forgets everything, loses what was under way, and refuses some calls.
    Restart,
}

/// The chances of faults in one schedule: never, or once in so many times.
///
/// The seed chooses each by itself. A schedule that has every fault hardly gets anywhere, and one in which a single kind is
/// frequent finds what only that kind shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chances {
    fault: Option<u64>,
    death: Option<u64>,
    jump: Option<u64>,
    flush: Option<u64>,
}

impl Chances {
    pub(super) fn choose(random: &mut Random) -> Self {
        let mut one_of = |chances: [Option<u64>; 4]| chances[random.below(4) as usize];
        Self {
            fault: one_of([None, Some(20), Some(8), Some(3)]),
            death: one_of([None, None, Some(40), Some(12)]),
            jump: one_of([None, None, None, Some(30)]),
            flush: one_of([None, None, Some(100), Some(25)]),
        }
    }

    pub(super) fn fault(&self, random: &mut Random) -> Option<CallFault> {
        happens(self.fault, random).then(|| match random.below(5) {
            0 => CallFault::Refused,
            1 => CallFault::ReplyLost,
            2 => CallFault::Swallowed,
            3 => CallFault::Late,
            _ => CallFault::Cut,
        })
    }

    /// Returns true if the actor dies at its call.
    pub(super) fn death(&self, random: &mut Random) -> bool {
        happens(self.death, random)
    }

    /// Chooses what happens before the next step. `late`: there are operations that have not arrived yet.
    pub(super) fn event(&self, random: &mut Random, late: bool) -> Option<Event> {
        if late && random.one_in(6) {
            return Some(Event::Arrival);
        }
        if happens(self.flush, random) {
            return Some(match random.one_in(2) {
                true => Event::Flush,
                false => Event::Restart,
            });
        }
        if happens(self.jump, random) {
            return Some(Event::Jump);
        }
        random.one_in(4).then_some(Event::Pause)
    }
}

fn happens(chance: Option<u64>, random: &mut Random) -> bool {
    chance.is_some_and(|n| random.one_in(n))
}
