use http::StatusCode;

use crate::RunOutcome;

/// What a failure means: the one choice that nobody can make for the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A run that broke off may have taken effect, and is never repeated.
    AtMostOnce,
    /// A run that broke off is repeated, since the handler bears that.
    RetrySafe,
}

/// What becomes of a run's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The response is replayed from now on.
    Keep,
    /// The next request runs.
    Forget,
}

impl Mode {
    pub(super) fn verdict(self, status: StatusCode, outcome: Option<RunOutcome>) -> Verdict {
        let kept = match (outcome, self) {
            (Some(RunOutcome::NotExecuted), _) => false,
            (Some(RunOutcome::Executed), _) => true,
            (None, Self::AtMostOnce) => !matches!(status.as_u16(), 429 | 503),
            (None, Self::RetrySafe) => {
                !status.is_server_error()
                    && !matches!(status.as_u16(), 401 | 408 | 409 | 423 | 425 | 429)
            }
        };
        match kept {
            true => Verdict::Keep,
            false => Verdict::Forget,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_follows_mode_status_and_the_handlers_word() {
        let kept = |mode: Mode| {
            (200..600)
                .filter(|&status| {
                    let status = StatusCode::from_u16(status).unwrap();
                    mode.verdict(status, None) == Verdict::Keep
                })
                .collect::<Vec<_>>()
        };
        let at_most_once: Vec<_> = (200..600).filter(|s| ![429, 503].contains(s)).collect();
        assert_eq!(kept(Mode::AtMostOnce), at_most_once);
        let not_kept = [401, 408, 409, 423, 425, 429];
        let retry_safe: Vec<_> = (200..500).filter(|s| !not_kept.contains(s)).collect();
        assert_eq!(kept(Mode::RetrySafe), retry_safe);

        for mode in [Mode::AtMostOnce, Mode::RetrySafe] {
            for status in [
                StatusCode::OK,
                StatusCode::CONFLICT,
                StatusCode::SERVICE_UNAVAILABLE,
            ] {
                assert_eq!(
                    mode.verdict(status, Some(RunOutcome::NotExecuted)),
                    Verdict::Forget
                );
                assert_eq!(
                    mode.verdict(status, Some(RunOutcome::Executed)),
                    Verdict::Keep
                );
            }
        }
    }
}
