use http::StatusCode;

/// What a handler says of its run, in its response's extensions.
///
/// In axum: `(Extension(RunOutcome::NotExecuted), StatusCode::CONFLICT)`. It overrules what the mode would make of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunOutcome {
    /// Nothing was done: the next request with that key runs.
    NotExecuted,
    /// It was done: the response is kept whatever its status.
    Executed,
}

/// Why an [`IdempotencyLayer`](crate::IdempotencyLayer) answered itself: in the response's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: no `Idempotency-Key`.
    KeyMissing,
    /// 400: two of them, or one that is too long or not visible ASCII.
    KeyInvalid,
    /// 422: the key came with another request before.
    KeyReused,
    /// 409 with `Retry-After`: that request is running.
    InProgress,
    /// 409: that request was begun, and what became of it is not known.
    OutcomeUnknown,
    /// 409: that request is done; its response was too long to be kept.
    BodyNotKept {
        /// The status of the first response.
        status: StatusCode,
    },
    /// 413: the request's body is longer than the layer reads.
    BodyTooLarge,
    /// 400: the request's body broke off.
    BodyUnreadable,
    /// 500: the scope names nobody and no peer address is known, so that clients might be given each other's responses.
    ClientUnknown,
    /// 503: nobody can say whether the request was handled before. It was not now.
    StoreUnavailable,
}
