//! The messages of `google.rpc` (google/rpc/status.proto, error_details.proto) as bytes.

use std::time::Duration;

/// A protobuf message that is being written. Fields are written in the order of their numbers.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Writes a field of an integer. The default, zero, is left out.
    pub(super) fn number(mut self, field: u8, number: u64) -> Self {
        if number > 0 {
            self.0.push(field << 3);
            self.varint(number);
        }
        self
    }

    /// Writes a field of a text.
    pub(super) fn text(self, field: u8, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Writes a field of another message.
    pub(super) fn message(self, field: u8, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// Writes a field of type `google.protobuf.Any` with a message of type `google.rpc.<name>`.
    pub(super) fn any(self, field: u8, name: &str, message: &Self) -> Self {
        let any = Self::default()
            .text(1, &format!("type.googleapis.com/google.rpc.{name}"))
            .message(2, message);
        self.message(field, &any)
    }

    /// Returns the bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.0.push(field << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Seven bits at a time, the lowest first. All bytes but the last have the highest bit.
    fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// The number of a field is below 16, so that it and the type of its value are one byte.
const LENGTH_DELIMITED: u8 = 2;

/// Makes a `RetryInfo`.
pub(super) fn retry_info(delay: Duration) -> Message {
    let delay = Message::default()
        .number(1, delay.as_secs().min(MAX_SECONDS))
        .number(2, delay.subsec_nanos().into());
    Message::default().message(1, &delay)
}

/// Makes an `ErrorInfo`.
pub(super) fn error_info(reason: &str, domain: &str, metadata: &[(&str, String)]) -> Message {
    let info = Message::default().text(1, reason).text(2, domain);
    metadata.iter().fold(info, |info, (key, value)| {
        info.message(3, &Message::default().text(1, key).text(2, value))
    })
}

/// Makes a `QuotaFailure`, of pairs of subject and description.
pub(super) fn quota_failure(violations: &[(String, String)]) -> Message {
    let failure = Message::default();
    violations.iter().fold(failure, |failure, (subject, text)| {
        failure.message(1, &Message::default().text(1, subject).text(2, text))
    })
}

/// Makes a `PreconditionFailure` with one violation.
pub(super) fn precondition_failure(kind: &str, subject: &str, text: &str) -> Message {
    let violation = Message::default()
        .text(1, kind)
        .text(2, subject)
        .text(3, text);
    Message::default().message(1, &violation)
}

/// The longest `google.protobuf.Duration`: ten thousand years.
const MAX_SECONDS: u64 = 315_576_000_000;
