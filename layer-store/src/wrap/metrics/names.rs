//! The one table of names: what is counted and measured of a store.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};

/// The name of a metric, what it counts, and its labels.
///
/// The layers have tables of their own, made of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, such as `store_operations_total`.
    pub name: &'static str,
    /// The kind: a counter, a gauge or a histogram.
    pub kind: MetricKind,
    /// The description, for scrapers.
    pub help: &'static str,
    /// The names of the labels. The values of each come from a small fixed set: never a key, an identity or a token.
    pub labels: &'static [&'static str],
}

/// The kind of a [`Metric`], with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A distribution of times, in seconds.
    Seconds,
}

impl Metric {
    /// Makes a counter.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, MetricKind::Counter, labels, help)
    }

    const fn new(
        name: &'static str,
        kind: MetricKind,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            help,
            labels,
        }
    }

    /// Finds the counter with these values of its labels, in their order, in the recorder that is installed.
    ///
    /// Keep it: finding it costs an allocation and a look-up. Without a recorder it counts nothing, for ever.
    #[doc(hidden)]
    pub fn find_counter(&self, values: &[&str]) -> Counter {
        self.find(values, |recorder, key| {
            recorder.describe_counter(self.name.into(), None, self.help.into());
            recorder.register_counter(key, &METADATA)
        })
    }

    pub(super) fn find_gauge(&self, values: &[&str]) -> Gauge {
        self.find(values, |recorder, key| {
            recorder.describe_gauge(self.name.into(), None, self.help.into());
            recorder.register_gauge(key, &METADATA)
        })
    }

    pub(super) fn find_histogram(&self, values: &[&str]) -> Histogram {
        self.find(values, |recorder, key| {
            recorder.describe_histogram(self.name.into(), Some(Unit::Seconds), self.help.into());
            recorder.register_histogram(key, &METADATA)
        })
    }

    fn find<M>(&self, values: &[&str], register: impl FnOnce(&dyn Recorder, &Key) -> M) -> M {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let labels = self.labels.iter().zip(values);
        let labels: Vec<_> = labels
            .map(|(label, value)| Label::new(*label, String::from(*value)))
            .collect();
        let key = Key::from_parts(self.name, labels);
        metrics::with_recorder(|recorder| register(recorder, &key))
    }

    /// Checks the table of `metrics` in `docs`, the source of a page. The names in it begin with one of `prefixes`.
    #[cfg(feature = "test-util")]
    #[doc(hidden)]
    pub fn check_table(metrics: &[Self], docs: &str, prefixes: &[&str]) {
        let is_row = |line: &&str| {
            let name = line.strip_prefix("| `");
            name.is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        };
        let lines = docs.lines().filter_map(|line| line.strip_prefix("//! "));
        let rows: Vec<_> = lines.filter(is_row).collect();
        let expected: Vec<_> = metrics.iter().map(Self::line).collect();
        assert_eq!(rows, expected);
    }

    /// Returns the metric as a line of the docs' tables.
    #[cfg(feature = "test-util")]
    fn line(&self) -> String {
        let kind = match self.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Seconds => "histogram, seconds",
        };
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        format!(
            "| `{}` | {kind} | {} | {} |",
            self.name,
            labels.join(", "),
            self.help
        )
    }
}

/// Operations that have ended.
pub(super) const OPERATIONS: Metric = Metric::counter(
    "store_operations_total",
    &["store", "backend", "source", "operation", "outcome"],
    "operations that ended; `outcome` is `ok` or the kind of the error",
);

/// The time of an operation.
pub(super) const DURATION: Metric = Metric::new(
    "store_operation_duration_seconds",
    MetricKind::Seconds,
    &["store", "backend", "source", "operation"],
    "the time of an operation that waited, with or without success",
);

/// Values that were there.
pub(super) const HITS: Metric = Metric::counter(
    "store_hits_total",
    &["store", "backend", "source"],
    "values that `get` and `get_many` found",
);

/// Values that were not there.
pub(super) const MISSES: Metric = Metric::counter(
    "store_misses_total",
    &["store", "backend", "source"],
    "keys without a value in `get` and `get_many`",
);

/// The charge of a server that is paid by the command.
pub(super) const BILLED: Metric = Metric::counter(
    "store_billed_commands_total",
    &["store", "backend", "source"],
    "an estimate of the commands that a server paid by the command charges for; of shared stores alone",
);

/// Calls that this process could not send.
pub(super) const OVERLOADED: Metric = Metric::counter(
    "store_overloaded_total",
    &["store", "backend", "source"],
    "operations that failed because this process has too many calls under way",
);

/// Commands on the wire.
pub(super) const COMMANDS: Metric = Metric::counter(
    "store_commands_total",
    &["store", "backend"],
    "commands sent, with those of connecting and of pings",
);

/// Open connections.
pub(super) const CONNECTIONS: Metric = Metric::new(
    "store_connections",
    MetricKind::Gauge,
    &["store", "backend"],
    "open connections to the server",
);

/// Calls without a reply yet.
pub(super) const IN_FLIGHT: Metric = Metric::new(
    "store_calls_in_flight",
    MetricKind::Gauge,
    &["store", "backend"],
    "calls that have no reply yet",
);

/// The state of the circuit breaker.
pub(super) const BREAKER_STATE: Metric = Metric::new(
    "store_breaker_state",
    MetricKind::Gauge,
    &["store", "backend"],
    "the circuit breaker: 0 closed, 1 half open, 2 open",
);

/// Changes of the circuit breaker.
pub(super) const BREAKER_TRANSITIONS: Metric = Metric::counter(
    "store_breaker_transitions_total",
    &["store", "backend", "to"],
    "changes of the circuit breaker; `to` is `closed`, `half-open` or `open`",
);

/// Every metric of a store.
pub const METRICS: &[Metric] = &[
    OPERATIONS,
    DURATION,
    HITS,
    MISSES,
    BILLED,
    OVERLOADED,
    COMMANDS,
    CONNECTIONS,
    IN_FLIGHT,
    BREAKER_STATE,
    BREAKER_TRANSITIONS,
];

const METADATA: Metadata<'static> = Metadata::new("layer_store", Level::INFO, Some("layer_store"));

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is in the docs of the module above.
    #[test]
    fn the_table_of_the_docs_is_the_table_of_the_code() {
        Metric::check_table(METRICS, include_str!("mod.rs"), &[""]);
    }

    #[test]
    fn no_name_is_there_twice() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
