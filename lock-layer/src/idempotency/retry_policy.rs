use http::StatusCode;

use crate::RunOutcome;

/// The meaning of a failure: the one choice that nobody can make for the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryPolicy {
    /// An execution that broke off may have taken effect, and is never repeated.
    AtMostOnce,
    /// An execution that broke off is repeated. The handler can bear that.
    RetrySafe,
}

impl RetryPolicy {
    /// Returns true if a response is kept and replayed from now on, false if the next request with its key runs.
    pub(super) fn keeps(self, status: StatusCode, outcome: Option<RunOutcome>) -> bool {
        match (outcome, self) {
            (Some(RunOutcome::NotExecuted), _) => false,
            (Some(RunOutcome::Executed | RunOutcome::ExecutedNotKept), _) => true,
            (None, Self::AtMostOnce) => !matches!(status.as_u16(), 429 | 503),
            (None, Self::RetrySafe) => {
                !status.is_server_error()
                    && !matches!(status.as_u16(), 401 | 408 | 409 | 423 | 425 | 429)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_kept_by_policy_and_status_unless_the_handler_decides() {
        let kept = |policy: RetryPolicy| {
            (200..600)
                .filter(|&status| {
                    let status = StatusCode::from_u16(status).unwrap();
                    policy.keeps(status, None)
                })
                .collect::<Vec<_>>()
        };
        let at_most_once: Vec<_> = (200..600).filter(|s| ![429, 503].contains(s)).collect();
        assert_eq!(kept(RetryPolicy::AtMostOnce), at_most_once);
        let not_kept = [401, 408, 409, 423, 425, 429];
        let retry_safe: Vec<_> = (200..500).filter(|s| !not_kept.contains(s)).collect();
        assert_eq!(kept(RetryPolicy::RetrySafe), retry_safe);

        for policy in [RetryPolicy::AtMostOnce, RetryPolicy::RetrySafe] {
            for status in [
                StatusCode::OK,
                StatusCode::CONFLICT,
                StatusCode::SERVICE_UNAVAILABLE,
            ] {
                assert!(!policy.keeps(status, Some(RunOutcome::NotExecuted)));
                assert!(policy.keeps(status, Some(RunOutcome::Executed)));
            }
        }
    }
}
