//! Asking the handler if a stored response still holds, and using it if the handler fails.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, response};

use crate::{
    body::{buffer::FillBuffer, reader::FillReader},
    call::Received,
    flight::arriving::ArrivingEntry,
    http::validation,
    route::Route,
    stored::entry::{Entry, EntryKind},
};

/// A stored response that may not be sent to a request as it is.
#[derive(Clone, Debug)]
pub(crate) struct StaleEntry {
    pub(crate) entry: Arc<Entry>,
    /// True if the handler is asked whether it still holds.
    pub(crate) is_validated: bool,
    /// The time from the lookup on in which it may be sent if the handler fails. Zero: it may not.
    pub(crate) if_error: Duration,
}

/// The meaning of the handler's response for the stored one.
pub(super) enum Validated<B> {
    /// Another response takes its place, or there was none.
    Replaced(Received<B>),
    /// It holds, with new fields.
    Confirmed(Received<FillReader>),
    /// The handler failed, and the stored response may be sent.
    Failed(Arc<ArrivingEntry>),
    /// The handler confirms another response than was asked for. Nothing can be sent.
    Mistaken,
}

impl StaleEntry {
    /// Makes the request of a validation, if it is one. The client's conditions are left out.
    pub(crate) fn ask(&self, request: &mut HeaderMap) {
        if self.is_validated {
            validation::ask_if_changed(&self.entry.headers, request);
        }
    }

    /// Compares the handler's response with the stored one (RFC 9111, section 4.3.3).
    pub(super) fn compare<B>(&self, route: &Route, received: Received<B>) -> Validated<B> {
        let status = received.parts.status;
        if self.is_validated && status == StatusCode::NOT_MODIFIED {
            return match self.confirmed(route, received.parts, received.delay) {
                Some(confirmed) => Validated::Confirmed(confirmed),
                None => self
                    .unconfirmed()
                    .map_or(Validated::Mistaken, Validated::Failed),
            };
        }
        match validation::is_failure(status)
            .then(|| self.failed())
            .flatten()
        {
            Some(entry) => Validated::Failed(entry),
            None => Validated::Replaced(received),
        }
    }

    /// Returns the stored response if it may be sent although the handler failed.
    pub(super) fn failed(&self) -> Option<Arc<ArrivingEntry>> {
        match self.if_error.is_zero() {
            true => None,
            false => Some(self.as_it_is()),
        }
    }

    /// Returns the stored response if it may be sent although the handler has confirmed another one.
    ///
    /// The handler was asked about this one alone, so it has probably named the wrong validator. The fields of its 304 may
    /// not be taken.
    fn unconfirmed(&self) -> Option<Arc<ArrivingEntry>> {
        match self.entry.head.terms.must_revalidate {
            true => None,
            false => Some(self.as_it_is()),
        }
    }

    fn as_it_is(&self) -> Arc<ArrivingEntry> {
        Arc::new(ArrivingEntry {
            head: self.entry.head.clone(),
            headers: self.entry.headers.clone(),
            body: self.body(),
            handler_failed: true,
        })
    }

    /// Returns true if a response with this status is an error that does not take the place of the stored one: that one is no
    /// error, and may still be sent to others as it is.
    pub(super) fn outlasts(&self, route: &Route, status: StatusCode) -> bool {
        let head = &self.entry.head;
        let EntryKind::Http { status: stored, .. } = head.kind else {
            return false;
        };
        let is_shared = |status| route.settings.shared_error(status).is_some();
        let sent_for = head.freshness.left() + head.terms.while_revalidate;
        is_shared(status) && !is_shared(stored) && head.resident(route.now()) < sent_for
    }

    /// Returns the names of its tags.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.entry.tags.iter().map(|(tag, _)| &**tag)
    }

    /// Makes a whole response of the stored one and a 304. `None`: the 304 is about another one.
    fn confirmed(
        &self,
        route: &Route,
        not_modified: response::Parts,
        delay: Duration,
    ) -> Option<Received<FillReader>> {
        let EntryKind::Http { status, .. } = self.entry.head.kind else {
            return None;
        };
        let stored = &self.entry.headers;
        let headers = validation::update(stored, &not_modified.headers, route.time())?;
        let mut parts = not_modified;
        parts.status = status;
        parts.headers = headers;
        Some(Received {
            parts,
            body: FillReader::begin(&self.body())?,
            delay,
        })
    }

    fn body(&self) -> Arc<FillBuffer> {
        let trailers = &self.entry.trailers;
        let trailers = (!trailers.is_empty()).then(|| trailers.clone());
        FillBuffer::complete(self.entry.body.clone(), trailers)
    }
}
