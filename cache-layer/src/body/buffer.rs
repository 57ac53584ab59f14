use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use layer_http::BoxError;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::budget::FillPermit;

/// The body of a fill, which one task writes and many clients read, each at its own pace.
///
/// It has two modes:
///
/// - **Growing**. Every frame is kept, so that the whole can be stored and a reader can begin at any time. Nobody waits for
///   a reader. The length is bounded.
/// - **Passing**. The body will not be stored: it is too long, or takes too long. Frames that all readers have are dropped,
///   and the next is asked for when a reader needs it. The readers are at most as far apart as the body was long when this
///   mode began, so the fastest waits for the slowest. One that reads nothing for 10 s meanwhile is cut off.
///
/// It goes from growing to passing, and never back.
#[derive(Debug)]
pub(crate) struct FillBuffer(Mutex<State>);

#[derive(Debug)]
struct State {
    /// In bytes: the longest body that is kept whole.
    max: usize,
    is_passing: bool,
    frames: VecDeque<Bytes>,
    /// The number of the first of `frames`, counted from the first of the body.
    first: usize,
    /// The bytes of `frames`.
    held: usize,
    /// The bytes of all frames so far.
    len: u64,
    /// The most bytes that are held while it is passing.
    window: usize,
    end: Option<End>,
    /// A reader's place is its index, for as long as it lives.
    readers: Vec<Option<Place>>,
    /// The task, while it waits for a reader.
    task: Option<Waker>,
    /// `None`: the body was complete from the beginning, and is counted elsewhere.
    permit: Option<FillPermit>,
}

/// How far a reader is.
#[derive(Debug)]
struct Place {
    /// The number of the next frame.
    next: usize,
    /// The time since which it has had something to read and has read nothing.
    behind_since: Instant,
    has_trailers: bool,
    is_cut: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Debug)]
enum End {
    Whole(Option<HeaderMap>),
    Broken(Arc<BoxError>),
}

/// The next part of a body.
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    Broken(Arc<BoxError>),
    /// This reader read nothing for too long while others waited for it.
    Cut,
    End,
}

/// The state of a body after one more frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Growth {
    Kept,
    /// It has become too long, or there is no room for it: it passes from now on.
    TooLarge,
    /// It was passing already.
    Passed,
}

impl FillBuffer {
    /// Makes an empty body of which at most `max` bytes are kept.
    pub(crate) fn new(max: usize, permit: FillPermit) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::new(max, Some(permit)))))
    }

    /// Makes a body that is complete.
    pub(crate) fn complete(body: Bytes, trailers: Option<HeaderMap>) -> Arc<Self> {
        let mut state = State::new(body.len(), None);
        if !body.is_empty() {
            state.append(body);
        }
        state.end = Some(End::Whole(trailers));
        Arc::new(Self(Mutex::new(state)))
    }

    /// Gives one more reader a place before the first frame. `None`: that frame is not there any more.
    pub(super) fn join(&self) -> Option<usize> {
        let mut state = self.0.lock();
        if state.is_passing {
            return None;
        }
        let place = Place {
            next: 0,
            behind_since: Instant::now(),
            has_trailers: false,
            is_cut: false,
            waker: None,
        };
        let free = state.readers.iter().position(Option::is_none);
        let at = free.unwrap_or(state.readers.len());
        match free {
            Some(at) => state.readers[at] = Some(place),
            None => state.readers.push(Some(place)),
        }
        Some(at)
    }

    /// Returns the body if it is complete and in one piece, as an object is.
    pub(crate) fn object(&self) -> Option<Bytes> {
        let state = self.0.lock();
        match state.end {
            Some(End::Whole(_)) if !state.is_passing => {
                Some(state.frames.front().cloned().unwrap_or_default())
            }
            _ => None,
        }
    }

    // --- What the task does ---

    /// Appends a frame.
    pub(crate) fn push(&self, frame: Bytes) -> Growth {
        let mut state = self.0.lock();
        let growth = if state.is_passing {
            Growth::Passed
        } else if state.has_room_for(frame.len()) {
            Growth::Kept
        } else {
            Growth::TooLarge
        };
        state.append(frame);
        if growth == Growth::TooLarge {
            state.pass();
        }
        let wakers = state.readers_to_wake();
        drop(state);
        wake(wakers);
        growth
    }

    /// Passes the body on from now on, without keeping it.
    pub(crate) fn pass(&self) {
        self.0.lock().pass();
    }

    /// Ends the body. Returns its frames if all were kept.
    pub(crate) fn finish(&self, trailers: Option<HeaderMap>) -> Option<Vec<Bytes>> {
        self.end(End::Whole(trailers));
        let state = self.0.lock();
        (!state.is_passing).then(|| state.frames.iter().cloned().collect())
    }

    /// Breaks the body off.
    pub(crate) fn break_off(&self, error: BoxError) {
        self.end(End::Broken(Arc::new(error)));
    }

    fn end(&self, end: End) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        let wakers = state.readers_to_wake();
        drop(state);
        wake(wakers);
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.lock().len
    }

    /// Waits until there is room for a frame and somebody who needs it. Returns false when nobody reads any more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock();
        if state.has_no_readers() {
            return Poll::Ready(false);
        }
        if !state.is_passing || state.has_room_to_pass() {
            return Poll::Ready(true);
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until nobody reads any more.
    pub(crate) fn poll_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.has_no_readers() {
            return Poll::Ready(());
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Cuts off the readers for which others have waited for 10 s.
    pub(crate) fn cut_stalled(&self) {
        let mut state = self.0.lock();
        let end = state.end_number();
        let mut readers = state.readers.iter().flatten();
        if state.has_room_to_pass() || readers.all(|place| place.next < end) {
            return;
        }
        for place in state.readers.iter_mut().flatten() {
            place.is_cut |= place.next < end && place.behind_since.elapsed() >= PATIENCE;
        }
        state.trim();
        let wakers = state.readers_to_wake();
        drop(state);
        wake(wakers);
    }

    // --- What a reader does ---

    pub(super) fn poll_part(&self, at: usize, cx: &mut Context<'_>) -> Poll<Part> {
        let mut state = self.0.lock();
        let part = ready!(state.poll_part(at, cx));
        let task = state.take_task();
        drop(state);
        wake(task);
        Poll::Ready(part)
    }

    /// Returns true if a reader that has read this far has nothing more to get.
    pub(super) fn is_read(&self, at: usize) -> bool {
        let state = self.0.lock();
        let end = state.end_number();
        let is_last = state.readers[at].as_ref().is_some_and(|p| p.next == end);
        is_last && matches!(state.end, Some(End::Whole(None)))
    }

    /// Returns the length of the body if it is complete, and has no trailers: a server sends none after a stated length.
    pub(super) fn whole_len(&self) -> Option<u64> {
        let state = self.0.lock();
        matches!(state.end, Some(End::Whole(None))).then_some(state.len)
    }

    pub(super) fn leave(&self, at: usize) {
        let mut state = self.0.lock();
        state.readers[at] = None;
        state.trim();
        let task = state.take_task();
        drop(state);
        wake(task);
    }
}

impl State {
    const fn new(max: usize, permit: Option<FillPermit>) -> Self {
        Self {
            max,
            is_passing: false,
            frames: VecDeque::new(),
            first: 0,
            held: 0,
            len: 0,
            window: 0,
            end: None,
            readers: Vec::new(),
            task: None,
            permit,
        }
    }

    /// Takes room for a frame that is kept. Returns false if there is none.
    fn has_room_for(&mut self, bytes: usize) -> bool {
        let fits = self
            .held
            .checked_add(bytes)
            .is_some_and(|sum| sum <= self.max);
        fits && self.permit.as_mut().is_none_or(|permit| permit.take(bytes))
    }

    fn append(&mut self, frame: Bytes) {
        let end = self.end_number();
        for place in self.readers.iter_mut().flatten() {
            if place.next == end {
                place.behind_since = Instant::now();
            }
        }
        self.held += frame.len();
        self.len += frame.len() as u64;
        self.frames.push_back(frame);
    }

    /// Returns the number of the next frame that the task appends.
    fn end_number(&self) -> usize {
        self.first + self.frames.len()
    }

    fn pass(&mut self) {
        if !self.is_passing {
            self.is_passing = true;
            self.window = self.held;
            self.trim();
        }
    }

    /// Drops the frames that no reader needs any more.
    fn trim(&mut self) {
        if !self.is_passing {
            return;
        }
        let end = self.end_number();
        let open = self.readers.iter().flatten().filter(|place| !place.is_cut);
        let slowest = open.map(|place| place.next).min().unwrap_or(end);
        while self.first < slowest
            && let Some(frame) = self.frames.pop_front()
        {
            self.first += 1;
            self.held -= frame.len();
            if let Some(permit) = &mut self.permit {
                permit.give_back(frame.len());
            }
        }
    }

    fn has_no_readers(&self) -> bool {
        self.readers.iter().flatten().all(|place| place.is_cut)
    }

    /// Returns true if a reader waits for the next frame, and none is so far behind that it has to wait on.
    fn has_room_to_pass(&self) -> bool {
        let end = self.end_number();
        let mut open = self.readers.iter().flatten().filter(|place| !place.is_cut);
        open.any(|place| place.next == end) && (self.frames.is_empty() || self.held <= self.window)
    }

    fn poll_part(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<Part> {
        let Some(place) = &mut self.readers[at] else {
            return Poll::Ready(Part::End);
        };
        if place.is_cut {
            return Poll::Ready(Part::Cut);
        }
        // Trimming keeps what this reader has not read.
        if let Some(frame) = self.frames.get(place.next - self.first) {
            let frame = frame.clone();
            place.next += 1;
            place.behind_since = Instant::now();
            self.trim();
            return Poll::Ready(Part::Data(frame));
        }
        match &self.end {
            None => {
                place.waker = Some(cx.waker().clone());
                // It may be the one for whom the next frame is asked for.
                wake(self.take_task());
                Poll::Pending
            }
            Some(End::Broken(error)) => Poll::Ready(Part::Broken(error.clone())),
            Some(End::Whole(Some(trailers))) if !place.has_trailers => {
                place.has_trailers = true;
                Poll::Ready(Part::Trailers(trailers.clone()))
            }
            Some(End::Whole(_)) => Poll::Ready(Part::End),
        }
    }

    fn readers_to_wake(&mut self) -> Vec<Waker> {
        let places = self.readers.iter_mut().flatten();
        places.filter_map(|place| place.waker.take()).collect()
    }

    const fn take_task(&mut self) -> Option<Waker> {
        self.task.take()
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

/// The time for which a reader that reads nothing may hold up others.
const PATIENCE: Duration = Duration::from_secs(10);
