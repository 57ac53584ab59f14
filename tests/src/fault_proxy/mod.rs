use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
};

use socket2::SockRef;
use tokio::{
    net::TcpSocket,
    sync::{mpsc, watch},
};

use self::{counts::Counts, door::Door, line::serve};
pub use self::{
    counts::{Connections, Passed},
    mode::Mode,
};
use crate::{RedisServer, background::Background, port::free_port};

mod counts;
mod door;
mod line;
mod mode;
mod pump;

/// A TCP proxy in front of a server, on a loopback port of its own, that delays, loses and breaks what it passes.
///
/// It starts in [`Mode::Pass`]. A switch is in force for everything that is sent after it. The proxy runs on a thread of its
/// own, so that neither a busy test nor one whose time is paused slows it. It ends, with its connections, when it is dropped.
///
/// What it swallows is acknowledged by this machine's kernel, other than on a real network. So a black hole is noticed by a
/// deadline or an unanswered ping, and never by keepalive or a user timeout of TCP.
pub struct FaultProxy {
    address: SocketAddr,
    lines: Arc<Mutex<Lines>>,
    counts: Arc<Counts>,
    turns: mpsc::UnboundedSender<Turn>,
    _background: Background,
}

struct Lines {
    /// The mode of connections to come, and the server to which they lead.
    new: Mode,
    target: SocketAddr,
    existing: Vec<watch::Sender<Mode>>,
}

/// A mode for the door, and who waits until it is in force.
struct Turn(Mode, Sender<()>);

impl FaultProxy {
    /// Starts one in front of a Redis.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub fn before(server: &RedisServer) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())))
    }

    /// Starts one in front of an address. Nobody has to listen there yet.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub fn start(target: SocketAddr) -> Self {
        let lines = Arc::new(Mutex::new(Lines {
            new: Mode::Pass,
            target,
            existing: Vec::new(),
        }));
        let counts = Arc::<Counts>::default();
        let (turns, turned) = mpsc::unbounded_channel();
        let (opened, open) = channel();
        let background = Background::spawn({
            let (lines, counts) = (lines.clone(), counts.clone());
            async move {
                let (address, door) = free_door();
                if opened.send(address).is_ok() {
                    run(door, address, lines, counts, turned).await;
                }
            }
        });
        Self {
            address: open.recv().expect("some port is free"),
            lines,
            counts,
            turns,
            _background: background,
        }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Switches all connections, those that exist and those to come.
    ///
    /// # Panics
    ///
    /// Panics if the port cannot be opened again.
    pub fn set(&self, mode: Mode) {
        self.set_new(mode);
        self.set_existing(mode);
    }

    /// Switches the connections that exist now. A NAT that forgets is [`Mode::BlackHole`] for these alone.
    pub fn set_existing(&self, mode: Mode) {
        for line in &lock(&self.lines).existing {
            line.send_replace(mode);
        }
    }

    /// Switches the connections to come.
    ///
    /// # Panics
    ///
    /// Panics if the port cannot be opened again.
    pub fn set_new(&self, mode: Mode) {
        lock(&self.lines).new = mode;
        let (done, wait) = channel();
        let sent = self.turns.send(Turn(mode, done));
        assert!(
            sent.is_ok() && wait.recv().is_ok(),
            "the port {} cannot be opened again",
            self.address.port()
        );
    }

    /// Leads all clients to another server: resets the connections that exist, as a failover does.
    pub fn lead_to(&self, server: &RedisServer) {
        lock(&self.lines).target = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        self.set_existing(Mode::Reset);
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> Connections {
        self.counts.connections()
    }

    /// Returns the number of bytes that have passed.
    pub fn passed(&self) -> Passed {
        self.counts.bytes()
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .field("connections", &self.connections())
            .field("passed", &self.passed())
            .finish_non_exhaustive()
    }
}

async fn run(
    mut door: Door,
    address: SocketAddr,
    lines: Arc<Mutex<Lines>>,
    counts: Arc<Counts>,
    mut turned: mpsc::UnboundedReceiver<Turn>,
) {
    loop {
        tokio::select! {
            biased;
            turn = turned.recv() => {
                let Some(Turn(mode, done)) = turn else { return };
                door = match door.turned(address, mode).await {
                    Ok(door) => door,
                    Err(error) => panic!("{address}: {error}"),
                };
                // The caller waits for it.
                let _ = done.send(());
            }
            client = door.accept() => {
                let (target, modes) = lock(&lines).new_line();
                tokio::spawn(serve(client, target, modes, counts.clone()));
            }
        }
    }
}

impl Lines {
    fn new_line(&mut self) -> (SocketAddr, watch::Receiver<Mode>) {
        self.existing.retain(|line| !line.is_closed());
        let (line, modes) = watch::channel(self.new);
        self.existing.push(line);
        (self.target, modes)
    }
}

fn free_door() -> (SocketAddr, Door) {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        if let Ok(door) = Door::open(address) {
            return (address, door);
        }
    }
}

/// Makes the kernels at both ends hold as little as those of a real network do. A sender on loopback, whose segments have 64 KiB,
/// is rid of megabytes at once, and would not notice a narrow line.
fn like_a_network(socket: &TcpSocket) -> io::Result<()> {
    socket.set_recv_buffer_size(NARROW_WINDOW)?;
    SockRef::from(socket).set_tcp_mss(SEGMENT)
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the kernel's buffer. The sender's kernel then holds about 150 KB.
const NARROW_WINDOW: u32 = 4 * 1024;
/// Bytes, as on an Ethernet.
const SEGMENT: u32 = 1_448;
