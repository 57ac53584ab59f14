//! Finds out if a port is for TLS or for plain text, by speaking the other to it.
//!
//! Servers do not say it. Redis closes a TLS port on which it hears plain text, and waits for ever on a plain port on which it
//! hears TLS.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::Place;

/// Returns true if the server answers a TLS handshake.
pub(super) async fn speaks_tls(place: &Place) -> bool {
    // The types of a handshake and of an alert, and the first half of any version (RFC 8446, section 5.1).
    matches!(answer(place, CLIENT_HELLO).await, Some([22 | 21, 3]))
}

/// Returns true if the server answers a command in plain text.
#[cfg(feature = "redis-tls")]
pub(super) async fn speaks_plain(place: &Place) -> bool {
    matches!(answer(place, b"PING\r\n").await, Some([b'+' | b'-', _]))
}

/// Returns the first two bytes of the answer, if one comes soon.
async fn answer(place: &Place, question: &[u8]) -> Option<[u8; 2]> {
    let ask = async {
        let mut stream = place.connect().await.ok()?;
        stream.write_all(question).await.ok()?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    };
    timeout(LIMIT, ask).await.ok().flatten()
}

/// Two round trips to a server that is far away.
const LIMIT: Duration = Duration::from_millis(250);
/// The least that is a ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2): one cipher suite, no compression, and a random of
/// zeros, since nothing is ever encrypted with it.
const CLIENT_HELLO: &[u8; 50] = &{
    let mut bytes = [0; 50];
    let head = [22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    let mut at = 0;
    while at < head.len() {
        bytes[at] = head[at];
        at += 1;
    }
    // After the random and a session without a name: TLS_RSA_WITH_AES_128_CBC_SHA, which every server knows of.
    bytes[45] = 2;
    bytes[47] = 0x2f;
    bytes[48] = 1;
    bytes
};
