//! The handles of the facade, made once each. Counting an operation looks up nothing and formats nothing.

use std::{ptr, sync::OnceLock};

use metrics::{Counter, Histogram};

use super::names::{BILLED, DURATION, HITS, MISSES, Metric, OPERATIONS, OVERLOADED};
use crate::{ErrorKind, Op, Reply, StoreError};

/// The counts of the operations of one store.
pub(super) struct Meters {
    name: &'static str,
    backend: &'static str,
    /// True if a bill is kept.
    billed: bool,
    /// In the order in which they first called.
    sources: [OnceLock<Box<Source>>; MAX_SOURCES],
    /// All sources beyond these. A label that anything could be put into would never stop growing.
    others: OnceLock<Box<Source>>,
}

/// The counts of the operations of one source.
pub(super) struct Source {
    labels: [&'static str; 3],
    operations: [Operation; OPERATIONS_LEN],
    hits: Lazy<Counter>,
    misses: Lazy<Counter>,
    bill: Lazy<Counter>,
    billed: bool,
    overloaded: Lazy<Counter>,
}

/// The counts of one kind of operations.
#[derive(Default)]
struct Operation {
    ok: Lazy<Counter>,
    failed: [Lazy<Counter>; KINDS],
    duration: Lazy<Histogram>,
}

type Lazy<T> = OnceLock<T>;

impl Meters {
    pub(super) const fn new(name: &'static str, backend: &'static str, billed: bool) -> Self {
        Self {
            name,
            backend,
            billed,
            sources: [const { OnceLock::new() }; MAX_SOURCES],
            others: OnceLock::new(),
        }
    }

    /// Returns the meters of a source.
    #[inline]
    pub(super) fn of(&self, source: &'static str) -> &Source {
        for place in &self.sources {
            match place.get() {
                // The same text nearly always has the same address.
                Some(meters) if ptr::eq(meters.name(), source) => return meters,
                Some(meters) if meters.name() == source => return meters,
                Some(_) => {}
                None => return self.add(source),
            }
        }
        self.others.get_or_init(|| self.source(OTHERS))
    }

    #[cold]
    fn add(&self, source: &'static str) -> &Source {
        // Two sources may race for a place. Then the later one finds another source there, and goes on.
        let mut places = self.sources.iter();
        let own = places.find_map(|place| {
            let meters = place.get_or_init(|| self.source(source));
            (meters.name() == source).then_some(meters)
        });
        own.unwrap_or_else(|| self.others.get_or_init(|| self.source(OTHERS)))
    }

    fn source(&self, source: &'static str) -> Box<Source> {
        Box::new(Source {
            labels: [self.name, self.backend, source],
            operations: std::array::from_fn(|_| Operation::default()),
            hits: Lazy::new(),
            misses: Lazy::new(),
            bill: Lazy::new(),
            billed: self.billed,
            overloaded: Lazy::new(),
        })
    }
}

impl Source {
    const fn name(&self) -> &'static str {
        self.labels[2]
    }

    /// Counts an operation that has ended.
    #[inline]
    pub(super) fn count(&self, op: &Op<'_>, result: &Result<Reply, StoreError>) {
        let operation = &self.operations[index(op)];
        match result {
            Ok(reply) => {
                let make = || self.operation(op, "ok");
                operation.ok.get_or_init(make).increment(1);
                self.count_values(reply);
            }
            Err(error) => self.count_error(operation, op, error.kind()),
        }
        if self.billed {
            self.counter(&self.bill, &BILLED).increment(op.bill());
        }
    }

    /// Notes the time of an operation that waited.
    pub(super) fn time(&self, op: &Op<'_>, seconds: f64) {
        let make = || {
            let [store, backend, source] = self.labels;
            DURATION.find_histogram(&[store, backend, source, op.name()])
        };
        let operation = &self.operations[index(op)];
        operation.duration.get_or_init(make).record(seconds);
    }

    #[inline]
    fn count_values(&self, reply: &Reply) {
        match reply {
            Reply::Value(Some(_)) => self.counter(&self.hits, &HITS).increment(1),
            Reply::Value(None) => self.counter(&self.misses, &MISSES).increment(1),
            Reply::Values(values) => {
                let hits = values.iter().flatten().count();
                self.counter(&self.hits, &HITS).increment(hits as u64);
                let misses = (values.len() - hits) as u64;
                self.counter(&self.misses, &MISSES).increment(misses);
            }
            Reply::Batch(replies) => replies
                .iter()
                .flatten()
                .for_each(|reply| self.count_values(reply)),
            _ => {}
        }
    }

    #[cold]
    fn count_error(&self, operation: &Operation, op: &Op<'_>, kind: ErrorKind) {
        let make = || self.operation(op, kind.as_str());
        operation.failed[kind as usize]
            .get_or_init(make)
            .increment(1);
        if kind == ErrorKind::Overloaded {
            self.counter(&self.overloaded, &OVERLOADED).increment(1);
        }
    }

    fn operation(&self, op: &Op<'_>, outcome: &str) -> Counter {
        let [store, backend, source] = self.labels;
        OPERATIONS.find_counter(&[store, backend, source, op.name(), outcome])
    }

    #[inline]
    fn counter<'a>(&self, place: &'a Lazy<Counter>, metric: &Metric) -> &'a Counter {
        place.get_or_init(|| metric.find_counter(&self.labels))
    }
}

#[inline]
const fn index(op: &Op<'_>) -> usize {
    match op {
        Op::Get(_) => 0,
        Op::GetMany(_) => 1,
        Op::Set { .. } => 2,
        Op::Delete { .. } => 3,
        Op::DeleteMany(_) => 4,
        Op::Touch { .. } => 5,
        Op::Add { .. } => 6,
        Op::Scan(_) => 7,
        Op::Run { .. } => 8,
        Op::Batch(_) => 9,
        Op::Ping => 10,
    }
}

const OPERATIONS_LEN: usize = 11;
/// The last kind of error is `Corrupt`.
const KINDS: usize = ErrorKind::Corrupt as usize + 1;
const MAX_SOURCES: usize = 16;
/// The source of all sources beyond [`MAX_SOURCES`].
const OTHERS: &str = "other";
