use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An HTTP/1.1 origin that counts its requests.
pub(crate) async fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("some port is free");
    let address = listener.local_addr().expect("it is bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, counter.clone()));
        }
    });
    (address, asked)
}

async fn answer(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&chunk[..read]),
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        asked.fetch_add(1, SeqCst);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let language = text
            .split("accept-language: ")
            .nth(1)
            .and_then(|rest| rest.get(..2));
        let host = text
            .split("\r\nhost: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        let (lines, body) = match path {
            "/host" => ("cache-control: max-age=60\r\n", host.unwrap_or_default()),
            "/plain" => ("cache-control: max-age=60\r\n", "plain"),
            "/varies" => (
                "cache-control: max-age=60\r\nvary: accept-language\r\n",
                language.unwrap_or_default(),
            ),
            "/slow" => ("cache-control: max-age=60\r\n", "slow"),
            _ => ("", "silent"),
        };
        if path == "/slow" {
            // Longer than a busy machine takes to ask at all processes: one that looks just before the page is stored, and claims the
            // lease just after, calls once more.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{lines}connection: x-hop\r\nx-hop: 1\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        request.clear();
    }
}
