use std::{
    fmt,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// A program beside the test, as a process. It ends when this value is dropped, when the test panics, and when the process of
/// the test is killed.
pub struct Process {
    child: Child,
    /// A shell that kills the child when the pipe to it closes. The system closes the pipe however the test ends.
    guard: Child,
    said: Lines,
    log: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Process {
    /// Starts a program, such as `env!("CARGO_BIN_EXE_lock-worker")`, with these arguments.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started.
    pub fn start(program: impl AsRef<Path>, args: &[&str]) -> Self {
        let mut command = Command::new(program.as_ref());
        Self::spawn(command.args(args).stdin(Stdio::null()))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("what was built can be started");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("every Unix has sh");
        let said = lines_of(child.stdout.take().expect("it was piped"));
        let log = lines_of(child.stderr.take().expect("it was piped"));
        Self {
            child,
            guard,
            said,
            log,
        }
    }

    /// Returns what it has written to stdout, one line each.
    pub fn said(&self) -> Vec<String> {
        lock(&self.said).clone()
    }

    /// Returns its log so far, one line each.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Sends it SIGTERM.
    ///
    /// # Panics
    ///
    /// Panics if it has ended.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Pauses it (SIGSTOP): nothing in it goes on, and its connections stay open.
    ///
    /// # Panics
    ///
    /// Panics if it has ended.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes it (SIGCONT).
    ///
    /// # Panics
    ///
    /// Panics if it has ended.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Waits until it ends.
    ///
    /// # Panics
    ///
    /// Panics if it has not ended after 15 s.
    pub fn wait(&mut self) -> ExitStatus {
        poll(Duration::from_secs(15), || self.ended())
            .unwrap_or_else(|| panic!("the process does not end:\n{:#?}", self.log()))
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    fn signal(&self, signal: &str) {
        let script = r#"kill -s "$1" "$2""#;
        let status = Command::new("sh")
            .args(["-c", script, "kill", signal, &self.child.id().to_string()])
            .status()
            .expect("every Unix has sh");
        assert!(status.success(), "the process is gone:\n{:#?}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard goes first: once the child has been waited for, another process may have its id.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.child.id())
            .finish_non_exhaustive()
    }
}

/// Collects lines in a thread, so that the writer never waits for a reader.
fn lines_of(from: impl io::Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let collected = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lock(&collected).push(line);
        }
    });
    lines
}

fn lock(lines: &Lines) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn poll<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..patience.as_millis() / PAUSE.as_millis() {
        match look() {
            Some(found) => return Some(found),
            None => thread::sleep(PAUSE),
        }
    }
    None
}

/// It ignores the signals of a terminal, so that it also cleans up after Ctrl-C.
const GUARD: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
kill -s KILL "$1" 2>/dev/null
"#;
