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

/// `POST /sms`, limited for each number it sends to.
pub(crate) fn routes(store: SharedStore) -> Router {
    // A text message costs money and annoys: without a count none is sent, whatever the other routes do.
    let limiter = Limiter::new(store, Quota::per_hour(20).fail_closed().name("sms"));
    Router::new().route("/sms", post(send)).with_state(limiter)
}

#[derive(Debug, Deserialize)]
struct Message {
    to: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct Accepted {
    to: String,
    /// How many more may follow at once.
    remaining: Option<u32>,
}

/// The number stands in the body, where no layer looks: the handler asks the limiter itself.
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
    /// The number in the one way of writing it that is counted.
    fn checked(&self) -> Result<String, Problem> {
        if !(1..=LONGEST_TEXT).contains(&self.text.chars().count()) {
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

/// `+` and the digits of an international number (ITU-T E.164), without what people write between them.
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

/// Ten messages' worth, which networks join.
const LONGEST_TEXT: usize = 1_600;

#[cfg(test)]
mod tests {
    use super::*;

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
