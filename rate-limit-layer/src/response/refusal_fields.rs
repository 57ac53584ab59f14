use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use layer_http::PROBLEM_JSON;

use crate::response::headers::{RATE_LIMIT, RATE_LIMIT_POLICY};

/// The fields of a layer's 429, made ready. A response has a copy of them with two values of its own.
///
/// A copy of a map takes half of the time that it takes to fill one: no name is hashed.
#[derive(Clone, Debug)]
pub(crate) struct RefusalFields {
    fields: HeaderMap,
    policies: Option<HeaderValue>,
    /// The place of `Retry-After` among the fields.
    retry_after: usize,
    /// The place of `RateLimit`. `None`: the rate limit headers are off.
    rate_limit: Option<usize>,
}

impl RefusalFields {
    /// Makes them with the value of `RateLimit-Policy` for all limits, or without the two rate limit headers.
    pub(crate) fn new(policies: Option<&HeaderValue>) -> Self {
        let mut fields = HeaderMap::new();
        // First those whose values differ: they are found soonest.
        fields.insert(RETRY_AFTER, EMPTY.clone());
        if let Some(policies) = policies {
            fields.insert(RATE_LIMIT.clone(), EMPTY.clone());
            fields.insert(RATE_LIMIT_POLICY.clone(), policies.clone());
        }
        fields.insert(CONTENT_TYPE, PROBLEM_JSON.clone());
        let place = |name: &HeaderName| fields.keys().position(|other| other == name);
        Self {
            retry_after: place(&RETRY_AFTER).expect("it was put in"),
            rate_limit: place(&RATE_LIMIT),
            policies: policies.cloned(),
            fields,
        }
    }

    /// Returns the value of `RateLimit-Policy`. `None`: the rate limit headers are off.
    pub(crate) const fn policies(&self) -> Option<&HeaderValue> {
        self.policies.as_ref()
    }

    /// Makes the fields of a response. The value of `RateLimit` is given if the rate limit headers are on.
    pub(crate) fn with(
        &self,
        retry_after: HeaderValue,
        rate_limit: Option<HeaderValue>,
    ) -> HeaderMap {
        let mut fields = self.fields.clone();
        // A clone has the order of its original.
        let mut put = |place, value| {
            if let Some(field) = fields.values_mut().nth(place) {
                *field = value;
            }
        };
        put(self.retry_after, retry_after);
        if let (Some(place), Some(value)) = (self.rate_limit, rate_limit) {
            put(place, value);
        }
        fields
    }
}

static EMPTY: HeaderValue = HeaderValue::from_static("");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_its_own_values_under_the_right_names() {
        let text = HeaderValue::from_static;
        let off = RefusalFields::new(None);
        assert_eq!(off.policies(), None);
        let fields = off.with(text("7"), None);
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[RETRY_AFTER], "7");
        assert_eq!(fields[CONTENT_TYPE], PROBLEM_JSON);

        let policies = text("policies");
        let on = RefusalFields::new(Some(&policies));
        assert_eq!(on.policies(), Some(&policies));
        let fields = on.with(text("7"), Some(text("standing")));
        assert_eq!(fields.len(), 4);
        assert_eq!(fields[RETRY_AFTER], "7");
        assert_eq!(fields[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(fields[&RATE_LIMIT_POLICY], "policies");
        assert_eq!(fields[&RATE_LIMIT], "standing");
        assert_eq!(on.fields[RETRY_AFTER], "", "the original stays");
    }
}
