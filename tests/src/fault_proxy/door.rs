use std::{future, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use super::{like_a_network, mode::Mode};

/// The port that clients connect to.
pub(super) enum Door {
    /// Takes connections.
    Open(TcpListener),
    /// Refuses them. The port is bound, so that no other process gets it.
    Shut(TcpSocket),
    /// Leaves them waiting: the queue of connections to accept is full.
    Full {
        #[expect(dead_code, reason = "its queue is what is full")]
        listener: TcpListener,
        #[expect(dead_code, reason = "they are in the queue")]
        waiting: Vec<TcpStream>,
    },
}

impl Door {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        bind(address)?.listen(QUEUE).map(Self::Open)
    }

    /// Makes the door that a mode wants, on the port of this one.
    pub(super) async fn turned(self, address: SocketAddr, mode: Mode) -> io::Result<Self> {
        let opens = !matches!(mode, Mode::Refuse | Mode::Unreachable);
        if opens && matches!(self, Self::Open(_)) {
            return Ok(self);
        }
        let socket = match self {
            Self::Shut(socket) => socket,
            // No socket can be bound to the port of one that listens.
            listening => {
                drop(listening);
                bind(address)?
            }
        };
        match mode {
            Mode::Refuse => Ok(Self::Shut(socket)),
            Mode::Unreachable => Self::full(socket.listen(0)?).await,
            _ => socket.listen(QUEUE).map(Self::Open),
        }
    }

    /// Fills the queue of a listener until a connection has to wait.
    async fn full(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(FULL, TcpStream::connect(address)).await {
            waiting.push(stream?);
        }
        Ok(Self::Full { listener, waiting })
    }

    /// Waits for a connection. Cancel safe.
    pub(super) async fn accept(&self) -> TcpStream {
        let Self::Open(listener) = self else {
            return future::pending().await;
        };
        loop {
            // An error is that of a client which is gone already, or of too many open files.
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    like_a_network(&socket)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The connections that wait to be accepted.
const QUEUE: u32 = 1024;
/// On loopback a connection takes microseconds, unless it waits.
const FULL: Duration = Duration::from_millis(100);
