use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Mutex, Notify},
};

use self::frame::{command_name, frame_len};
use crate::{RedisServer, front::Front};

mod frame;

/// A proxy in front of a Redis that speaks RESP2 alone, as several do: it refuses `HELLO` and passes everything else.
#[derive(Debug)]
pub struct Resp2Front(Front);

/// The answer of a [`Resp2Front`] to a `HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloRefusal {
    /// `-ERR unknown command 'HELLO'`, as Redis before 6.0 does.
    UnknownCommand,
    /// `-ERR unsupported command 'hello'`, as Envoy does.
    Unsupported,
    /// `-NOAUTH Authentication required.`, as Envoy does when it has a password.
    NoAuth,
    /// Closes the connection, as twemproxy does.
    Close,
}

impl HelloRefusal {
    /// Every way.
    pub const ALL: [Self; 4] = [
        Self::UnknownCommand,
        Self::Unsupported,
        Self::NoAuth,
        Self::Close,
    ];

    fn reply(self) -> Option<&'static str> {
        match self {
            Self::UnknownCommand => {
                Some("-ERR unknown command 'HELLO', with args beginning with: '3' \r\n")
            }
            Self::Unsupported => Some("-ERR unsupported command 'hello'\r\n"),
            Self::NoAuth => Some("-NOAUTH Authentication required.\r\n"),
            Self::Close => None,
        }
    }
}

impl Resp2Front {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub fn before(server: &RedisServer, refusal: HelloRefusal) -> Self {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        Self(Front::start(move |client| serve(client, target, refusal)))
    }

    /// Returns the URL for `connect`, with the password of the server that it was made for.
    pub fn url(&self, server: &RedisServer) -> String {
        server.url_at(self.0.address().port())
    }
}

async fn serve(mut client: TcpStream, target: SocketAddr, refusal: HelloRefusal) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let talk = Talk {
        to_client: Mutex::new(to_client),
        replies: AtomicU64::new(0),
        replied: Notify::new(),
        refusal,
    };
    tokio::select! {
        ended = talk.requests(from_client, to_server) => ended,
        ended = talk.replies(from_server) => ended,
    }
}

/// One connection.
struct Talk<'a> {
    to_client: Mutex<WriteHalf<'a>>,
    /// The number of replies that were passed.
    replies: AtomicU64,
    replied: Notify,
    refusal: HelloRefusal,
}

impl Talk<'_> {
    /// Passes commands, and answers `HELLO` when everything before it has been answered.
    async fn requests(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        let mut passed = 0;
        while from.read_buf(&mut buffer).await? > 0 {
            while let Some(len) = frame_len(&buffer) {
                let command = buffer.split_to(len);
                if !command_name(&command).eq_ignore_ascii_case(b"HELLO") {
                    to.write_all(&command).await?;
                    passed += 1;
                    continue;
                }
                self.wait_for(passed).await;
                let Some(reply) = self.refusal.reply() else {
                    return Ok(());
                };
                self.to_client
                    .lock()
                    .await
                    .write_all(reply.as_bytes())
                    .await?;
            }
        }
        Ok(())
    }

    async fn replies(&self, mut from: ReadHalf<'_>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        while from.read_buf(&mut buffer).await? > 0 {
            while let Some(len) = frame_len(&buffer) {
                let reply = buffer.split_to(len);
                self.to_client.lock().await.write_all(&reply).await?;
                self.replies.fetch_add(1, SeqCst);
                self.replied.notify_one();
            }
        }
        Ok(())
    }

    async fn wait_for(&self, commands: u64) {
        while self.replies.load(SeqCst) < commands {
            self.replied.notified().await;
        }
    }
}
