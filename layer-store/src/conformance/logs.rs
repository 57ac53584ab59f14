use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};

/// Notes the events and spans of one crate on this thread, for the tests of the layers. A test needs a runtime of one thread.
///
/// A line is the message of an event, or the name of a span, and then its fields, as in `refused policy=100/min cost=1`.
pub struct Logs {
    lines: Lines,
    _guard: DefaultGuard,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Logs {
    /// Begins to note what `target` (the name of a crate) tells at debug level and above.
    pub fn debug(target: &'static str) -> Self {
        Self::at(Level::DEBUG, target)
    }

    /// Begins to note what `target` tells at `level` and above.
    pub fn at(level: Level, target: &'static str) -> Self {
        // While there is one listener alone, `tracing` asks the thread that comes first to a place in the code, which may be
        // another test's.
        static SECOND: std::sync::OnceLock<Dispatch> = std::sync::OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(Listener::new(level, target, Lines::default())));
        let lines = Lines::default();
        let listener = Listener::new(level, target, lines.clone());
        Self {
            lines,
            _guard: tracing::subscriber::set_default(listener),
        }
    }

    /// Returns the number of lines that were not taken.
    pub fn count(&self) -> usize {
        self.lines.lock().len()
    }

    /// Takes the lines since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock())
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Logs").field(&self.lines.lock()).finish()
    }
}

struct Listener {
    level: Level,
    target: &'static str,
    lines: Lines,
}

impl Listener {
    const fn new(level: Level, target: &'static str, lines: Lines) -> Self {
        Self {
            level,
            target,
            lines,
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let module = metadata.target().strip_prefix(self.target);
        let is_ours = module.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        is_ours && *metadata.level() <= self.level
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut lines = self.lines.lock();
        let mut line = Line::default();
        line.0.push_str(span.metadata().name());
        span.record(&mut line);
        lines.push(line.0);
        Id::from_u64(lines.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        // A span whose line was taken is written no further.
        let place = span.into_u64() as usize - 1;
        if let Some(line) = self.lines.lock().get_mut(place) {
            let mut fields = Line(std::mem::take(line));
            values.record(&mut fields);
            *line = fields.0;
        }
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.lines.lock().push(line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => self.0.push_str(&format!(" {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
