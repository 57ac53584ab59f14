use http::{HeaderName, HeaderValue, Response};
use layer_http::{Body, Content};

use super::run::Run;
use crate::{
    Refusal,
    record::{Record, State, Stored},
};

/// Says that a response is a repetition of the first.
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a request is answered whose record stands already. None: one that cannot be read.
pub(super) fn answer<B>(record: Option<Record>, run: &Run) -> Response<Body<B>> {
    let Some(record) = record else {
        // Of another version: somebody ran it, which is all that is known.
        tracing::error!("an idempotency record cannot be read");
        return Refusal::OutcomeUnknown.into_response();
    };
    if !run.is_same_request(&record.stamp) {
        return Refusal::KeyReused.into_response();
    }
    match record.state {
        State::Completed(stored) => replay(*stored),
        State::InProgress { deadline } if run.now() < deadline => {
            Refusal::InProgress.into_response()
        }
        State::InProgress { .. } | State::Unknown => Refusal::OutcomeUnknown.into_response(),
        State::BodyNotKept { status } => Refusal::BodyNotKept { status }.into_response(),
    }
}

fn replay<B>(stored: Stored) -> Response<Body<B>> {
    let content = Content::new(stored.body).with_trailers(stored.trailers.unwrap_or_default());
    let mut response = Response::new(Body::own(content));
    *response.status_mut() = stored.status;
    *response.headers_mut() = stored.headers;
    response
        .headers_mut()
        .insert(&REPLAYED, HeaderValue::from_static("true"));
    response
}
