use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;

/// The client's side of a connection that may become a tunnel (RFC 9110, section 7.8).
pub(crate) struct Tunnel {
    client: OnUpgrade,
    protocol: HeaderValue,
}

impl Tunnel {
    /// Takes the client's side. `None`: the request does not ask for another protocol.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        let protocol = request.headers().get(UPGRADE)?.clone();
        Some(Self {
            client: on(request),
            protocol,
        })
    }

    /// Writes the fields of the connection, which are not forwarded by themselves.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        write(headers, self.protocol.clone());
    }

    /// Joins both sides if the origin has agreed. `protocol` is the one that it has named.
    pub(crate) fn join<B>(self, response: &mut Response<B>, protocol: Option<HeaderValue>) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        write(response.headers_mut(), protocol.unwrap_or(self.protocol));
        let origin = on(response);
        tokio::spawn(async move {
            let (Ok(client), Ok(origin)) = tokio::join!(self.client, origin) else {
                return;
            };
            let (mut client, mut origin) = (TokioIo::new(client), TokioIo::new(origin));
            // It ends when one of them leaves.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
        });
    }
}

fn write(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}
