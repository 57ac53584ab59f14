use std::{
    cell::RefCell,
    fmt, io, mem,
    sync::{Arc, Mutex, Once, PoisonError},
};

use tracing::Level;

/// Records what this thread logs at `warn` or above. A test of logs needs a runtime of one thread.
///
/// All threads share one subscriber, which sorts events by thread. With one subscriber for each thread, `tracing` may cache
/// for a place in the code that no subscriber wants its events.
pub struct Logs {
    text: Text,
    outer: Text,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static HERE: RefCell<Text> = RefCell::default();
}

impl Logs {
    /// Begins to record.
    pub fn capture() -> Self {
        static LISTEN: Once = Once::new();
        LISTEN.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(Level::WARN)
                .with_ansi(false)
                .without_time()
                .with_writer(|| HERE.with_borrow(Text::clone))
                .init();
        });
        let text = Text::default();
        let outer = HERE.replace(text.clone());
        Self { text, outer }
    }

    /// Returns the events so far, one line each.
    pub fn lines(&self) -> Vec<String> {
        let text = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text)
            .lines()
            .map(String::from)
            .collect()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        HERE.set(mem::take(&mut self.outer));
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Logs").field(&self.lines()).finish()
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
