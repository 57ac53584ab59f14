//! The answer to the client of a handler call, and what becomes of the response beside it.

use std::{any::Any, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::CONTENT_LENGTH};
use layer_http::{Body, BoxError, grpc::ClientProtocol};
use tokio::{sync::oneshot, time::Sleep};

use super::{arrival::Arriving, decide::decide, validate::StaleEntry};
use crate::{
    body::{
        CacheResponse, HandlerBody, budget::FillPermit, buffer::FillBuffer, reader::FillReader,
    },
    call::{Received, pass_on},
    flight::arriving::ArrivingEntry,
    grpc_calls::reply::CallReply,
    http::{
        cache_status::{CacheStatus, Detail, Fwd},
        date,
        request::CacheRequest,
    },
    join::PendingFill,
    plan::JoinedResponse,
    respond::{joined_response, mistaken, or_not_modified},
    route::Route,
};

/// The end of a call for its client: a response, the handler's error, or its panic.
pub(super) type Answer<B, E> = Result<Result<CacheResponse<B>, E>, Panic>;
type Panic = Box<dyn Any + Send>;

/// A call whose handler has answered. Its own client has not yet.
pub(super) struct Answering<B, E> {
    pub(super) route: Arc<Route>,
    pub(super) request: CacheRequest,
    /// Those of the client.
    pub(super) fields: HeaderMap,
    pub(super) fwd: Fwd,
    pub(super) pending: PendingFill,
    pub(super) permit: FillPermit,
    /// The end of the fill.
    pub(super) timer: Pin<Box<Sleep>>,
    pub(super) outlives_clients: bool,
    pub(super) answer: oneshot::Sender<Answer<B, E>>,
}

impl<B, E> Answering<B, E>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// Sends the handler's response, and stores it if that is allowed.
    pub(super) async fn replace(self, received: Received<B>) {
        let fwd = self.fwd;
        let stored = CacheStatus::Stored { fwd };
        self.store_or_pass_on(received, &[], stored, HandlerBody::passed)
            .await;
    }

    /// Sends an error that is not stored, as what is stored may still be sent.
    pub(super) fn pass(self, received: Received<B>) {
        let status = CacheStatus::Forwarded {
            fwd: self.fwd,
            detail: Some(Detail::StatusCode),
        };
        let response = pass_on(&self.route, status, received);
        self.pending.not_shared();
        let response = response.map(|body| Body::inner(HandlerBody::passed(body)));
        let _ = self.answer.send(Ok(Ok(response)));
    }

    /// Sends the stored response that the handler has confirmed, and stores it with its new fields.
    pub(super) async fn confirm(self, received: Received<FillReader>, stale: &StaleEntry) {
        let fwd = self.fwd;
        let confirmed = CacheStatus::Confirmed { fwd };
        // The lookup of this request has verified them.
        let tags: Vec<_> = stale.tags().map(Into::into).collect();
        self.store_or_pass_on(received, &tags, confirmed, HandlerBody::read)
            .await;
    }

    /// Sends a stored response, as the handler has failed. Those who wait may have it too.
    pub(super) fn send_stale(self, entry: Arc<ArrivingEntry>) {
        let pending = &self.pending;
        pending
            .leader
            .share(entry.clone(), pending.snapshot.clone());
        let Some(body) = FillReader::begin(&entry.body) else {
            return;
        };
        let now = self.route.now();
        let over = entry.head.over(now);
        let resident = entry.head.resident(now);
        let joined = JoinedResponse {
            entry,
            body,
            resident,
        };
        let status = CacheStatus::Stale { over };
        let response = joined_response(&self.route.settings, joined, &self.fields, status);
        self.send(response);
    }

    /// Sends the handler's error.
    pub(super) fn fail(self, error: E) {
        let _ = self.answer.send(Ok(Err(error)));
    }

    /// Has the client's future panic as the handler did.
    pub(super) fn panic(self, panic: Panic) {
        let _ = self.answer.send(Err(panic));
    }

    /// Sends 502: the handler has confirmed a response that nobody has.
    pub(super) fn refuse(self) {
        let protocol = ClientProtocol::of(&self.fields);
        let response = mistaken(&self.route.settings, self.fwd, &protocol);
        self.send(response);
    }

    async fn store_or_pass_on<R>(
        self,
        received: Received<R>,
        tags: &[Box<str>],
        stored: CacheStatus,
        body_of: fn(R) -> HandlerBody<B>,
    ) where
        R: http_body::Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        let Self {
            route,
            request,
            fields,
            fwd,
            pending,
            permit,
            timer,
            outlives_clients,
            answer,
        } = self;
        let mut fill = match decide(&route, &request, &fields, pending, &received) {
            Ok(fill) => fill,
            Err(detail) => {
                let detail = Some(detail);
                let status = CacheStatus::Forwarded { fwd, detail };
                let response =
                    pass_on(&route, status, received).map(|body| Body::inner(body_of(body)));
                let response = or_not_modified(&fields, route.time(), response);
                let _ = answer.send(Ok(Ok(response)));
                return;
            }
        };
        fill.tags.extend_from_slice(tags);

        // ## Calling => Sharing
        let (mut parts, body) = (received.parts, received.body);
        let buffer = FillBuffer::new(route.settings.max_body, permit);
        if body.is_end_stream() {
            // An empty body ends with its head.
            buffer.finish(None);
        }
        // Whoever waits for a call gets the whole reply, or none: its status comes last.
        let call = match request.is_call {
            true => CallReply::of_head(&parts.headers),
            false => None,
        };
        if call.is_none() {
            fill.share(&buffer);
        }
        route.settings.mark(&mut parts.headers, stored);
        let received_at = fill.head.received_at();
        date::record(&mut parts.headers, received_at);
        let length = body.size_hint().exact();
        let mut needs_no_body = false;
        if let Some(reader) = FillReader::begin(&buffer) {
            let body = Body::inner(HandlerBody::read(reader.stating(length)));
            let response = Response::from_parts(parts, body);
            let response = or_not_modified(&fields, received_at, response);
            needs_no_body = response.status() == StatusCode::NOT_MODIFIED;
            // A client that has left drops its reader with it.
            let _ = answer.send(Ok(Ok(response)));
        }
        let arriving = Arriving {
            length: stated_length(&fill.headers).or(length),
            buffer,
            fill: Some(fill),
            call,
            timer,
            // A client that needs no body has not left.
            outlives_clients: needs_no_body || outlives_clients,
        };
        arriving.drive(body).await;
    }

    fn send(self, response: CacheResponse<B>) {
        // Its client may have left.
        let _ = self.answer.send(Ok(Ok(response)));
    }
}

/// Returns the length that the response states.
fn stated_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}
