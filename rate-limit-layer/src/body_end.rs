use http_body::{Body, Frame};

/// Returns true if a body has ended with what its last poll gave: with its end, with an error, or with a frame after which it says that
/// it has ended. A server does not poll such a body again, and may keep it.
pub(crate) fn has_ended<B: Body>(
    polled: &Option<Result<Frame<B::Data>, B::Error>>,
    body: &B,
) -> bool {
    !matches!(polled, Some(Ok(_))) || body.is_end_stream()
}
