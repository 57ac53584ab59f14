use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::{
    Code, Detail, Reason,
    details::{Message, error_info, precondition_failure, quota_failure, retry_info},
};

/// The status of a refused call: a code, a message, and details that programs read.
///
/// A handler of tonic refuses with it, such as with that of a lock it did not get. The feature `tonic` has the conversion.
///
/// ```
/// use std::time::Duration;
/// use layer_http::grpc::{Reason, Status};
///
/// let busy = Status::new(Reason::LockBusy, "another call is working on this").retry_after(Duration::from_secs(3));
/// # #[cfg(feature = "tonic")] {
/// let status = tonic::Status::from(busy);
/// assert_eq!(status.code(), tonic::Code::Aborted);
/// assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "3000");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Status {
    reason: Reason,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    violations: Vec<(String, String)>,
    precondition: Option<(&'static str, &'static str)>,
    metadata: Vec<(&'static str, String)>,
}

impl Status {
    /// Makes a status. The client reads the message, so it must not contain a key, token or address.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
            violations: Vec::new(),
            precondition: None,
            metadata: Vec::new(),
        }
    }

    /// Tells after which time the call may be sent again: `RetryInfo` in the details, and `grpc-retry-pushback-ms`, which
    /// clients with a retry policy obey (gRFC A6).
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// Adds a violated quota to the `QuotaFailure`: its name, and what it allows.
    #[must_use]
    pub fn quota(mut self, name: impl Into<String>, allows: impl Into<String>) -> Self {
        self.violations.push((name.into(), allows.into()));
        self
    }

    /// Adds a `PreconditionFailure`: the type of what does not hold, and what it is about. Its text is the message.
    #[must_use]
    pub fn precondition(self, kind: &'static str, subject: &'static str) -> Self {
        Self {
            precondition: Some((kind, subject)),
            ..self
        }
    }

    /// Adds a text to the metadata of the `ErrorInfo`.
    #[must_use]
    pub fn info(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Returns the reason.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the code.
    pub const fn code(&self) -> Code {
        self.reason.code()
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the details: a `google.rpc.Status` with an `ErrorInfo`, and with `RetryInfo`, `QuotaFailure` and
    /// `PreconditionFailure` as far as they are known.
    pub fn details(&self) -> Bytes {
        let reason = self.reason;
        let info = error_info(reason.as_str(), reason.domain(), &self.metadata);
        let mut status = Message::default()
            .number(1, reason.code().number().into())
            .text(2, &self.message)
            .any(3, "ErrorInfo", &info);
        if let Some(wait) = self.retry_after {
            status = status.any(3, "RetryInfo", &retry_info(wait));
        }
        if !self.violations.is_empty() {
            status = status.any(3, "QuotaFailure", &quota_failure(&self.violations));
        }
        if let Some((kind, subject)) = self.precondition {
            let failure = precondition_failure(kind, subject, &self.message);
            status = status.any(3, "PreconditionFailure", &failure);
        }
        status.into_bytes().into()
    }

    /// Returns which details there are beside the `ErrorInfo`. A refusal of a layer has those of its [reason](Reason::details).
    pub fn detail_kinds(&self) -> Vec<Detail> {
        let retry = self.retry_after.map(|_| Detail::RetryInfo);
        let quota = (!self.violations.is_empty()).then_some(Detail::QuotaFailure);
        let precondition = self.precondition.map(|_| Detail::PreconditionFailure);
        [retry, quota, precondition].into_iter().flatten().collect()
    }

    /// Returns the fields that end a call: `grpc-status`, `grpc-message`, `grpc-status-details-bin` and
    /// `grpc-retry-pushback-ms`.
    pub fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(8);
        fields.insert(GRPC_STATUS.clone(), self.code().to_value());
        let message = percent_encode(self.message.as_bytes(), NOT_IN_A_MESSAGE).to_string();
        fields.insert(GRPC_MESSAGE.clone(), ascii(message));
        let details = STANDARD_NO_PAD.encode(self.details());
        fields.insert(GRPC_STATUS_DETAILS.clone(), ascii(details));
        if let Some(wait) = self.retry_after {
            fields.insert(GRPC_RETRY_PUSHBACK.clone(), pushback(wait));
        }
        fields
    }
}

/// Returns the time to wait in milliseconds, rounded up, at most 2^31 - 1.
fn pushback(wait: Duration) -> HeaderValue {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    HeaderValue::from(i32::try_from(millis).unwrap_or(i32::MAX))
}

/// Keeps the code, the message, the details and the pushback.
#[cfg(feature = "tonic")]
impl From<Status> for tonic::Status {
    fn from(status: Status) -> Self {
        Self::from_header_map(&status.fields()).expect("the fields have a grpc-status")
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("what is encoded is visible ASCII")
}

pub(super) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
static GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// PROTOCOL-HTTP2, "Responses": every byte but space to tilde is encoded, and the percent sign.
const NOT_IN_A_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetail, StatusExt};

    use super::*;

    /// The status as tonic reads it.
    fn read(status: &Status) -> tonic::Status {
        tonic::Status::from_header_map(&status.fields()).unwrap()
    }

    #[test]
    fn tonic_reads_what_was_written() {
        let wait = Duration::new(70_000, 1_001);
        let status = Status::new(Reason::QuotaExceeded, "100 % of \"a\"\nis ü used")
            .retry_after(wait)
            .quota("daily", "5000/d")
            .quota("100/min", "100/min;b=20")
            .precondition("KEY", "idempotency-key")
            .info("original-status", "201")
            .info("b", "");
        let read = read(&status);
        assert_eq!(read.code(), tonic::Code::ResourceExhausted);
        assert_eq!(read.message(), "100 % of \"a\"\nis ü used");
        assert_eq!(
            read.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "70000001"
        );

        let details = read.check_error_details().unwrap();
        let info = details.error_info().unwrap();
        assert_eq!(
            (&*info.reason, &*info.domain),
            ("QUOTA_EXCEEDED", "rate-limit-layer")
        );
        let metadata = [("original-status", "201"), ("b", "")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(info.metadata, metadata.into());
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(wait));
        let quotas = &details.quota_failure().unwrap().violations;
        let quotas: Vec<_> = quotas
            .iter()
            .map(|quota| (&*quota.subject, &*quota.description))
            .collect();
        assert_eq!(quotas, [("daily", "5000/d"), ("100/min", "100/min;b=20")]);
        let failed = &details.precondition_failure().unwrap().violations[0];
        assert_eq!(
            (&*failed.r#type, &*failed.subject, &*failed.description),
            ("KEY", "idempotency-key", read.message())
        );
        assert_eq!(read.get_error_details_vec().len(), 4);
        use Detail::{PreconditionFailure, QuotaFailure, RetryInfo};
        let kinds = [RetryInfo, QuotaFailure, PreconditionFailure];
        assert_eq!(status.detail_kinds(), kinds);
    }

    #[test]
    fn each_reason_is_told_with_its_code() {
        for &reason in Reason::ALL {
            let status = Status::new(reason, "no");
            let read = read(&status);
            assert_eq!(read.code() as i32, i32::from(reason.code().number()));
            let details = read.check_error_details_vec().unwrap();
            let [ErrorDetail::ErrorInfo(info)] = &details[..] else {
                panic!("{details:?}");
            };
            assert_eq!(info.reason, reason.as_str());
            assert!(!status.fields().contains_key(&GRPC_RETRY_PUSHBACK));
        }
    }

    #[test]
    fn a_message_is_percent_encoded_where_the_protocol_asks_for_it() {
        let fields = Status::new(Reason::Closing, " a~%\u{7f}\n").fields();
        assert_eq!(fields[&GRPC_MESSAGE], " a~%25%7F%0A");
    }

    #[test]
    fn a_pushback_is_in_milliseconds_rounded_up() {
        for (wait, millis) in [
            (Duration::ZERO, "0"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_micros(1_000), "1"),
            (Duration::from_micros(1_001), "2"),
            (Duration::from_millis(2_147_483_647), "2147483647"),
            (Duration::MAX, "2147483647"),
        ] {
            assert_eq!(pushback(wait), millis);
        }
    }

    #[test]
    fn the_longest_wait_is_one_that_a_client_can_read() {
        let status = Status::new(Reason::LockBusy, "busy").retry_after(Duration::MAX);
        let details = read(&status).check_error_details().unwrap();
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(delay.as_secs(), 315_576_000_000);
    }
}
