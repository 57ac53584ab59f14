//! Seeded schedules: several actors talk to one store, and a seed chooses who goes on and what goes wrong.
//!
//! A scenario [`spawn`](Schedule::spawn)s its actors and returns an invariant, which is checked after every step. An actor is a
//! future that runs [`Protocol`](crate::Protocol)s with [`Schedule::talk`]. All run on one thread over one
//! [`MemoryStore`](crate::MemoryStore), whose clock moves only by the schedule, so a seed always plays the same steps.
//!
//! In each step the seed chooses an actor, which goes on until its next operation is sent, applied or answered. It also
//! chooses from these faults:
//!
//! - the operation is refused; it is applied and its reply is lost; it is never applied; it is applied later, when the actor
//!   has given up; of a batch, only the first operations are applied;
//! - the actor dies;
//! - time passes, or the store's clock jumps;
//! - the store forgets all it has, or restarts empty and refuses some calls.
//!
//! A batch, and an operation on several keys, is not atomic: other actors may go on in the middle of it.
//!
//! ```
//! use layer_store::{
//!     Identity, Key, KeySpace, Op, Protocol, Reply, Scratch, StoreError, conformance::schedules,
//! };
//!
//! struct Ping;
//!
//! impl Protocol for Ping {
//!     type Output = Result<(), StoreError>;
//!
//!     fn ask<'r, 's: 'r>(&'s self, _: &'r mut Scratch<'s>) -> Op<'r> {
//!         Op::Ping
//!     }
//!
//!     fn take(&mut self, reply: Result<Reply, StoreError>) -> Option<Self::Output> {
//!         Some(reply.and_then(Reply::into_pong))
//!     }
//! }
//!
//! schedules::assert_holds(|schedule| {
//!     let actor = schedule.clone();
//!     schedule.spawn(async move {
//!         // It may fail.
//!         let _ = actor.talk(&mut Ping).await;
//!     });
//!     || Ok(())
//! });
//! ```
//!
//! # Settings
//!
//! | Variable | Meaning | Default |
//! | --- | --- | --- |
//! | `SCHEDULES` | the number of seeds | 10,000 |
//! | `SCHEDULE_SEED` | plays this seed alone, and prints each step | |

use std::{env, fmt, ops::Range};

mod fault;
mod schedule;
mod tally;

pub use self::{schedule::Schedule, tally::Tally};

/// An invariant that did not hold, and the seed of the schedule that shows it.
#[derive(Clone, Debug)]
pub struct Violation {
    seed: u64,
    message: String,
}

/// Plays a scenario under each seed. Returns the number of schedules.
///
/// # Panics
///
/// If the invariant does not hold. The message has the seed.
#[track_caller]
pub fn assert_holds<I>(scenario: impl Fn(&Schedule) -> I) -> u64
where
    I: FnMut() -> Result<(), String>,
{
    let seeds = seeds();
    match find_violation(scenario) {
        Some(violation) => panic!("{violation}"),
        None => seeds.end - seeds.start,
    }
}

/// Plays a scenario with a known bug until a seed shows it, and returns what it shows.
///
/// # Panics
///
/// If no seed does.
#[track_caller]
pub fn assert_finds<I>(scenario: impl Fn(&Schedule) -> I) -> Violation
where
    I: FnMut() -> Result<(), String>,
{
    find_violation(scenario).expect("some schedule shows the bug")
}

fn find_violation<I>(scenario: impl Fn(&Schedule) -> I) -> Option<Violation>
where
    I: FnMut() -> Result<(), String>,
{
    let traced = variable("SCHEDULE_SEED").is_some();
    seeds().find_map(|seed| {
        let schedule = Schedule::new(seed, traced);
        let invariant = scenario(&schedule);
        let message = schedule.play(invariant).err()?;
        Some(Violation { seed, message })
    })
}

fn seeds() -> Range<u64> {
    match variable("SCHEDULE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SCHEDULES").unwrap_or(SEEDS),
    }
}

/// Reads a setting.
///
/// # Panics
///
/// If the variable is set and is no number.
fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is {text:?}: write a number, such as 17"),
    }
}

impl Violation {
    /// Returns the seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns what did not hold.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, message } = self;
        write!(
            f,
            "{message} (seed {seed}: play it again with SCHEDULE_SEED={seed} and --nocapture)"
        )
    }
}

/// The number of seeds, unless a variable says another.
const SEEDS: u64 = 10_000;

#[cfg(test)]
mod tests;
