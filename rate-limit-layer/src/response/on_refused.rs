use std::{fmt, sync::Arc};

use http::Response;
use layer_http::{Content, RequestHead};

use crate::RateLimitRefusal;

/// What the owner of a layer does to its refusals before they are sent.
#[derive(Clone)]
pub(crate) struct OnRefused(Arc<Change>);

type Change = dyn Fn(&RateLimitRefusal, &RequestHead<'_>, &mut Response<Content>) + Send + Sync;

impl OnRefused {
    pub(crate) fn new(
        change: impl Fn(&RateLimitRefusal, &RequestHead<'_>, &mut Response<Content>)
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(change))
    }

    /// Changes the response to a request that is refused.
    #[cold]
    pub(crate) fn change(
        &self,
        refusal: &RateLimitRefusal,
        head: &RequestHead<'_>,
        response: &mut Response<Content>,
    ) {
        (self.0)(refusal, head, response);
    }
}

impl fmt::Debug for OnRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRefused")
    }
}
