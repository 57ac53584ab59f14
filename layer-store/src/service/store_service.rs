use std::{
    sync::Arc,
    task::{self, Poll},
};

use tower_service::Service;

use super::{future::ResponseFuture, request::StoreRequest};
use crate::{Reply, Store, StoreError};

/// A `tower::Service` of [`StoreRequest`]s over a store. It is always ready. Clones share the store.
///
/// ```
/// use layer_store::{Context, MemoryStore, Op, service::{StoreRequest, StoreService}};
/// use tower::ServiceExt;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let service = StoreService::new(MemoryStore::new());
/// let request = StoreRequest::new(&Op::Ping, Context::new("example"));
/// service.oneshot(request).await?.into_pong()?;
/// # Ok::<_, layer_store::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct StoreService<T> {
    store: Arc<T>,
}

impl<T: Store> StoreService<T> {
    /// Makes a service over `store`.
    pub fn new(store: T) -> Self {
        Self {
            store: Arc::new(store),
        }
    }
}

impl<T> Clone for StoreService<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
        }
    }
}

impl<T: Store> Service<StoreRequest> for StoreService<T> {
    type Response = Reply;
    type Error = StoreError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: StoreRequest) -> ResponseFuture {
        match request.with_op(|op| self.store.call_now(op, request.context())) {
            Some(reply) => ResponseFuture::replied(reply),
            None => {
                let store = self.store.clone();
                ResponseFuture::calling(async move { request.send(&*store).await })
            }
        }
    }
}
