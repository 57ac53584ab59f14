use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use layer_store::{BreakerState, Options, SharedStore, Store, conformance::unique, connect_with};

use crate::{FaultProxy, Monitor, port::free_port};

/// A `redis-server` on a loopback port, without persistence. It ends when this value is dropped.
pub struct RedisServer {
    port: u16,
    options: Vec<String>,
    running: Running,
}

/// One process, from its start to its end.
///
/// A shell is the parent of the server. It kills the server and removes its folder when the pipe to it closes. The system
/// closes the pipe however the test ends.
struct Running {
    shell: Child,
    pid: String,
    folder: PathBuf,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// Panics if there is no `redis-server`, or it does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with options, such as `["--requirepass", "secret"]`.
    ///
    /// # Panics
    ///
    /// Panics if there is no `redis-server`, or it does not start.
    pub fn start_with(options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().copied().map(String::from).collect();
        for _ in 0..PORTS {
            let port = free_port();
            if let Some(running) = Running::start(port, &options) {
                return Self {
                    port,
                    options,
                    running,
                };
            }
        }
        panic!("{PORTS} ports were free and taken a moment later");
    }

    /// Starts a replica of `primary` with its options, and waits until it follows it.
    ///
    /// # Panics
    ///
    /// Panics if it does not start, or does not follow within 10 s.
    pub fn start_replica_of(primary: &Self) -> Self {
        // It waits 5 s for more replicas otherwise. Servers before 7.0 have it off.
        let () = primary.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        let mut options: Vec<_> = primary.options.iter().map(String::as_str).collect();
        let port = primary.port.to_string();
        options.extend([REPLICA_OF, "127.0.0.1", &port]);
        let replica = Self::start_with(&options);
        wait_until("the replica follows its primary", || {
            let info: String = replica.command(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
        replica
    }

    /// Promotes a replica. It takes writes, also after a restart.
    ///
    /// # Panics
    ///
    /// Panics if it is none.
    pub fn promote(&mut self) {
        let () = self.command(&["REPLICAOF", "NO", "ONE"]);
        let at = self.options.iter().position(|word| word == REPLICA_OF);
        let at = at.expect("it was started as a replica");
        self.options.drain(at..at + 3);
    }

    /// Returns the URL for `connect`.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// Returns the URL for `connect` that leads through a proxy in front of this server.
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        self.url_at(proxy.address().port())
    }

    /// Returns its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its working folder, which goes with it.
    pub fn folder(&self) -> &Path {
        &self.running.folder
    }

    /// Pauses the process (SIGSTOP): connections stay open, and no command is answered.
    pub fn pause(&self) {
        self.running.signal("STOP");
    }

    /// Resumes a paused process (SIGCONT).
    pub fn resume(&self) {
        self.running.signal("CONT");
    }

    /// Kills the process (SIGKILL), and waits until its port refuses connections.
    pub fn kill(&self) {
        self.running.signal("KILL");
        wait_until("the port of a killed server refuses", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err()
        });
    }

    /// Starts it again on its port, empty. Kills it first if it runs.
    pub fn restart(&mut self) {
        self.running.signal("KILL");
        let mut started = None;
        wait_until("the server's port is free again", || {
            started = Running::start(self.port, &self.options);
            started.is_some()
        });
        self.running = started.expect("it has just started");
    }

    /// Starts it again on its port with what it has written to its folder. Kills it first if it runs.
    pub fn restart_with_data(&mut self) {
        self.kill();
        self.running.leave_folder();
        let folder = self.running.folder.clone();
        let started = Running::start_in(folder, self.port, &self.options);
        self.running = started.expect("nobody has taken its port since");
    }

    /// Evicts everything that has an end, as a full server does that is told to.
    ///
    /// # Panics
    ///
    /// Panics if the server does not take the settings.
    pub fn evict_all(&self) {
        let set = |name, value| self.command::<()>(&["CONFIG", "SET", name, value]);
        set("maxmemory-policy", "volatile-lru");
        set("maxmemory", "1");
        // A write makes room first. It fails, since one byte is less than an empty server has.
        let _: redis::RedisResult<()> = redis::cmd("SET")
            .arg(&["filler", "x"])
            .query(&mut self.raw());
        set("maxmemory", "0");
        set("maxmemory-policy", "noeviction");
    }

    /// Opens a connection for assertions, beside the store under test. It blocks for at most 5 s.
    pub fn raw(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("the harness writes good URLs");
        let connection = client
            .get_connection_with_timeout(PATIENCE)
            .expect("a server that runs takes a connection");
        for set in [
            connection.set_read_timeout(Some(PATIENCE)),
            connection.set_write_timeout(Some(PATIENCE)),
        ] {
            set.expect("a timeout of 5 s is legal");
        }
        let mut connection = connection;
        let _: () = redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg(HARNESS)
            .query(&mut connection)
            .expect("a connection can be named");
        connection
    }

    /// Sends one command on a new connection, and reads its reply as the wanted type.
    ///
    /// # Panics
    ///
    /// Panics if the server refuses the command.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command
            .query(&mut self.raw())
            .unwrap_or_else(|error| panic!("{words:?} failed: {error}"))
    }

    /// Returns the version of Redis whose commands it has: major and minor. Valkey 9 says 7.2.
    pub fn version(&self) -> (u32, u32) {
        let info: String = self.command(&["INFO", "server"]);
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        let mut numbers = version.into_iter().flat_map(|text| text.split('.'));
        let mut next = || numbers.next()?.parse().ok();
        next().zip(next()).expect("every server tells its version")
    }

    /// Returns the number of calls of each command since the start or the last `CONFIG RESETSTAT`. The names are in lower case.
    /// Calls in scripts and those of the harness are included.
    pub fn commandstats(&self) -> BTreeMap<String, u64> {
        let info: String = self.command(&["INFO", "commandstats"]);
        info.lines().filter_map(command_calls).collect()
    }

    /// Returns the connections except those of the harness, each as a line of `CLIENT LIST`.
    pub fn clients(&self) -> Vec<String> {
        let list: String = self.command(&["CLIENT", "LIST"]);
        let harness = format!(" name={HARNESS} ");
        list.lines()
            .filter(|line| !line.contains(&harness) && !line.contains(" cmd=monitor "))
            .map(String::from)
            .collect()
    }

    /// Begins to record commands.
    pub fn monitor(&self) -> Monitor {
        Monitor::start(self.raw())
    }

    /// Returns the URL for `connect` as a user, such as one of `ACL SETUSER`.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let (user, password) = (encoded(user), encoded(password));
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Returns the URL for `connect` that leads to its socket in the file system.
    pub fn unix_url(&self) -> String {
        let socket = self.running.folder.join(SOCKET);
        let socket = socket.to_str().expect("the folder has a plain name");
        match self.password() {
            Some(password) => format!("redis+unix://:{password}@{socket}"),
            None => format!("unix://{socket}"),
        }
    }

    pub(crate) fn url_at(&self, port: u16) -> String {
        match self.password() {
            Some(password) => format!("redis://:{password}@127.0.0.1:{port}"),
            None => format!("redis://127.0.0.1:{port}"),
        }
    }

    fn password(&self) -> Option<&str> {
        let at = self
            .options
            .iter()
            .position(|word| word == "--requirepass")?;
        self.options.get(at + 1).map(String::as_str)
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("port", &self.port)
            .field("pid", &self.running.pid)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Starts a server and waits until it answers. Returns `None` if another process has the port.
    fn start(port: u16, options: &[String]) -> Option<Self> {
        let folder = env::temp_dir().join(format!("layers-{}", unique()));
        fs::create_dir(&folder).expect("the folder for temporary files can be written");
        Self::start_in(folder, port, options)
    }

    fn start_in(folder: PathBuf, port: u16, options: &[String]) -> Option<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "redis-server"])
            .arg(&folder)
            .arg(program())
            .args(["--port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--unixsocket", SOCKET, "--loglevel", "notice"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("every Unix has sh");
        let mut pid = String::new();
        let stdout = shell.stdout.take().expect("it was piped");
        BufReader::new(stdout)
            .read_line(&mut pid)
            .expect("the shell says which process it started");
        let running = Self {
            shell,
            pid: pid.trim().into(),
            folder,
        };
        running.answers().then_some(running)
    }

    /// Waits until the server answers on the socket in its own folder, which it opens after its port.
    fn answers(&self) -> bool {
        let mut in_use = false;
        wait_until("redis-server starts", || {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            in_use = log.contains("Address already in use");
            assert!(
                !log.contains("FATAL CONFIG FILE ERROR"),
                "redis-server refuses its options:\n{log}"
            );
            in_use || is_ready(&self.folder.join(SOCKET))
        });
        !in_use
    }

    /// Ends the shell that would remove the folder. The server is killed already.
    fn leave_folder(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }

    fn signal(&self, signal: &str) {
        // The shell's own, since not every system has the command.
        let script = r#"kill -s "$1" "$2""#;
        let status = Command::new("sh")
            .args(["-c", script, "kill", signal, &self.pid])
            .stderr(Stdio::null())
            .status()
            .expect("every Unix has sh");
        // A server killed before is none to be killed.
        assert!(
            status.success() || signal == "KILL",
            "SIG{signal} did not reach the server"
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Connects with a deadline of 10 s a call: on few cores a server that many tests ask at once is slower than a caller in
/// production would wait.
///
/// # Panics
///
/// Panics if the server does not run.
pub async fn patient_store(server: &RedisServer, options: Options) -> SharedStore {
    patient_store_at(&server.url(), options).await
}

/// Connects to a URL with a deadline of 10 s a call.
///
/// # Panics
///
/// Panics if nobody answers there.
pub async fn patient_store_at(url: &str, options: Options) -> SharedStore {
    let options = options.deadline(Duration::from_secs(10));
    let store = connect_with(url, options).await;
    let store = store.unwrap_or_else(|error| panic!("{url}: {}", error.report()));
    let breaker = store.info().health.breaker;
    assert!(
        breaker.is_none_or(|breaker| breaker.state() == BreakerState::Closed),
        "nobody answers at {url}"
    );
    store
}

/// Returns the program that `REDIS_SERVER` names, or else `redis-server`.
///
/// # Panics
///
/// Panics with the command that installs it if it is missing.
fn program() -> OsString {
    if let Some(program) = env::var_os(VARIABLE) {
        assert!(
            Path::new(&program).is_file(),
            "{VARIABLE} names {program:?}, which is no file: write the path of a redis-server or valkey-server, or unset it"
        );
        return program;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file());
    assert!(
        found,
        "these tests need {PROGRAM}: run `cargo xtask test`, which installs it, or `apt-get install redis-server`"
    );
    PROGRAM.into()
}

/// Writes every byte that has a meaning in a URL, and some others, as `%3A`.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn is_ready(socket: &Path) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 64];
        let length = stream.read(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
    };
    // One that wants a password is as ready.
    ask().is_ok_and(|reply| reply.starts_with("+PONG") || reply.starts_with("-NOAUTH"))
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 5 * 2 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("waited 10 s until {what}");
}

/// Reads a line such as `cmdstat_get:calls=2,usec=..`.
fn command_calls(line: &str) -> Option<(String, u64)> {
    let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let (calls, _) = numbers.split_once(',')?;
    Some((name.into(), calls.parse().ok()?))
}

const PROGRAM: &str = "redis-server";
/// Names another program, as `cargo xtask test --servers` does.
const VARIABLE: &str = "REDIS_SERVER";
/// The socket, in the folder of the server.
const SOCKET: &str = "socket";
const REPLICA_OF: &str = "--replicaof";
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of ports that are tried.
const PORTS: usize = 20;
/// The name of the harness's connections.
const HARNESS: &str = "harness";
/// Starts the rest of its arguments in a folder, and cleans up at the end of its input. It ignores the signals of a terminal,
/// so that it also cleans up after Ctrl-C.
const SHELL: &str = r#"
trap '' INT TERM HUP
folder=$1
shift
cd "$folder" || exit
"$@" </dev/null >log 2>&1 &
echo $!
cat >/dev/null
kill -s KILL $! 2>/dev/null
wait
cd /
rm -rf "$folder"
"#;
