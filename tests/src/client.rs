use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// An HTTP/1.1 connection, closed when it is dropped. Dropped during a request, it is a client that leaves.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    connection: JoinHandle<()>,
}

impl Client {
    /// Connects to an address.
    ///
    /// # Panics
    ///
    /// Panics if nobody listens there, or nobody accepts within a minute.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream =
            stream.unwrap_or_else(|_| panic!("{address} does not accept within {PATIENCE:?}"));
        let stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .expect("a new connection takes a request");
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self {
            sender,
            host: HeaderValue::try_from(address.to_string()).expect("addresses are ASCII"),
            connection,
        }
    }

    /// Sets the `Host` of the requests that follow. By default it is the address.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be the value of a header.
    pub fn set_host(&mut self, host: &str) {
        self.host = HeaderValue::try_from(host).expect("tests write good hosts");
    }

    /// Sends `GET path`.
    ///
    /// # Panics
    ///
    /// Panics if there is no whole response within a minute.
    pub async fn get(&mut self, path: &str) -> Response<Bytes> {
        let request = Request::get(path).body(String::new());
        self.send(request.expect("tests write good paths")).await
    }

    /// Sends `POST path` with a body of JSON.
    ///
    /// # Panics
    ///
    /// Panics if there is no whole response within a minute.
    pub async fn post(&mut self, path: &str, json: impl fmt::Display) -> Response<Bytes> {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(json.to_string());
        self.send(request.expect("tests write good paths")).await
    }

    /// Sends a request, and reads its response to the end.
    ///
    /// # Panics
    ///
    /// Panics if there is no whole response within a minute.
    pub async fn send(&mut self, request: Request<String>) -> Response<Bytes> {
        let mut request = request.map(|text| Full::new(Bytes::from(text)));
        request.headers_mut().insert(HOST, self.host.clone());
        let what = format!("{} {}", request.method(), request.uri());
        let sent = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let bytes = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::from_parts(head, bytes))
        };
        match timeout(PATIENCE, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => panic!("{what}: no response: {error:?}"),
            Err(_) => panic!("{what}: no response within {PATIENCE:?}"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The longest wait for a response. No service takes as long, and a test that waits for ever says nothing.
const PATIENCE: Duration = Duration::from_secs(60);
