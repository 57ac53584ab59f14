//! The behaviour of a cache on every store, as plain functions. `cases!` makes them tests of one store.
//!
//! The memory store runs them here, Redis in the package `tests`.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its part of what belongs to no crate"
)]

pub mod bodies;
pub mod conditional;
pub mod directives;
pub mod errors;
pub mod gate;
pub mod isolation;
pub mod keys;
pub mod look_ups;
pub mod objects;
pub mod previews;
pub mod purges;
pub mod schedules;
pub mod single_flight;
pub mod stale;
pub mod trust;
pub mod vary;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use cache_layer::{
    Cache, CacheLayer, ResponseCache,
    store::{Key, KeyPrefix, SharedStore, wrap::Prefix},
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use layer_store_names::unique;
use tokio::sync::{Semaphore, mpsc};
use tower::{Layer, Service, ServiceExt};

mod layer_store_names {
    pub use cache_layer::store::conformance::unique;
}

/// Makes a named test of each case, on the store that the future gives.
#[macro_export]
macro_rules! cases {
    ($make:expr; $($module:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                cases::$module::$case($make.await).await;
            })+
        })+
    };
}

/// The cases of storing, sharing and serving.
#[macro_export]
macro_rules! cache_cases {
    ($make:expr) => {
        $crate::cases! { $make;
            isolation:
                hosts_do_not_share_an_entry,
                a_response_with_a_cookie_is_never_stored,
                callers_at_once_each_get_their_own_cookie,
                credentials_are_not_shared_unless_the_answer_says_so,
                a_request_with_a_credential_does_not_get_an_entry_of_strangers,
                file_name_suffixes_do_not_make_a_page_cacheable,
                addresses_and_variants_do_not_collide,
                a_request_with_a_malformed_host_is_not_cached,
                other_peoples_keys_survive_a_purge;
            keys:
                a_target_and_a_host_that_differ_pass_by,
                a_port_that_somebody_wrote_reaches_nobody_else,
                schemes_do_not_share_an_entry,
                a_forwarded_target_passes_by,
                a_forwarded_target_may_be_keyed_or_trusted,
                headers_in_the_key_do_not_collide,
                a_key_of_ones_own_replaces_the_target,
                ignored_parameters_and_their_order_share_an_entry,
                ignored_cookies_make_no_request_personal,
                identity_headers_are_credentials,
                each_user_has_entries_of_their_own,
                by_the_rfc_alone_a_user_has_entries_of_their_own_too,
                a_purge_of_a_user_reaches_that_user_alone,
                a_purge_of_a_user_during_the_fill_is_seen,
                fields_of_one_request_are_not_stored,
                layers_with_other_rules_share_no_entry,
                all_layers_of_a_store_are_purged_together;
            look_ups:
                a_look_up_tells_of_a_response_and_not_its_body,
                a_look_up_tells_why_nothing_is_found,
                a_look_up_goes_by_the_rules_of_its_layer;
            previews:
                a_preview_counts_what_a_purge_ends,
                a_preview_of_a_user_counts_that_user_alone,
                a_preview_is_bounded_and_tells_what_it_did_not_see;
            directives:
                directives_are_read_as_they_are_meant,
                requests_for_an_uncacheable_page_do_not_wait_for_each_other,
                one_answer_that_is_not_stored_switches_nothing_off,
                a_purge_lets_requests_queue_up_again,
                a_lifetime_ends,
                clients_that_want_a_new_answer_at_once_make_one_call,
                clients_may_be_ignored,
                a_client_may_accept_an_old_answer,
                a_strict_answer_is_never_sent_stale,
                an_answer_that_must_be_validated_is_not_sent_to_others,
                failures_are_stored_if_the_route_says_so,
                the_client_may_ask_for_a_fresh_answer;
            errors:
                a_hundred_requests_for_a_page_that_fails_make_one_call,
                errors_are_not_shared_unless_the_route_says_so,
                an_error_does_not_take_the_place_of_a_page_that_is_of_use;
            vary:
                vary_star_is_never_reused,
                both_lines_of_vary_are_used,
                several_variants_are_kept,
                an_address_has_a_bounded_number_of_variants,
                fields_named_later_join_the_vary_rule,
                an_encoded_response_is_not_sent_to_a_client_that_cannot_read_it;
            bodies:
                a_body_that_breaks_off_is_not_stored,
                a_body_shorter_than_stated_is_not_stored,
                a_client_that_leaves_midway_leaves_nothing_partial,
                a_partial_response_is_never_sent_for_the_whole,
                connection_fields_are_not_stored,
                a_body_over_the_limit_passes_and_is_not_stored,
                trailers_are_kept;
            conditional:
                a_client_that_has_the_response_gets_304_from_the_store,
                a_condition_on_a_miss_gives_304_and_fills,
                an_uncacheable_page_gives_the_same_304,
                each_follower_has_its_own_condition,
                a_tag_is_made_on_request,
                nothing_is_fetched_for_a_client_that_wants_what_is_stored,
                the_date_is_that_of_the_arrival_and_agrees_with_the_age,
                a_part_is_not_stored_whatever_its_status;
            trust:
                head_and_get_do_not_spoil_each_other,
                a_method_override_passes_by,
                a_post_is_not_cached,
                a_request_with_content_passes_by,
                an_unsafe_request_purges_its_path,
                an_unsafe_request_purges_what_its_response_names,
                extensions_pass_in_both_directions,
                garbage_under_a_key_is_a_miss,
                an_entry_whose_fields_cannot_be_read_is_a_miss;
            stale:
                a_page_that_just_expired_holds_up_nobody,
                the_window_of_the_layer_is_for_responses_that_state_none,
                a_handler_that_fails_leaves_the_stale_response,
                a_response_that_is_gone_is_no_failure,
                a_stale_response_that_still_holds_is_not_sent_again,
                a_purge_during_a_validation_is_seen,
                a_handler_that_confirms_another_response_is_not_believed,
                what_is_never_fresh_is_confirmed_each_time_in_the_profile_of_the_rfc;
            single_flight:
                the_first_byte_does_not_wait_for_the_last,
                two_hundred_requests_make_one_call,
                a_leader_that_leaves_costs_no_call,
                clients_that_all_leave_leave_a_stored_page,
                a_layer_may_drop_the_call_with_its_last_client,
                a_client_that_reads_nothing_holds_up_nobody,
                a_handler_that_fails_hangs_nobody,
                a_handler_that_panics_hangs_nobody,
                variants_at_once_make_one_call_each,
                two_hundred_loads_make_one,
                a_load_that_fails_is_not_kept;
            objects:
                what_is_inserted_is_there_until_it_is_removed,
                objects_are_purged_by_pattern_and_tag,
                namespaces_are_apart,
                an_insert_with_too_many_tags_changes_nothing,
                what_the_codec_cannot_read_is_missing,
                what_the_codec_cannot_write_is_not_stored,
                a_load_that_began_before_an_insert_is_not_kept_over_it,
                a_purge_after_an_insert_reaches_it,
                a_load_of_its_own_key_loads_at_once,
                a_load_that_purges_its_own_key_loads_at_once,
                a_ring_of_two_keys_loads_at_once,
                a_ring_of_two_tasks_loads_at_once,
                an_error_is_shared_with_those_who_wait,
                what_is_inserted_is_what_all_read;
        }
    };
}

/// The cases of purging.
#[macro_export]
macro_rules! purge_cases {
    ($make:expr) => {
        $crate::cases! { $make;
            purges:
                a_purge_during_the_fill_is_seen,
                a_purge_of_another_instance_is_seen,
                patterns_reach_what_they_say,
                an_escaped_path_is_purged_as_the_plain_one,
                tags_reach_what_they_are_on,
                objects_are_purged_by_key_and_tag,
                a_dropped_purge_happens,
                a_client_that_leaves_an_unsafe_request_purges_its_path,
                invalidations_of_the_handler_are_applied_before_the_answer,
                a_handler_that_fails_invalidates_nothing,
                stamps_live_on_with_their_entries;
            schedules:
                a_missing_stamp_is_a_miss,
                a_missing_stamp_is_never_stale_but_usable,
                the_snapshot_is_that_of_the_lookup,
                stamps_are_planted_before_the_handler_begins,
                a_plant_is_sent_once,
                a_follower_needs_a_lookup_of_its_own,
                a_lookup_is_not_shared,
                the_epoch_is_deleted_before_the_tag,
                the_epoch_is_compared_after_the_tags_are_read,
                a_purge_of_a_tag_that_is_named_later_is_seen,
                scopes_are_purged_in_the_order_given,
                an_invalidation_waits_for_the_handler,
                a_follower_needs_the_epoch,
        }
    };
}

/// A store for one test: its keys are apart from those of all others.
pub fn apart(store: impl cache_layer::store::Store) -> SharedStore {
    SharedStore::new(Prefix::new(store, KeyPrefix::new(&unique())))
}

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose frames a test sends when it likes.
pub struct Frames(pub mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

pub type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

/// A body and its other end.
pub fn frames() -> (Sender, Frames) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Frames(receiver))
}

/// A body that is complete.
pub fn whole(text: impl Into<Bytes>) -> Frames {
    let (sender, body) = frames();
    let _ = sender.send(Ok(Frame::data(text.into())));
    body
}

type Run = dyn Fn(Request<String>, usize) -> BoxFuture<'static, Response<Frames>> + Send + Sync;

/// A handler that counts its calls.
#[derive(Clone)]
pub struct Handler {
    run: Arc<Run>,
    pub calls: Arc<AtomicUsize>,
}

impl Handler {
    /// Runs `run` with the request and the number of the call, from 1 on.
    pub fn new<F>(run: impl Fn(Request<String>, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Frames>> + Send + 'static,
    {
        Self {
            run: Arc::new(move |request, call| Box::pin(run(request, call))),
            calls: Arc::default(),
        }
    }

    /// Responds at once with the text that `text` makes, and these headers.
    pub fn text(
        headers: &'static [(&'static str, &'static str)],
        text: impl Fn(&Request<String>, usize) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |request, call| {
            let response = response(headers, text(&request, call));
            async move { response }
        })
    }

    /// Responds with what `answer` makes. The calls whose numbers `waits` accepts wait for a permit of the gate first.
    pub fn gated(
        gate: &Arc<Semaphore>,
        waits: fn(usize) -> bool,
        answer: impl Fn(&Request<String>, usize) -> Response<Frames> + Send + Sync + 'static,
    ) -> Self {
        let (gate, answer) = (gate.clone(), Arc::new(answer));
        Self::new(move |request, call| {
            let (gate, answer) = (gate.clone(), answer.clone());
            async move {
                if waits(call) {
                    gate.acquire().await.unwrap().forget();
                }
                answer(&request, call)
            }
        })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

impl Service<Request<String>> for Handler {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let call = self.calls.fetch_add(1, SeqCst) + 1;
        let answer = (self.run)(request, call);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// A response with these headers.
pub fn response(headers: &[(&'static str, &str)], text: impl Into<Bytes>) -> Response<Frames> {
    let mut response = Response::new(whole(text));
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

/// A cache before a handler.
#[derive(Clone)]
pub struct Site {
    pub service: Cache<Handler>,
    pub cache: ResponseCache,
    pub handler: Handler,
}

/// A response that was read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub trailers: Option<HeaderMap>,
    pub body: String,
}

impl Reply {
    pub fn cache_status(&self) -> String {
        let lines = self.headers.get_all("cache-status").iter();
        lines
            .map(|line| line.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }
}

pub const FRESH: (&str, &str) = ("cache-control", "max-age=60");

impl Site {
    pub fn new(store: &SharedStore, handler: Handler) -> Self {
        Self::with(CacheLayer::new(store.clone()), handler)
    }

    /// A site for the order of what is done with stamps. It claims no leases, which would be held up with them.
    pub fn of_stamps(store: &SharedStore, handler: Handler) -> Self {
        let cache = ResponseCache::new(store.clone()).coalesce_over_instances(false);
        Self::with(CacheLayer::with_cache(cache), handler)
    }

    pub fn with(layer: CacheLayer, handler: Handler) -> Self {
        Self {
            service: layer.layer(handler.clone()),
            cache: layer.handle(),
            handler,
        }
    }

    /// Sends a request, reads the response, and waits until it is stored if its `Cache-Status` says so.
    pub async fn send(&self, request: Request<String>) -> Reply {
        let before = self.cache.stats().stored;
        let reply = self.try_send(request).await.unwrap();
        if reply.cache_status().contains("; stored") {
            eventually("it is stored", || self.cache.stats().stored > before).await;
        }
        reply
    }

    /// Sends a request and reads the response.
    pub async fn try_send(&self, request: Request<String>) -> Result<Reply, BoxError> {
        let response = self.service.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: String::from_utf8(body.to_bytes().into()).unwrap(),
        })
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(request(path, headers)).await
    }

    pub fn calls(&self) -> usize {
        self.handler.calls()
    }
}

pub fn request(path: &str, headers: &[(&str, &str)]) -> Request<String> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(String::new()).unwrap()
}

/// Waits until `holds` returns true.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not so after 10 s"));
}

/// The text of a key, as Redis sees it.
pub fn text(key: &Key<'_>) -> String {
    let mut text = Vec::new();
    key.render(&mut text);
    String::from_utf8(text).unwrap()
}
