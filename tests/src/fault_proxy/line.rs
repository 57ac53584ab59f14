use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

use super::{
    counts::{Counts, Open},
    like_a_network,
    mode::{Direction, Mode},
    pump::{End, Pump},
};

/// Serves one connection of a client to its end.
pub(super) async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    modes: watch::Receiver<Mode>,
    counts: Arc<Counts>,
) {
    let mut server = None;
    let open = Open::accepted(&counts);
    let end = talk(&mut client, &mut server, target, modes, &counts, open).await;
    match end {
        Ok(()) => {}
        Err(End::Reset) => {
            for stream in server.iter().chain([&client]) {
                // One that is closed already cannot be reset.
                let _ = stream.set_zero_linger();
            }
        }
        Err(End::Close) => {
            drop(server);
            let _ = client.shutdown().await;
            // A socket that is closed with bytes unread is reset, and its client may lose what was sent to it before.
            let mut unread = [0; 1024];
            let drain = async { while let Ok(1..) = client.read(&mut unread).await {} };
            let _ = timeout(DRAIN, drain).await;
        }
    }
}

async fn talk(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    target: SocketAddr,
    modes: watch::Receiver<Mode>,
    counts: &Counts,
    open: Open,
) -> Result<(), End> {
    client.set_nodelay(true).map_err(|_gone| End::Reset)?;
    let (mut from_client, to_client) = client.split();
    let mut requests = Pump::new(Direction::Requests, modes.clone(), counts, Some(open));
    requests.wait(&mut from_client).await?;
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        like_a_network(&socket)?;
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = connected.await.map_err(|_refused| End::Close)?;
    let (from_server, to_server) = server.insert(stream).split();
    let replies = Pump::new(Direction::Replies, modes, counts, None);
    tokio::try_join!(
        requests.run(from_client, to_server),
        replies.run(from_server, to_client)
    )?;
    Ok(())
}

/// The longest time that a closed connection waits for its client to close it too.
const DRAIN: Duration = Duration::from_secs(5);
