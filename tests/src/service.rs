use std::{
    env, fmt,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::Client;

/// A program of `examples/` as a process that serves HTTP. It ends when this value is dropped.
pub struct Service {
    child: Child,
    /// A shell that kills the child when the pipe to it closes. The system closes the pipe however the test ends.
    guard: Child,
    address: SocketAddr,
    log: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Service {
    /// Starts it with these arguments, and waits until it prints its address. The environment names no store.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be built, ends before it serves, or prints no address within 10 s.
    pub fn start(example: &str, args: &[&str]) -> Self {
        Self::start_with(example, args, &[])
    }

    /// Starts it with these arguments and variables.
    ///
    /// # Panics
    ///
    /// Panics where [`start`](Self::start) does.
    pub fn start_with(example: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = command(example, args)
            .envs(variables.iter().copied())
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
        let mut service = Self {
            child,
            guard,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            log,
        };
        service.address = service.wait_for_address(&said);
        service
    }

    /// Runs it to its end. For a program that does not serve, or fails to.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be built.
    pub fn run(example: &str, args: &[&str]) -> Output {
        let output = command(example, args).output();
        output.expect("what was built can be started")
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a connection to it.
    ///
    /// # Panics
    ///
    /// Panics if it accepts none.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
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
        let script = r#"kill -s TERM "$1""#;
        let status = Command::new("sh")
            .args(["-c", script, "kill", &self.child.id().to_string()])
            .status()
            .expect("every Unix has sh");
        assert!(status.success(), "the service is gone:\n{:#?}", self.log());
    }

    /// Waits until it ends.
    ///
    /// # Panics
    ///
    /// Panics if it has not ended after 15 s.
    pub fn wait(&mut self) -> ExitStatus {
        poll(Duration::from_secs(15), || {
            self.child.try_wait().expect("it is our child")
        })
        .unwrap_or_else(|| panic!("the service does not end:\n{:#?}", self.log()))
    }

    /// Sends it SIGTERM, and waits until it ends.
    ///
    /// # Panics
    ///
    /// Panics where [`terminate`](Self::terminate) and [`wait`](Self::wait) do.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    fn wait_for_address(&mut self, said: &Lines) -> SocketAddr {
        let found = poll(Duration::from_secs(10), || {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it ended: {ended:?}\n{:#?}", self.log());
            lock(said).iter().find_map(|line| address_in(line))
        });
        found.unwrap_or_else(|| panic!("it says no address:\n{:#?}", self.log()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The guard goes first: once the child has been waited for, another process may have its id.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address)
            .field("pid", &self.child.id())
            .finish_non_exhaustive()
    }
}

fn command(example: &str, args: &[&str]) -> Command {
    let mut command = Command::new(build(example));
    command.args(args).stdin(Stdio::null());
    for variable in STORE_VARIABLES {
        command.env_remove(variable);
    }
    command.env_remove("RUST_LOG");
    command
}

/// Builds the example with cargo, in the target folder and profile of this test. Returns the path of the program.
fn build(example: &str) -> PathBuf {
    let test = env::current_exe().expect("a test runs from a file");
    let profile = test.ancestors().nth(2).expect("a test lies in deps/");
    let target = profile.parent().expect("a profile lies in target/");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    // With the features that `cargo xtask test` has built it with already.
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--exclude", "benches"])
        .args(["--all-features", "--profile", name, "--example", example])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace.expect("tests/ lies in the workspace"))
        .output()
        .expect("what runs tests has cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example} does not build:\n{said}");
    profile.join("examples").join(example)
}

/// Returns `127.0.0.1:8080` from `listening on http://127.0.0.1:8080, ..`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    rest[..end.unwrap_or(rest.len())].parse().ok()
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

fn poll<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..patience.as_millis() / PAUSE.as_millis() {
        match look() {
            Some(found) => return Some(found),
            None => thread::sleep(PAUSE),
        }
    }
    None
}

/// The variables that `connect_from_env` reads.
const STORE_VARIABLES: [&str; 8] = [
    "REDIS_HOST",
    "REDIS_KEY_PREFIX",
    "REDIS_PASSWORD",
    "REDIS_PORT",
    "REDIS_TLS",
    "REDIS_URL",
    "UPSTASH_REDIS_REST_TOKEN",
    "UPSTASH_REDIS_REST_URL",
];
/// It ignores the signals of a terminal, so that it also cleans up after Ctrl-C.
const GUARD: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
kill -s KILL "$1" 2>/dev/null
"#;

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn an_address_is_found_in_a_sentence() {
        for (line, address) in [
            ("listening on http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("x on http://[::1]:80, its store", Some("[::1]:80")),
            ("  curl -i http://127.0.0.1:1/cars", Some("127.0.0.1:1")),
            ("on http://localhost", None),
            ("nothing", None),
        ] {
            assert_eq!(address_in(line), address.map(|a| a.parse().unwrap()));
        }
    }
}
