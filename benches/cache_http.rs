//! Cached pages over HTTP: requests a second and CPU time of the server, compared with a handler without a cache, with other
//! caches in axum, and with nginx and Varnish.
//!
//! `cargo bench -p benches --features peers --bench cache_http`. Needs Linux and wrk, which sends the requests. nginx and
//! Varnish are left out if they are not installed. Debian has all three: `apt-get install wrk nginx-light varnish`.
//!
//! Each server runs in a process of its own. They take turns, round by round, and ratios are taken inside a round.

use std::{
    collections::HashMap,
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use axum::Router;
use cache_layer::CacheLayer;
use contenders::{PATH, Page, PageFloor, median};
use layer_store::MemoryStore;
use tower_layer::Layer;

const ROUNDS: usize = 21;
/// Of each round, for each server: short, as other work on the machine comes and goes.
const SECONDS: u32 = 1;
const CONNECTIONS: u32 = 32;
const KIB: usize = 1_024;

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    if let [task, name, port] = &args[..]
        && task == "serve"
    {
        return serve(name, port.parse().expect("a port"));
    }
    let folder = Folder::new();
    let bare = Server::of_axum("bare");
    let mut servers = vec![Server::of_axum("floor"), Server::of_axum("ours")];
    #[cfg(feature = "peers")]
    servers.extend(["axum-response-cache", "tower-resilience"].map(Server::of_axum));
    servers.extend(Server::nginx(&folder, bare.port));
    servers.extend(Server::varnish(&folder, bare.port));
    servers.insert(0, bare);
    for server in &servers {
        server.wait_for_a_hit();
    }
    let mut runs = vec![Vec::new(); servers.len()];
    for round in 0..=ROUNDS {
        for turn in 0..servers.len() {
            let at = (turn + round) % servers.len();
            let run = servers[at].run();
            // The first round warms up.
            if round > 0 {
                runs[at].push(run);
            }
        }
    }
    print(&servers, &runs);
}

/// The table: medians over the rounds, and the medians of the ratios to the first server.
fn print(servers: &[Server], runs: &[Vec<Run>]) {
    println!("\n{CONNECTIONS} connections: median of {ROUNDS} rounds of {SECONDS} s");
    println!(
        "{:<22} {:>12} {:>8} {:>16} {:>8}",
        "", "requests/s", "/ bare", "server CPU, us", "/ bare"
    );
    for (server, own) in servers.iter().zip(runs) {
        let of = |value: fn(&Run) -> f64| {
            let ratios = own
                .iter()
                .zip(&runs[0])
                .map(|(own, bare)| value(own) / value(bare));
            (
                median(own.iter().map(value).collect()),
                median(ratios.collect()),
            )
        };
        let (rate, of_rate) = of(|run| run.per_second);
        let (cpu, of_cpu) = of(|run| run.cpu_micros);
        println!(
            "{:<22} {rate:>12.0} {of_rate:>8.2} {cpu:>16.2} {of_cpu:>8.2}",
            server.name
        );
    }
}

/// The numbers of one server in one round.
#[derive(Clone, Copy)]
struct Run {
    per_second: f64,
    /// Of one request.
    cpu_micros: f64,
}

/// A server on a loopback port. It is ended when this is dropped.
struct Server {
    name: &'static str,
    port: u16,
    process: Child,
    /// The field of a response that no handler made.
    mark: Option<&'static str>,
}

impl Server {
    /// Starts this program as a server.
    fn of_axum(name: &'static str) -> Self {
        let port = free_port();
        let program = env::current_exe().expect("this program");
        let process = Command::new(program)
            .args(["serve", name, &port.to_string()])
            .stdin(Stdio::piped())
            .spawn();
        Self {
            name,
            port,
            process: process.expect("it starts"),
            mark: (name == "ours").then_some("cache-status: cache; hit"),
        }
    }

    fn nginx(folder: &Folder, origin: u16) -> Option<Self> {
        let (port, at) = (free_port(), folder.0.display());
        let config = format!(
            "user root; worker_processes 2; daemon off; pid {at}/pid; error_log stderr error;
            events {{ worker_connections 512; }}
            http {{
                access_log off; keepalive_requests 1000000000;
                client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                proxy_cache_path {at}/cache keys_zone=pages:1m;
                server {{
                    listen 127.0.0.1:{port};
                    location / {{
                        proxy_pass http://127.0.0.1:{origin};
                        proxy_cache pages;
                        add_header X-Cache $upstream_cache_status;
                    }}
                }}
            }}"
        );
        let file = folder.0.join("nginx.conf");
        fs::write(&file, config).expect("a folder of our own");
        Self::of_package("nginx", port, Some("x-cache: hit"), |command| {
            command.arg("-e").arg("stderr").arg("-c").arg(&file)
        })
    }

    fn varnish(folder: &Folder, origin: u16) -> Option<Self> {
        let port = free_port();
        Self::of_package("varnishd", port, Some("via: "), |command| {
            command
                .args(["-F", "-j", "none", "-s", "malloc,64m"])
                .args([
                    "-a",
                    &format!("127.0.0.1:{port}"),
                    "-b",
                    &format!("127.0.0.1:{origin}"),
                ])
                .arg("-n")
                .arg(folder.0.join("varnish"))
        })
    }

    /// Starts a server of the system. `None` if it is not installed.
    fn of_package(
        name: &'static str,
        port: u16,
        mark: Option<&'static str>,
        with: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Option<Self> {
        // Debian has them where only root looks.
        let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
        let mut command = Command::new(name);
        match with(command.env("PATH", path))
            .stdout(Stdio::null())
            .spawn()
        {
            Ok(process) => Some(Self {
                name,
                port,
                process,
                mark,
            }),
            Err(error) => {
                println!("{name} is left out: {error}");
                None
            }
        }
    }

    /// Waits until the page comes from the cache.
    fn wait_for_a_hit(&self) {
        for _ in 0..100 {
            let response = self.get().unwrap_or_default().to_ascii_lowercase();
            let is_whole =
                response.starts_with("http/1.1 200") && response.ends_with(&"x".repeat(KIB));
            if is_whole && self.mark.is_none_or(|mark| response.contains(mark)) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{} does not answer from its cache", self.name);
    }

    fn get(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        let request =
            format!("GET {PATH} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    }

    /// Sends requests for some seconds.
    fn run(&self) -> Run {
        let before = self.cpu_micros();
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s")])
            .args(["-H", "Host: shop.example"])
            .arg(format!("http://127.0.0.1:{}{PATH}", self.port))
            .output()
            .expect("wrk is needed: apt-get install wrk");
        let cpu = self.cpu_micros() - before;
        let output = String::from_utf8_lossy(&output.stdout);
        let failed = ["Non-2xx", "Socket errors"]
            .iter()
            .any(|line| output.contains(line));
        assert!(!failed, "{}:\n{output}", self.name);
        let (requests, _) = output.split_once(" requests in").expect("wrk's summary");
        let requests: f64 = last_word(requests).parse().expect("a number");
        let (_, rate) = output.split_once("Requests/sec:").expect("wrk's summary");
        let rate = rate.split_whitespace().next().unwrap_or_default();
        Run {
            per_second: rate.parse().expect("a number"),
            cpu_micros: cpu / requests,
        }
    }

    /// Returns the CPU time of the process and its descendants so far.
    fn cpu_micros(&self) -> f64 {
        let stats: HashMap<u32, Stat> = fs::read_dir("/proc")
            .expect("Linux")
            .flatten()
            .filter_map(|process| {
                let process = process.path();
                let id = process.file_name()?.to_str()?.parse().ok()?;
                Some((id, Stat::read(&process)?))
            })
            .collect();
        let is_own = |mut id: u32| {
            while id != self.process.id() {
                match stats.get(&id) {
                    Some(stat) if stat.parent != id => id = stat.parent,
                    _ => return false,
                }
            }
            true
        };
        let own = stats.iter().filter(|(id, _)| is_own(**id));
        own.map(|(_, stat)| stat.ticks as f64 * MICROS_PER_TICK)
            .sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those of the system have processes of their own, which they end when they are asked to end.
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.process.wait();
    }
}

/// The system's numbers of a process.
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(process: &Path) -> Option<Self> {
        let text = fs::read_to_string(process.join("stat")).ok()?;
        // The name of the program, in brackets, may hold spaces.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks(11)? + ticks(12)?,
        })
    }
}

/// A folder for the files of the servers. It is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("cache_http-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Serves the page until the other end of the standard input is gone.
fn serve(name: &str, port: u16) {
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let app = match name {
        "bare" => Router::new().route_service(PATH, Page::of(KIB)),
        "floor" => Router::new().route_service(PATH, PageFloor::of(KIB)),
        "ours" => {
            let cache = CacheLayer::new(MemoryStore::new());
            Router::new().route_service(PATH, cache.layer(Page::of(KIB)))
        }
        #[cfg(feature = "peers")]
        "axum-response-cache" => Router::new().route_service(PATH, contenders::response_cache(KIB)),
        #[cfg(feature = "peers")]
        "tower-resilience" => Router::new().route_service(PATH, contenders::resilience_cache(KIB)),
        _ => panic!("no server is named {name:?}"),
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let served = axum::serve(listener.expect("a free port"), app).await;
        served.expect("it never ends");
    });
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn last_word(text: &str) -> &str {
    text.split_whitespace().next_back().unwrap_or_default()
}

/// Linux tells times to programs in hundredths of a second.
const MICROS_PER_TICK: f64 = 10_000.0;
