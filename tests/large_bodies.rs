//! A body that is far longer than what may be stored: the client gets all of it, and the process holds little of it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use cache_layer::{
    CacheLayer,
    store::{MemoryStore, SharedStore},
};
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, ServiceExt, service_fn};

const FRAME: usize = 64 << 10;
const LIMIT: usize = 1 << 20;

#[tokio::test]
async fn ten_gibibytes_pass_a_limit_of_one_mebibyte_within_the_limit_and_a_frame() {
    let frames = (10 << 30) / FRAME as u64;
    let held = Arc::new(Held::default());
    let counted = held.clone();
    let handler = service_fn(move |_: Request<String>| {
        let held = counted.clone();
        let frames = stream::unfold(0, move |sent| {
            let held = held.clone();
            async move {
                let frame = || Ok::<_, Infallible>(Frame::data(held.bytes()));
                (sent < frames).then(|| (frame(), sent + 1))
            }
        });
        let body = StreamBody::new(Box::pin(frames));
        let response = Response::builder().header("cache-control", "max-age=60");
        let response: Response<StreamBody<_>> = response.body(body).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    let layer = CacheLayer::new(SharedStore::new(MemoryStore::new())).max_body(LIMIT);
    let request = Request::get("/").body(String::new()).unwrap();
    let mut body = layer
        .layer(handler)
        .oneshot(request)
        .await
        .unwrap()
        .into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().unwrap().len() as u64;
    }
    assert_eq!(bytes, frames * FRAME as u64);
    // And the one that the client holds.
    assert!(held.most.load(SeqCst) <= LIMIT + 2 * FRAME, "{held:?}");
    assert_eq!(layer.handle().stats().stored, 0);
}

/// Counts the bytes of frames that exist.
#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Counted(Arc<Held>, Vec<u8>);

impl Held {
    fn bytes(self: &Arc<Self>) -> Bytes {
        let now = self.now.fetch_add(FRAME, SeqCst) + FRAME;
        self.most.fetch_max(now, SeqCst);
        Bytes::from_owner(Counted(self.clone(), vec![b'x'; FRAME]))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(FRAME, SeqCst);
    }
}
