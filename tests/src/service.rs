use std::{
    env, fmt,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use crate::{
    Client,
    process::{Process, poll},
};

/// A program of `examples/` as a process that serves HTTP. It ends when this value is dropped.
pub struct Service {
    process: Process,
    address: SocketAddr,
}

impl Service {
    /// Starts it with these arguments, and waits until it prints its address. The environment names no store.
    ///
    /// # Panics
    ///
    /// Panics if it is not built within ten minutes, ends before it serves, or prints no address within 10 s.
    pub fn start(example: &str, args: &[&str]) -> Self {
        Self::start_with(example, args, &[])
    }

    /// Starts it with these arguments and variables.
    ///
    /// # Panics
    ///
    /// Panics where [`start`](Self::start) does.
    pub fn start_with(example: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(example, args);
        let mut process = Process::spawn(command.envs(variables.iter().copied()));
        let address = wait_for_address(&mut process);
        Self { process, address }
    }

    /// Runs it to its end. For a program that does not serve, or fails to.
    ///
    /// # Panics
    ///
    /// Panics if it is not built within ten minutes.
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

    /// Sends it SIGTERM, and waits until it ends.
    ///
    /// # Panics
    ///
    /// Panics where [`terminate`](Process::terminate) and [`wait`](Process::wait) do.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }
}

impl Deref for Service {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address)
            .field("process", &self.process)
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

fn wait_for_address(process: &mut Process) -> SocketAddr {
    let found = poll(Duration::from_secs(10), || {
        let ended = process.ended();
        assert!(ended.is_none(), "it ended: {ended:?}\n{:#?}", process.log());
        process.said().iter().find_map(|line| address_in(line))
    });
    found.unwrap_or_else(|| panic!("it says no address:\n{:#?}", process.log()))
}

/// Builds the example with cargo, in the target folder and profile of this test. Returns the path of the program.
///
/// It is built already unless this test runs alone. Then it takes minutes, and cargo waits for any other that builds here.
fn build(example: &str) -> PathBuf {
    let test = env::current_exe().expect("a test runs from a file");
    let profile = test.ancestors().nth(2).expect("a test lies in deps/");
    let target = profile.parent().expect("a profile lies in target/");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let workspace = workspace.expect("tests/ lies in the workspace");
    // With the features that `cargo xtask test` has built it with already.
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--workspace", "--exclude", "benches"])
        .args(["--all-features", "--profile", name, "--example", example])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace)
        .stdin(Stdio::null());
    let mut cargo = Process::spawn(&mut command);
    let status = poll(BUILD_LIMIT, || cargo.ended());
    // What cargo says at last: what it builds, or that it waits for another.
    let said = cargo.log();
    assert!(
        status.is_some_and(|status| status.success()),
        "{example} is not built, within {BUILD_LIMIT:?} at most: {status:?}\n{said:#?}"
    );
    profile.join("examples").join(example)
}

/// Returns `127.0.0.1:8080` from `listening on http://127.0.0.1:8080, ..`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// The longest time in which an example is built: all crates, on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

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
