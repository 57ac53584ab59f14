//! Reads a response's body for its record.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use layer_http::{BodyCopy, BoxError};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use crate::body::{Resumed, Sent, with};

/// A response's body after an attempt to read it without waiting.
pub(super) enum Captured<B> {
    /// All of it was there.
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer than the limit.
    TooLong(Resumed<B>),
    /// It broke off.
    Broken(Resumed<B>),
    /// More is to come. The client gets it from the first of these, while the second copies it.
    Streaming(Resumed<B>, Box<Streaming<B>>),
}

/// A body that is passed on to its client as it comes, and copied for the record.
///
/// A client that leaves does not stop it, and one that is slow does not hold it up.
pub(super) struct Streaming<B> {
    body: Pin<Box<B>>,
    copy: BodyCopy,
    limit: usize,
    sender: UnboundedSender<Sent<B>>,
    /// The last frame, if the body says that it is the last: the client does not have it before the record is written, since
    /// it may repeat its request then.
    last: Option<Frame<Bytes>>,
}

/// The end of a body that was copied.
pub(super) enum Copied {
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    /// It is longer than the limit, or took too long.
    TooLong,
    /// It broke off.
    Broken(BoxError),
}

/// Reads as much of a response's body as is there without waiting, up to `limit` bytes.
pub(super) async fn capture<B>(body: B, limit: usize) -> Captured<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Captured::TooLong(Resumed::whole(body));
    }
    let mut body = Box::pin(body);
    let mut frames = VecDeque::new();
    let mut length = 0;
    let end = poll_fn(|cx| {
        Poll::Ready(read_ready(
            body.as_mut(),
            cx,
            &mut frames,
            &mut length,
            limit,
        ))
    });
    match end.await {
        // ## Reading => Whole
        Ready::End => {
            let mut copy = BodyCopy::default();
            frames.iter().for_each(|frame| copy.add_copy(frame));
            let (data, trailers) = copy.joined();
            Captured::Whole { data, trailers }
        }
        // ## Reading => Too long
        Ready::TooLong => Captured::TooLong(Resumed::after(frames, body)),
        // ## Reading => Broken
        Ready::Broken(error) => Captured::Broken(Resumed::broken(frames, error)),
        // ## Reading => Streaming
        Ready::Pending => {
            let (resumed, streaming) = Streaming::new(body, frames, limit);
            Captured::Streaming(resumed, Box::new(streaming))
        }
    }
}

enum Ready {
    End,
    TooLong,
    Broken(BoxError),
    /// The next frame is not there yet.
    Pending,
}

fn read_ready<B>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
    frames: &mut VecDeque<Frame<Bytes>>,
    length: &mut usize,
    limit: usize,
) -> Ready
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    loop {
        match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                *length += frame.data_ref().map_or(0, Bytes::len);
                frames.push_back(frame);
                if *length > limit {
                    return Ready::TooLong;
                }
            }
            Poll::Ready(Some(Err(error))) => return Ready::Broken(error.into()),
            Poll::Ready(None) => return Ready::End,
            Poll::Pending => return Ready::Pending,
        }
    }
}

impl<B> Streaming<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn new(body: Pin<Box<B>>, frames: VecDeque<Frame<Bytes>>, limit: usize) -> (Resumed<B>, Self) {
        let mut copy = BodyCopy::default();
        frames.iter().for_each(|frame| copy.add_copy(frame));
        let size = with(&body.size_hint(), copy.len() as u64);
        let (sender, resumed) = Resumed::copied(size);
        let streaming = Self {
            body,
            copy,
            limit,
            sender,
            last: None,
        };
        frames
            .into_iter()
            .for_each(|frame| streaming.send(Sent::Frame(frame)));
        (resumed, streaming)
    }

    /// Passes the body on and copies it, until its end, the limit, or the time `until`.
    pub(super) async fn pass_on(&mut self, until: Instant) -> Copied {
        loop {
            match timeout_at(until, self.body.frame()).await {
                // ## Streaming => (Streaming | Whole | Too long)
                Ok(Some(Ok(frame))) => {
                    self.copy.add_copy(&frame);
                    if self.copy.len() > self.limit {
                        self.send(Sent::Frame(frame));
                        return Copied::TooLong;
                    }
                    if self.body.is_end_stream() {
                        self.last = Some(frame);
                        return self.whole();
                    }
                    self.send(Sent::Frame(frame));
                }
                // ## Streaming => Broken
                Ok(Some(Err(error))) => return Copied::Broken(error.into()),
                // ## Streaming => Whole
                Ok(None) => return self.whole(),
                // ## Streaming => Too long: the time is over.
                Err(_) => return Copied::TooLong,
            }
        }
    }

    fn whole(&mut self) -> Copied {
        let (data, trailers) = mem::take(&mut self.copy).joined();
        Copied::Whole { data, trailers }
    }

    /// Gives the client the end of its body. The record is written by then.
    pub(super) fn end(mut self) {
        if let Some(frame) = self.last.take() {
            self.send(Sent::Frame(frame));
        }
        self.send(Sent::End);
    }

    /// Gives the client the rest of a body that is not copied any more.
    pub(super) fn hand_over(self) {
        let Self { body, sender, .. } = self;
        let _ = sender.send(Sent::Rest(body));
    }

    /// Ends the body as it broke off, or panicked.
    pub(super) fn break_off(self, end: Sent<B>) {
        self.send(end);
    }

    fn send(&self, sent: Sent<B>) {
        // A client that has left misses it.
        let _ = self.sender.send(sent);
    }
}

#[cfg(test)]
mod tests;
