use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, pending, poll_fn},
    mem,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use super::fault::{CallFault, Chances, Event};
use crate::{
    Clock, Context, ErrorKind, Key, ManualClock, MemoryStore, Op, Protocol, Reply, Scratch, Store,
    StoreError, conformance::Random, owned_op::OwnedOp,
};

/// One schedule: the actors, their store, and the seed that chooses what happens. Clones are handles to the same one.
#[derive(Clone)]
pub struct Schedule(Rc<Inner>);

struct Inner {
    random: RefCell<Random>,
    chances: Chances,
    store: RefCell<MemoryStore>,
    /// The store's clock, which may jump.
    clock: Clock,
    hand: ManualClock,
    /// The time that has passed for the actors.
    elapsed: Cell<Duration>,
    /// The longest time that passes between two steps.
    longest_pause: Cell<Duration>,
    actors: RefCell<Vec<Actor>>,
    /// The operations that arrive when their callers have given up.
    late: RefCell<Vec<OwnedOp>>,
    /// Set by the actor whose turn it is, if it dies.
    dies: Cell<bool>,
    /// The number of calls that are refused next, after a restart.
    refused: Cell<u64>,
    upsets: Cell<u64>,
    flushes: Cell<u64>,
    observer: RefCell<Observer>,
    violation: RefCell<Option<String>>,
    traced: bool,
}

type Actor = Pin<Box<dyn Future<Output = ()>>>;
type Observer = Option<Box<dyn FnMut(&Op<'_>, &Reply)>>;

impl Schedule {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let chances = Chances::choose(&mut random);
        let (clock, hand) = Clock::manual(START);
        let schedule = Self(Rc::new(Inner {
            random: RefCell::new(random),
            chances,
            store: RefCell::new(MemoryStore::with_clock(CAPACITY, clock.clone())),
            clock,
            hand,
            elapsed: Cell::default(),
            longest_pause: Cell::new(Duration::from_millis(100)),
            actors: RefCell::default(),
            late: RefCell::default(),
            dies: Cell::default(),
            refused: Cell::default(),
            upsets: Cell::default(),
            flushes: Cell::default(),
            observer: RefCell::default(),
            violation: RefCell::default(),
            traced,
        }));
        schedule.trace(|| format!("seed {seed}: {chances:?}"));
        schedule
    }

    /// Adds an actor. It begins with its first turn.
    pub fn spawn(&self, actor: impl Future<Output = ()> + 'static) {
        self.0.actors.borrow_mut().push(Box::pin(actor));
    }

    /// Sets the longest time that passes between two steps. Default 100 ms.
    pub fn set_longest_pause(&self, pause: Duration) {
        self.0.longest_pause.set(pause);
    }

    /// Lets `observe` see each operation when the store has applied it, and its reply; also if that is lost.
    ///
    /// It sees the operations of a batch one by one, and also an operation on several keys if others went on in its middle.
    pub fn observe(&self, observe: impl FnMut(&Op<'_>, &Reply) + 'static) {
        *self.0.observer.borrow_mut() = Some(Box::new(observe));
    }

    /// Runs a protocol to its end.
    ///
    /// # Cancel safety
    ///
    /// The operation under way may or may not have been applied.
    pub async fn talk<P: Protocol>(&self, protocol: &mut P) -> P::Output {
        loop {
            let reply = {
                let mut scratch = Scratch::default();
                let op = protocol.ask(&mut scratch);
                self.call(&op).await
            };
            if let Some(output) = protocol.take(reply) {
                return output;
            }
        }
    }

    /// Lets others go on: the future is ready at this actor's next turn.
    pub async fn turn(&self) {
        let mut waited = false;
        poll_fn(|_| match mem::replace(&mut waited, true) {
            false => Poll::Pending,
            true => Poll::Ready(()),
        })
        .await;
    }

    /// Drives `work` for this many turns, and drops it if it has not ended then, as when a client leaves.
    pub async fn leave_after<T>(&self, turns: u64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut left = turns;
        let result = poll_fn(|task| match work.as_mut().poll(task) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        })
        .await;
        if result.is_none() {
            self.trace(|| "    it was dropped".into());
        }
        result
    }

    /// Reads a value without a fault and without a turn, for an invariant.
    pub fn peek(&self, key: &Key<'_>) -> Option<crate::Value> {
        let reply = self.0.store.borrow().call_now(&Op::Get(key), &CX)?;
        reply.ok()?.into_value().ok()?
    }

    /// Returns a number below `bound` that the seed chooses.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.random.borrow_mut().below(bound)
    }

    /// Returns true once in `n` times, as the seed chooses.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns the time that has passed for the actors.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed.get()
    }

    /// Returns the time of the store's clock, in Unix microseconds.
    pub fn store_time(&self) -> u64 {
        self.0.hand.now()
    }

    /// Returns how often the store has forgotten everything.
    pub fn flushes(&self) -> u64 {
        self.0.flushes.get()
    }

    /// Returns how often the store has forgotten everything or its clock has jumped: what no lease survives.
    pub fn upsets(&self) -> u64 {
        self.0.upsets.get()
    }

    /// Ends the schedule after this step: an invariant did not hold.
    pub fn violate(&self, message: impl Into<String>) {
        self.0.violation.borrow_mut().get_or_insert(message.into());
    }

    /// Tells what an actor does, if the schedule is played again.
    pub fn trace(&self, message: impl FnOnce() -> String) {
        if self.0.traced {
            println!("{:>12?}  {}", self.elapsed(), message());
        }
    }

    /// Plays the schedule to its end, and checks `invariant` after each step.
    pub(super) fn play(
        &self,
        mut invariant: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let mut steps = 0;
        let result = loop {
            let actors = self.0.actors.borrow().len() as u64;
            if actors == 0 || steps == MAX_STEPS {
                break Ok(());
            }
            steps += 1;
            self.happen();
            self.step(self.below(actors) as usize);
            // No two operations are applied in the same microsecond.
            self.pass(TICK);
            let violation = self.0.violation.borrow_mut().take();
            if let Err(message) = violation.map_or_else(&mut invariant, Err) {
                break Err(message);
            }
        };
        // An actor may hold the schedule, and the schedule holds its actors.
        self.0.actors.borrow_mut().clear();
        *self.0.observer.borrow_mut() = None;
        result
    }

    /// Gives an actor its turn.
    fn step(&self, index: usize) {
        // Taken out, because it may spawn another.
        let mut actor = self.0.actors.borrow_mut().swap_remove(index);
        let polled = actor.as_mut().poll(&mut Task::from_waker(Waker::noop()));
        let died = self.0.dies.take();
        if polled.is_pending() && !died {
            self.0.actors.borrow_mut().push(actor);
        }
    }

    fn happen(&self) {
        let late = !self.0.late.borrow().is_empty();
        let event = self.0.chances.event(&mut self.0.random.borrow_mut(), late);
        let Some(event) = event else {
            return;
        };
        if event != Event::Pause {
            self.trace(|| format!("{event:?}"));
        }
        match event {
            Event::Arrival => {
                let index = self.below(self.0.late.borrow().len() as u64) as usize;
                let op = self.0.late.borrow_mut().remove(index);
                // Its caller has left, and so nobody reads the reply.
                let _ = op.with(|op| self.apply_at_once(op));
            }
            Event::Pause => {
                let longest = self.0.longest_pause.get();
                let time = self.0.random.borrow_mut().duration(longest);
                self.pass(time);
            }
            Event::Jump => {
                let longest = self.0.longest_pause.get();
                let time = self.0.random.borrow_mut().duration(longest * 4);
                self.0.hand.advance(time);
                self.0.upsets.set(self.0.upsets.get() + 1);
            }
            Event::Flush => self.flush(),
            Event::Restart => {
                self.flush();
                self.0.late.borrow_mut().clear();
                self.0.refused.set(self.below(4));
            }
        }
    }

    fn flush(&self) {
        let empty = MemoryStore::with_clock(CAPACITY, self.0.clock.clone());
        *self.0.store.borrow_mut() = empty;
        self.0.flushes.set(self.0.flushes.get() + 1);
        self.0.upsets.set(self.0.upsets.get() + 1);
    }

    fn pass(&self, time: Duration) {
        self.0.hand.advance(time);
        self.0.elapsed.set(self.0.elapsed.get() + time);
    }

    async fn call(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        // Under way to the store.
        self.turn().await;
        if let Some(left) = self.0.refused.get().checked_sub(1) {
            self.0.refused.set(left);
            return Err(REFUSED);
        }
        let dies = self.0.chances.death(&mut self.0.random.borrow_mut());
        let fault = self.0.chances.fault(&mut self.0.random.borrow_mut());
        self.trace(|| describe(op, fault, dies));
        let result = match fault {
            None => self.apply(op).await,
            Some(CallFault::Refused) => Err(REFUSED),
            Some(CallFault::ReplyLost) => {
                let _ = self.apply(op).await;
                Err(LOST)
            }
            Some(CallFault::Swallowed) => Err(LOST),
            Some(CallFault::Late) => {
                self.0.late.borrow_mut().extend(writes_of(op));
                Err(LOST)
            }
            Some(CallFault::Cut) => {
                self.apply_first_parts(op).await;
                Err(LOST)
            }
        };
        if dies {
            self.0.dies.set(true);
            return pending().await;
        }
        // Under way back.
        self.turn().await;
        self.trace(|| format!("    {} => {result:?}", op.name()));
        result
    }

    /// Applies an operation. Others may go on in the middle of one that is not atomic.
    async fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        match *op {
            Op::Batch(ops) => {
                let mut replies = Vec::with_capacity(ops.len());
                for op in ops {
                    replies.push(self.apply_at_once(op));
                    self.some_turns().await;
                }
                Ok(Reply::Batch(replies))
            }
            Op::GetMany(keys) if self.one_in(2) => {
                let mut values = Vec::with_capacity(keys.len());
                for key in keys {
                    values.push(self.apply_at_once(&Op::Get(key))?.into_value()?);
                    self.some_turns().await;
                }
                Ok(Reply::Values(values))
            }
            Op::DeleteMany(keys) if self.one_in(2) => {
                let mut count = 0;
                for key in keys {
                    count += self.apply_at_once(&delete(key))?.into_count()?;
                    self.some_turns().await;
                }
                Ok(Reply::Count(count))
            }
            _ => self.apply_at_once(op),
        }
    }

    /// Applies the first parts of an operation that is not atomic, and nothing of another.
    async fn apply_first_parts(&self, op: &Op<'_>) {
        match *op {
            Op::Batch(ops) => {
                for op in &ops[..self.below(ops.len() as u64 + 1) as usize] {
                    let _ = self.apply_at_once(op);
                    self.some_turns().await;
                }
            }
            Op::DeleteMany(keys) => {
                for key in &keys[..self.below(keys.len() as u64 + 1) as usize] {
                    let _ = self.apply_at_once(&delete(key));
                    self.some_turns().await;
                }
            }
            _ => {}
        }
    }

    /// Lets others go on, for no turn or for several.
    async fn some_turns(&self) {
        while self.one_in(2) {
            self.turn().await;
        }
    }

    fn apply_at_once(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        let result = self.0.store.borrow().call_now(op, &CX);
        let result = result.expect("a memory store never waits");
        if let (Ok(reply), Some(observe)) = (&result, &mut *self.0.observer.borrow_mut()) {
            observe(op, reply);
        }
        result
    }
}

/// Copies the writes of an operation. A batch becomes its operations, as it is not atomic. One that only reads becomes none.
fn writes_of(op: &Op<'_>) -> Vec<OwnedOp> {
    match op {
        Op::Batch(ops) => ops.iter().flat_map(writes_of).collect(),
        op if op.is_read() => Vec::new(),
        op => vec![OwnedOp::of(op)],
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("elapsed", &self.elapsed())
            .field("actors", &self.0.actors.borrow().len())
            .finish_non_exhaustive()
    }
}

fn delete<'a>(key: &'a Key<'a>) -> Op<'a> {
    Op::Delete {
        key,
        if_equals: None,
    }
}

fn describe(op: &Op<'_>, fault: Option<CallFault>, dies: bool) -> String {
    let fault = fault
        .map(|fault| format!(", {fault:?}"))
        .unwrap_or_default();
    let dies = if dies { ", its actor dies" } else { "" };
    format!("{op:?}{fault}{dies}")
}

const CX: Context = Context::new("schedule");
const REFUSED: StoreError = StoreError::not_applied(ErrorKind::Unavailable);
const LOST: StoreError = StoreError::unknown(ErrorKind::Timeout);
/// 2026-01-01, in Unix microseconds.
const START: u64 = 1_767_225_600_000_000;
/// More than any scenario writes.
const CAPACITY: usize = 256;
const TICK: Duration = Duration::from_micros(10);
/// An actor that tries again for ever does not keep a schedule from its end.
const MAX_STEPS: usize = 2_000;
