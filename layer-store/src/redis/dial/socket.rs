use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Connects to one address.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    // A port of this machine that nobody listens on may be the one that the system has just given to this socket. It is then
    // connected to itself, and would answer each command with the command.
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    set_options(&socket);
    Ok(socket)
}

/// Sets the options that a connection should have. It works without them, so a system that refuses one is no error.
fn set_options(socket: &TcpStream) {
    // Small commands must not wait for the acknowledgement of earlier ones.
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    // A line that was cut, or a NAT that forgot the connection, shows while nobody calls.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // The same while commands are under way. Without it the system sends them again for a quarter of an hour.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket.set_tcp_notsent_lowat(NOT_SENT);
}

/// The most bytes that wait in the system to be sent. More would only hide how slow a line is, from the deadlines of calls and
/// from those whose turn comes next.
#[cfg(any(target_os = "android", target_os = "linux"))]
const NOT_SENT: u32 = 16 << 10;
/// The silence after which the system asks if the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_PROBES: u32 = 3;
/// The longest time that sent bytes may stay without an acknowledgement.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_that_vanishes_is_noticed_by_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(socket.nodelay().unwrap());
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(10));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(3));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(5)));
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
