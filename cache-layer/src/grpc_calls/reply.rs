use bytes::Bytes;
use http::HeaderMap;
use layer_http::grpc::{CallOutcome, Code, MessageCount};

/// The reply to a unary call on its way: it is stored if it has one message and the status OK.
///
/// The status is in the trailers, so nobody shares the reply before it is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallReply {
    outcome: CallOutcome,
    messages: MessageCount,
}

impl CallReply {
    /// Reads the head of a reply. `None`: it is not stored, whatever follows.
    pub(crate) fn of_head(headers: &HeaderMap) -> Option<Self> {
        let outcome = CallOutcome::of_head(headers);
        let messages = MessageCount::default();
        match outcome {
            CallOutcome::InTrailers | CallOutcome::Ended(Code::Ok) => {
                Some(Self { outcome, messages })
            }
            CallOutcome::NotGrpc | CallOutcome::InBody | CallOutcome::Ended(_) => None,
        }
    }

    /// Looks at the next bytes. Returns false if another message has begun.
    pub(crate) fn add(&mut self, data: &Bytes) -> bool {
        self.messages.add(data);
        self.messages.begun() <= 1
    }

    /// Returns true if the whole reply is stored.
    pub(crate) fn is_success(&self, trailers: Option<&HeaderMap>) -> bool {
        let code = match self.outcome {
            CallOutcome::Ended(code) => code,
            CallOutcome::InTrailers | CallOutcome::InBody | CallOutcome::NotGrpc => {
                CallOutcome::of_trailers(trailers)
            }
        };
        code == Code::Ok && self.messages.is_one()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::CONTENT_TYPE};

    use super::*;

    fn fields(status: Option<u16>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(status) = status {
            fields.insert("grpc-status", status.into());
        }
        fields
    }

    #[test]
    fn one_message_and_the_status_ok_are_stored() {
        let one = &b"\0\0\0\0\x01a"[..];
        for (head, body, trailers, is_stored) in [
            (None, one, Some(Some(0)), true),
            (None, b"\0\0\0\0\0", Some(Some(0)), true),
            (Some(0), one, None, true),
            (None, one, Some(Some(14)), false),
            (None, one, Some(None), false),
            (None, one, None, false),
            (None, b"", Some(Some(0)), false),
            (Some(0), b"", None, false),
            (None, b"\0\0\0\0\x02a", Some(Some(0)), false),
        ] {
            let mut reply = CallReply::of_head(&fields(head)).unwrap();
            assert!(reply.add(&Bytes::from_static(body)));
            let trailers = trailers.map(fields);
            assert_eq!(reply.is_success(trailers.as_ref()), is_stored, "{body:?}");
        }
    }

    #[test]
    fn an_error_in_the_head_another_message_and_a_page_are_not() {
        assert!(CallReply::of_head(&fields(Some(5))).is_none());
        assert!(CallReply::of_head(&HeaderMap::new()).is_none());
        let mut reply = CallReply::of_head(&fields(None)).unwrap();
        assert!(reply.add(&Bytes::from_static(b"\0\0\0\0\x01")));
        assert!(!reply.add(&Bytes::from_static(b"a\0")));
    }
}
