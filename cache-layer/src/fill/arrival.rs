//! The body of a response on its way into the buffer, and from there to its clients and into the store.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use layer_http::BoxError;
use tokio::time::{Instant, Sleep};

use super::commit::Fill;
use crate::{
    body::buffer::{FillBuffer, Growth},
    grpc_calls::reply::CallReply,
};

/// A response whose body is on its way.
pub(super) struct Arriving {
    pub(super) buffer: Arc<FillBuffer>,
    /// `None`: it is passing, and will not be stored.
    pub(super) fill: Option<Fill>,
    /// The part of the reply to a call that is known. `None`: it is a response of HTTP.
    pub(super) call: Option<CallReply>,
    /// That it has to have to be stored, if it is known.
    pub(super) length: Option<u64>,
    /// The end of the fill. While it is passing, the next look for a reader that holds others up.
    pub(super) timer: Pin<Box<Sleep>>,
    pub(super) outlives_clients: bool,
}

/// The next event in the life of a body.
enum Event {
    Frame(Option<Result<Frame<Bytes>, BoxError>>),
    TooLong,
    /// Nobody reads it, and it will not be stored.
    Deserted,
}

impl Arriving {
    /// Drives the body to its end.
    pub(super) async fn drive<B>(mut self, body: B)
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body);
        loop {
            let event = poll_fn(|cx| self.poll_event(body.as_mut(), cx)).await;
            match event {
                Event::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push(data),
                    Err(frame) => return self.finish(frame.into_trailers().ok()).await,
                },
                // ## (Sharing | Passing) => end. The leader is dropped, and the next request calls the handler.
                Event::Frame(Some(Err(error))) => return self.buffer.break_off(error),
                Event::Frame(None) => return self.finish(None).await,
                Event::TooLong => self.pass("too-long"),
                Event::Deserted => return,
            }
        }
    }

    fn poll_event<B>(&mut self, body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Event>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let is_passing = self.fill.is_none();
        if is_passing && !ready!(self.poll_room(cx)) {
            return Poll::Ready(Event::Deserted);
        }
        // Before the timer: what has arrived in time is stored, however late this task is.
        if let Poll::Ready(frame) = body.poll_frame(cx) {
            let frame = frame.map(|frame| frame.map_err(Into::into));
            return Poll::Ready(Event::Frame(frame));
        }
        if !is_passing && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::TooLong);
        }
        let may_be_deserted = is_passing || !self.outlives_clients;
        if may_be_deserted && self.buffer.poll_unread(cx).is_ready() {
            return Poll::Ready(Event::Deserted);
        }
        Poll::Pending
    }

    /// Waits until a reader needs a frame, and cuts off those that hold it up for too long.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if let Poll::Ready(is_read) = self.buffer.poll_room(cx) {
                return Poll::Ready(is_read);
            }
            ready!(self.timer.as_mut().poll(cx));
            self.buffer.cut_stalled();
            self.timer.as_mut().reset(Instant::now() + LOOK);
        }
    }

    fn push(&mut self, data: Bytes) {
        let is_unary = self.call.as_mut().is_none_or(|call| call.add(&data));
        match self.buffer.push(data) {
            Growth::TooLarge => self.pass("too-large"),
            Growth::Kept if !is_unary => self.pass("streaming"),
            Growth::Kept | Growth::Passed => {}
        }
    }

    /// ## Sharing => Passing
    ///
    /// The readers of the body read on. Nobody joins any more, and the next requests do not queue up.
    fn pass(&mut self, reason: &'static str) {
        self.buffer.pass();
        if let Some(fill) = self.fill.take() {
            fill.give_up(reason);
        }
        self.timer.as_mut().reset(Instant::now() + LOOK);
    }

    /// ## Sharing => Committing
    ///
    /// The readers have all of it before the store has.
    async fn finish(mut self, trailers: Option<HeaderMap>) {
        let length = self.buffer.len();
        let is_whole = self.length.is_none_or(|stated| stated == length);
        let frames = self.buffer.finish(trailers.clone());
        if let Some(call) = self.call
            && let Some(fill) = &self.fill
        {
            // ## Sharing => end
            // Those who wait for the call make their own, and the next one may be stored.
            if !is_whole || !call.is_success(trailers.as_ref()) {
                if let Some(fill) = self.fill.take() {
                    fill.not_shared();
                }
                return;
            }
            fill.share(&self.buffer);
        }
        if let (Some(frames), Some(fill), true) = (frames, self.fill.take(), is_whole) {
            fill.commit(&frames, trailers.unwrap_or_default()).await;
        }
    }
}

impl Drop for Arriving {
    /// After a panic of the body, or the end of the runtime. After any other end it changes nothing.
    fn drop(&mut self) {
        self.buffer
            .break_off("the handler's body panicked, or the runtime ended".into());
    }
}

/// The time between two looks for a reader that holds others up.
const LOOK: Duration = Duration::from_secs(1);
