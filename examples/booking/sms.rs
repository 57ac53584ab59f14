use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use rate_limit_layer::{Limiter, Quota, Verdict, store::SharedStore};
use serde::{Deserialize, Serialize};

use crate::{
    input::{Input, Sample},
    problem::Problem,
};

/// Serves `POST /sms`, limited for each phone number.
pub(crate) fn routes(store: SharedStore) -> Router {
    Router::new()
        .route("/sms", post(send))
        .with_state(limiter(store))
}

/// Never more than 20 messages to a number in any hour. A message costs money, so none is sent uncounted, whatever the other routes do.
fn limiter(store: impl Into<SharedStore>) -> Limiter {
    let quota = Quota::exact(20, Duration::from_secs(3_600));
    Limiter::new(store, quota.fail_closed().name("sms"))
}

#[derive(Debug, Deserialize)]
struct Message {
    to: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct Accepted {
    to: String,
    /// The number of messages that may follow at once. Null if the limit admitted this one uncounted.
    remaining: Option<u64>,
}

/// Sends a message. A layer does not read bodies, so the handler asks the limiter itself.
async fn send(
    State(limiter): State<Limiter>,
    Input(message): Input<Message>,
) -> Result<(StatusCode, Json<Accepted>), Response> {
    let to = message.checked().map_err(IntoResponse::into_response)?;
    match limiter.check(&*to).await {
        Verdict::Admitted(standing) => {
            let remaining = standing.map(|standing| standing.remaining());
            Ok((StatusCode::ACCEPTED, Json(Accepted { to, remaining })))
        }
        Verdict::Refused(refused) => Err(refused.to_response::<Body>().map(Body::new)),
        Verdict::Unavailable(unavailable) => Err(unavailable.to_response::<Body>().map(Body::new)),
    }
}

impl Message {
    /// Returns the number in its normal form, under which it is counted.
    fn checked(&self) -> Result<String, Problem> {
        if !(1..=MAX_TEXT).contains(&self.text.chars().count()) {
            return Err(Problem::bad_request(
                "write a text of 1 to 1600 characters, such as \"text\": \"Your car is ready\"",
            ));
        }
        normal(&self.to).ok_or_else(|| {
            Problem::bad_request(
                "write the number with + and its country code, 7 to 15 digits, such as \"to\": \"+442079460000\"",
            )
        })
    }
}

impl Sample for Message {
    const SAMPLE: &str = r#"{"to": "+442079460000", "text": "Your car is ready"}"#;
}

/// Returns `+` and the digits of an international number (ITU-T E.164), without spaces and punctuation.
fn normal(number: &str) -> Option<String> {
    let digits = number.trim().strip_prefix('+')?;
    let digits: String = digits
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '.' | '/' | '(' | ')'))
        .collect();
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = all_digits && (7..=15).contains(&digits.len()) && !digits.starts_with('0');
    is_number.then(|| format!("+{digits}"))
}

/// The maximum length of a text: ten messages, which networks join.
const MAX_TEXT: usize = 1_600;

#[cfg(test)]
mod tests {
    use rate_limit_layer::store::{Clock, MemoryStore};

    use super::*;

    /// Somebody tries every 50 s, for a day. `per_hour(20)` would let 39 pass in the first hour.
    #[tokio::test]
    async fn never_more_than_20_are_sent_in_any_hour() {
        let (clock, time) = Clock::manual(1_767_225_600_000_042);
        let limiter = limiter(MemoryStore::with_clock(100, clock));
        let mut sent = Vec::new();
        for second in (0..86_400).step_by(50) {
            if limiter.check("+442079460000").await.is_admitted() {
                sent.push(second);
            }
            time.advance(Duration::from_secs(50));
        }
        assert_eq!(sent.len(), 24 * 20);
        for first in 0..sent.len() - 20 {
            assert!(sent[first + 20] - sent[first] >= 3_600, "{first}");
        }
    }

    #[test]
    fn one_number_is_counted_once_however_it_is_written() {
        for written in [
            "+442079460000",
            "+44 20 7946 0000",
            " +44-20-7946-0000",
            "+44 (20) 7946.0000",
        ] {
            assert_eq!(normal(written).as_deref(), Some("+442079460000"));
        }
    }

    #[test]
    fn what_is_no_international_number_is_refused() {
        for written in [
            "",
            "+",
            "442079460000",
            "00442079460000",
            "+0442079460000",
            "+44207",
            "+4420794600001234",
            "+44 20 7946 000O",
            "+٤٤٢٠٧٩٤٦٠٠٠٠",
            "+44207946\r\n0000",
        ] {
            assert_eq!(normal(written), None, "{written:?}");
        }
    }
}
