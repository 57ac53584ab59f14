use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response};
use layer_http::Body;

use super::{
    fingerprint::Fingerprint,
    outcome::IdempotencyRefusal,
    record::{Record, RecordState, RecordedResponse},
};
use crate::metrics::count_idempotent;

/// Marks a response as a replay of the first.
pub(super) static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Returns the value of [`REPLAYED`].
pub(super) const fn is_replayed() -> HeaderValue {
    HeaderValue::from_static("true")
}

/// Responds to a request that has a record already. `None`: the record cannot be read. `is_overdue` decides by the deadline of a
/// run in progress, in Unix ms.
pub(super) fn respond_to_repetition<B>(
    record: Option<Record>,
    fingerprint: Fingerprint,
    is_overdue: impl FnOnce(u64) -> bool,
) -> Result<Response<Body<B>>, IdempotencyRefusal> {
    let Some(record) = record else {
        // A record of another version: all that is known is that a run began.
        tracing::error!("an idempotency record cannot be read");
        return Err(IdempotencyRefusal::OutcomeUnknown);
    };
    if record.run.fingerprint != fingerprint {
        return Err(IdempotencyRefusal::KeyReused);
    }
    match record.state {
        RecordState::Completed(response) => Ok(replay(response)),
        state => Err(refusal_of(&state, is_overdue)),
    }
}

/// Returns the refusal of a repetition whose record has this state, other than `Completed`. See [`respond_to_repetition`].
pub(super) fn refusal_of(
    state: &RecordState,
    is_overdue: impl FnOnce(u64) -> bool,
) -> IdempotencyRefusal {
    match state {
        RecordState::InProgress { deadline } if is_overdue(*deadline) => {
            IdempotencyRefusal::OutcomeUnknown
        }
        RecordState::Claimed | RecordState::InProgress { .. } => IdempotencyRefusal::InProgress,
        RecordState::BodyNotKept { status } => IdempotencyRefusal::BodyNotKept { status: *status },
        RecordState::Unknown | RecordState::Completed(_) => IdempotencyRefusal::OutcomeUnknown,
    }
}

fn replay<B>(recorded: Arc<RecordedResponse>) -> Response<Body<B>> {
    count_idempotent("replayed");
    tracing::debug!(
        status = recorded.status.as_u16(),
        "idempotent request replayed"
    );
    // One that was read from text has no other owner.
    let RecordedResponse {
        status,
        headers,
        content,
    } = Arc::unwrap_or_clone(recorded);
    let mut response = Response::new(Body::own(content));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::idempotency::record::RunId;

    #[test]
    fn each_state_of_a_record_has_one_response() {
        let fingerprint = Fingerprint::read(&[b'f'; 22]).unwrap();
        let other = Fingerprint::read(&[b'g'; 22]).unwrap();
        let run = RunId::new(fingerprint);
        let status = StatusCode::CREATED;
        let refusal = |record: Bytes, fingerprint, now| {
            let record = Record::read(&record);
            respond_to_repetition::<()>(record, fingerprint, |deadline| now >= deadline).err()
        };
        let unknown = Some(IdempotencyRefusal::OutcomeUnknown);
        let in_progress = Some(IdempotencyRefusal::InProgress);
        let not_kept = Some(IdempotencyRefusal::BodyNotKept { status });
        let reused = Some(IdempotencyRefusal::KeyReused);
        assert_eq!(refusal(run.in_progress(7), fingerprint, 6), in_progress);
        assert_eq!(refusal(run.claimed(), fingerprint, u64::MAX), in_progress);
        assert_eq!(refusal(run.in_progress(7), fingerprint, 7), unknown);
        assert_eq!(refusal(run.unknown(), fingerprint, 0), unknown);
        assert_eq!(refusal(Bytes::from_static(b"2"), fingerprint, 0), unknown);
        let record = run.body_not_kept(status);
        assert_eq!(refusal(record, fingerprint, 0), not_kept);
        assert_eq!(refusal(run.in_progress(7), other, 6), reused);
        assert_eq!(refusal(run.unknown(), other, 0), reused);

        let (record, _) = run.completed(status, &HeaderMap::new(), b"a", None);
        assert_eq!(refusal(record.clone(), other, 0), reused);
        assert_eq!(refusal(record.clone(), fingerprint, 0), None);
        let replayed =
            respond_to_repetition::<()>(Record::read(&record), fingerprint, |_| false).unwrap();
        assert_eq!(replayed.status(), status);
        assert_eq!(replayed.headers()["idempotency-replayed"], "true");
    }
}
