//! Each place in which a layer can stand, with requests that show what each of the layers does there.

mod axum;
mod hyper;
mod script;
mod tonic;
mod tower;
mod tower_http;

use script::{assert_calls, assert_requests, sent_to};

/// The layers in their usual order. Each has something to do for some requests: see [`script`].
macro_rules! layers {
    () => {
        tower::ServiceBuilder::new()
            .layer($crate::placement::script::limit())
            .layer($crate::placement::script::in_flight())
            .layer($crate::placement::script::cache())
            .layer($crate::placement::script::idempotency())
            .layer($crate::placement::script::lock())
            .into_inner()
    };
}
use layers;
