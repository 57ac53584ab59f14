use http::{StatusCode, response::Parts};
use layer_http::grpc::{CallOutcome, Code};

use crate::{RunOutcome, doctor::StoreUse};

/// The meaning of a failure: the one choice that nobody can make for the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryPolicy {
    /// An execution that broke off may have taken effect, and is never repeated.
    AtMostOnce,
    /// An execution that broke off is repeated. The handler can bear that.
    RetrySafe,
}

/// The part of a response that tells how its run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// The handler has told.
    Told(RunOutcome),
    /// A status of HTTP.
    Status(StatusCode),
    /// The code of a call of gRPC.
    Code(Code),
    /// The trailers will tell, when the body has ended.
    InTrailers,
    /// The last frame of the body will tell: gRPC-Web.
    InBody,
}

impl RunEnd {
    /// Reads the head of a response.
    pub(super) fn of_head(parts: &Parts) -> Self {
        if let Some(told) = parts.extensions.get() {
            return Self::Told(*told);
        }
        // A call that reached its handler has the status 200, whatever it came to.
        match CallOutcome::of_head(&parts.headers) {
            CallOutcome::Ended(code) if parts.status == StatusCode::OK => Self::Code(code),
            CallOutcome::InTrailers if parts.status == StatusCode::OK => Self::InTrailers,
            CallOutcome::InBody if parts.status == StatusCode::OK => Self::InBody,
            _ => Self::Status(parts.status),
        }
    }
}

impl RetryPolicy {
    /// Returns the use that records under this policy make of their store.
    pub(super) fn store_use(self) -> StoreUse {
        match self {
            Self::AtMostOnce => StoreUse::AtMostOnce,
            Self::RetrySafe => StoreUse::RetrySafe,
        }
    }

    /// Returns true if a response is kept and replayed from now on, false if the next request with its key runs.
    ///
    /// One whose trailers or body will tell is kept for now.
    pub(super) fn keeps(self, end: RunEnd) -> bool {
        match (end, self) {
            (RunEnd::Told(RunOutcome::NotExecuted), _) => false,
            (RunEnd::Told(RunOutcome::Executed | RunOutcome::ExecutedNotKept), _) => true,
            (RunEnd::InTrailers | RunEnd::InBody, _) => true,
            (RunEnd::Status(status), Self::AtMostOnce) => !matches!(status.as_u16(), 429 | 503),
            (RunEnd::Status(status), Self::RetrySafe) => {
                !status.is_server_error()
                    && !matches!(status.as_u16(), 401 | 408 | 409 | 423 | 425 | 429)
            }
            (RunEnd::Code(code), Self::AtMostOnce) => {
                !matches!(code, Code::ResourceExhausted | Code::Unavailable)
            }
            (RunEnd::Code(code), Self::RetrySafe) => is_lasting(code),
        }
    }
}

/// Returns true for a code that another run of the same call would end with: its success, and an error that is the caller's.
const fn is_lasting(code: Code) -> bool {
    match code {
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange => true,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
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
                    policy.keeps(RunEnd::Status(status))
                })
                .collect::<Vec<_>>()
        };
        let at_most_once: Vec<_> = (200..600).filter(|s| ![429, 503].contains(s)).collect();
        assert_eq!(kept(RetryPolicy::AtMostOnce), at_most_once);
        let not_kept = [401, 408, 409, 423, 425, 429];
        let retry_safe: Vec<_> = (200..500).filter(|s| !not_kept.contains(s)).collect();
        assert_eq!(kept(RetryPolicy::RetrySafe), retry_safe);

        for policy in [RetryPolicy::AtMostOnce, RetryPolicy::RetrySafe] {
            assert!(!policy.keeps(RunEnd::Told(RunOutcome::NotExecuted)));
            assert!(policy.keeps(RunEnd::Told(RunOutcome::Executed)));
            assert!(policy.keeps(RunEnd::Told(RunOutcome::ExecutedNotKept)));
        }
    }

    /// The table of the guide, which users read.
    #[test]
    fn a_call_is_kept_as_the_guide_says() {
        let guide = include_str!("../../../layer-http/docs/grpc.md");
        for code in Code::ALL {
            let kept = |policy: RetryPolicy| match policy.keeps(RunEnd::Code(code)) {
                true => "kept",
                false => "runs again",
            };
            let (safe, once) = (kept(RetryPolicy::RetrySafe), kept(RetryPolicy::AtMostOnce));
            let row = format!("| `{code}` | {safe} | {once} |");
            assert!(guide.contains(&row), "the guide lacks {row}");
        }
    }

    #[test]
    fn what_the_handler_tells_comes_before_the_code_and_the_code_before_the_status() {
        let end = |status: u16, content_type: &str, code: Option<&str>, told| {
            let mut response = http::Response::builder()
                .status(status)
                .header("content-type", content_type);
            if let Some(code) = code {
                response = response.header("grpc-status", code);
            }
            let (mut parts, ()) = response.body(()).unwrap().into_parts();
            if let Some(told) = told {
                parts.extensions.insert::<RunOutcome>(told);
            }
            RunEnd::of_head(&parts)
        };
        let status = |status| RunEnd::Status(StatusCode::from_u16(status).unwrap());
        let grpc = "application/grpc";
        assert_eq!(end(201, "text/plain", None, None), status(201));
        assert_eq!(end(200, "text/plain", Some("14"), None), status(200));
        assert_eq!(
            end(200, grpc, Some("14"), None),
            RunEnd::Code(Code::Unavailable)
        );
        assert_eq!(end(200, grpc, None, None), RunEnd::InTrailers);
        let web = "application/grpc-web";
        assert_eq!(end(200, web, None, None), RunEnd::InBody);
        assert_eq!(end(404, web, None, None), status(404));
        assert_eq!(end(503, grpc, None, None), status(503));
        let told = RunOutcome::NotExecuted;
        assert_eq!(end(200, grpc, Some("0"), Some(told)), RunEnd::Told(told));
        assert!(RetryPolicy::RetrySafe.keeps(RunEnd::InTrailers));
    }
}
