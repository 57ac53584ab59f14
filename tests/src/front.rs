use std::{
    fmt,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc::channel,
};

use tokio::net::{TcpListener, TcpStream};

use crate::{background::Background, port::free_port};

/// A loopback port on which each connection is served by a task, on a thread of its own. It ends, with its connections, when
/// it is dropped.
pub(crate) struct Front {
    address: SocketAddr,
    _background: Background,
}

impl Front {
    /// Starts one. An error of `serve` ends its connection alone.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub(crate) fn start<F>(mut serve: impl FnMut(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (opened, open) = channel();
        let background = Background::spawn(async move {
            let listener = free_listener().await;
            let address = listener.local_addr().expect("a listener has an address");
            if opened.send(address).is_err() {
                return;
            }
            while let Ok((client, _)) = listener.accept().await {
                if client.set_nodelay(true).is_ok() {
                    tokio::spawn(serve(client));
                }
            }
        });
        Self {
            address: open.recv().expect("some port is free"),
            _background: background,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Front").field(&self.address).finish()
    }
}

async fn free_listener() -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
            return listener;
        }
    }
}
