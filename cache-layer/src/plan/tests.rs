use layer_store::{Effect, ErrorKind};

use super::*;
use crate::{
    body::buffer::FillBuffer, client_directives::ClientDirectives, fill::commit::Fill,
    purge::scope::PurgeScope, settings::Profile, stored::address::Address, testing::World,
};

type Lines<'a> = &'a [(&'a str, &'a str)];

/// Stores a response that is fresh for a minute.
async fn store(world: &World, public: bool) {
    let (request, _) = world.request(&[]);
    let mut fill: Fill = world.fill(request.address).await;
    if let EntryKind::Http { public: stored, .. } = &mut fill.head.kind {
        *stored = public;
    }
    fill.commit(&["body".into()], HeaderMap::new()).await;
}

async fn decide(world: &World, lines: Lines<'_>) -> RequestPlan {
    let (request, fields) = world.request(lines);
    plan(&world.route, &request, &fields, None).await
}

/// Writes a plan as a word, and what `Cache-Status` says.
async fn decided(world: &World, lines: Lines<'_>) -> String {
    match decide(world, lines).await {
        RequestPlan::Serve(_, CacheStatus::Hit { left }) => format!("hit {}", left.as_secs()),
        RequestPlan::Serve(_, CacheStatus::Stale { over }) => {
            format!("stale {}", over.as_secs())
        }
        RequestPlan::Serve(_, status) => format!("serve {status:?}"),
        RequestPlan::ServeAndRefresh(_, status, _) => format!("refresh {status:?}"),
        RequestPlan::Join(_, status) => format!("join {status:?}"),
        RequestPlan::OnlyIfCached => "only if cached".into(),
        RequestPlan::Fill(fwd, fill, _) => format!("fill {fwd:?} {}", !fill.leader.is_alone()),
        RequestPlan::Forward(fwd, detail) => format!("forward {fwd:?} {detail:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_entry_the_handler_is_called_and_its_response_stored() {
    let world = World::new();
    assert_eq!(decided(&world, &[]).await, "fill UriMiss true");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_entry_is_served_until_it_is_stale() {
    let world = World::new();
    store(&world, false).await;
    assert_eq!(decided(&world, &[]).await, "hit 60");
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(decided(&world, &[]).await, "hit 1");
    assert_eq!(world.shared().stats.read().hits, 2);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(decided(&world, &[]).await, "fill Stale true");
}

#[tokio::test(start_paused = true)]
async fn a_hit_needs_no_waiting() {
    let world = World::new();
    store(&world, false).await;
    let (request, fields) = world.request(&[]);
    let found = world.shared().look_up_now(&request.address, &fields);
    assert!(plan_now(&world.route, &request, &found.unwrap()).is_some());
    let (other, fields) = world.request(&[("cookie", "a")]);
    let found = world.shared().look_up_now(&other.address, &fields);
    assert!(plan_now(&world.route, &other, &found.unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_credential_gets_only_public_entries() {
    for (public, profile, expected) in [
        (false, Profile::Safe, "fill Bypass true"),
        (true, Profile::Safe, "hit 60"),
        (false, Profile::Rfc, "hit 60"),
    ] {
        let mut world = World::new();
        world.route.settings.set_profile(profile);
        store(&world, public).await;
        assert_eq!(decided(&world, &[("cookie", "a")]).await, expected);
    }
}

const NO_CACHE: Lines<'_> = &[("cache-control", "no-cache")];

#[tokio::test(start_paused = true)]
async fn a_request_for_a_fresher_response_shares_its_call_or_not() {
    for (setting, expected) in [
        (ClientDirectives::Honour, "fill Request false"),
        (ClientDirectives::Coalesce, "fill Request true"),
        (ClientDirectives::Ignore, "hit 60"),
    ] {
        let mut world = World::new();
        world.route.settings.client_directives = setting;
        store(&world, false).await;
        assert_eq!(decided(&world, NO_CACHE).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_content_with_a_response_that_came_after_it() {
    for asks in ["no-cache", "max-age=0", "min-fresh=3600"] {
        let world = World::new();
        store(&world, false).await;
        let (fill, _) = lead(&world).await;
        let lines = [("cache-control", asks)];
        let (planned, ()) = tokio::join!(decided(&world, &lines), async {
            fill.share(&FillBuffer::complete("body".into(), None));
        });
        assert!(planned.starts_with("join Collapsed"), "{asks}: {planned}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_came_during_the_lookup_is_new() {
    let world = World::new();
    store(&world, false).await;
    let (request, fields) = world.request(NO_CACHE);
    let early = world.shared().look_up(&request.address, &fields).await;
    world.clock.advance(Duration::from_secs(1));
    let mut second = world.fill(request.address.clone()).await;
    second.head.received_at = world.route.now();
    second.commit(&[], HeaderMap::new()).await;
    let planned = plan(&world.route, &request, &fields, Some(early)).await;
    assert!(
        matches!(planned, RequestPlan::Serve(_, CacheStatus::Hit { .. })),
        "{planned:?}"
    );
    // For the next request it is old.
    assert_eq!(decided(&world, NO_CACHE).await, "fill Request true");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_a_stored_response_or_none_calls_no_handler() {
    let world = World::new();
    let lines = [("cache-control", "only-if-cached")];
    assert_eq!(decided(&world, &lines).await, "only if cached");
    store(&world, false).await;
    assert_eq!(decided(&world, &lines).await, "hit 60");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_for_it_while_the_store_fails_either() {
    let world = World::new();
    let lines = [("cache-control", "only-if-cached")];
    world.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    assert_eq!(decided(&world, &lines).await, "only if cached");
    let purger = world.shared().purger.clone();
    let failed = purger.purge(&[PurgeScope::page("/cars")]).await;
    assert!(failed.is_err());
    assert_eq!(decided(&world, &lines).await, "only if cached");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_accept_a_stale_response() {
    let world = World::new();
    let (request, _) = world.request(&[]);
    let mut fill = world.fill(request.address).await;
    fill.headers.insert("etag", "\"a\"".parse().unwrap());
    fill.commit(&[], HeaderMap::new()).await;
    world.clock.advance(Duration::from_secs(65));
    let lines = [("cache-control", "max-stale=5")];
    assert_eq!(decided(&world, &lines).await, "stale 5");
    assert_eq!(decided(&world, &[]).await, "fill Stale true");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_forbids_storing_is_forwarded() {
    let world = World::new();
    let lines = [("cache-control", "no-store")];
    let expected = "forward UriMiss Some(NoStore)";
    assert_eq!(decided(&world, &lines).await, expected);
    let (mut head, fields) = world.request(&[]);
    head.is_head = true;
    let planned = plan(&world.route, &head, &fields, None).await;
    assert!(matches!(
        planned,
        RequestPlan::Forward(Fwd::UriMiss, Some(Detail::Head))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_purged_entry_is_fetched_again() {
    let world = World::new();
    store(&world, false).await;
    let purger = world.shared().purger.clone();
    purger.purge(&[PurgeScope::page("/cars")]).await.unwrap();
    assert_eq!(decided(&world, &[]).await, "fill Purged true");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_while_the_store_fails_or_a_purge_is_outstanding() {
    let world = World::new();
    store(&world, false).await;
    let down = "forward Miss Some(StoreDown)";
    world.store.fail(ErrorKind::Unavailable, Effect::NotApplied);
    assert_eq!(decided(&world, &[]).await, down);
    let purger = world.shared().purger.clone();
    let failed = purger.purge(&[PurgeScope::page("/cars")]).await;
    assert!(failed.is_err());
    assert_eq!(decided(&world, &[]).await, down);
    assert_eq!(world.shared().stats.read().store_errors, 2);
    world.store.heal();
    assert_eq!(decided(&world, &[]).await, "fill Purged true");
}

/// Leads a flight in which the request under test will follow.
async fn lead(world: &World) -> (Fill, Arc<Address>) {
    let (request, _) = world.request(&[]);
    let fill = world.fill(request.address.clone()).await;
    (fill, request.address)
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_the_response_of_the_leader() {
    let world = World::new();
    let (fill, _) = lead(&world).await;
    let (planned, ()) = tokio::join!(decided(&world, &[]), async {
        fill.share(&FillBuffer::complete("body".into(), None));
    });
    assert!(planned.starts_with("join Collapsed"), "{planned}");
    assert_eq!(world.shared().stats.read().collapsed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_follower_for_another_variant_leads_a_flight_of_its_own() {
    let world = World::new();
    let (mut fill, _) = lead(&world).await;
    if let EntryKind::Http { vary_values, .. } = &mut fill.head.kind {
        vary_values.push((http::HeaderName::from_static("x"), Some("a".into())));
    }
    let lines = [("x", "b")];
    let (planned, ()) = tokio::join!(decided(&world, &lines), async {
        fill.share(&FillBuffer::complete("body".into(), None));
    });
    // Though the store does not know yet that there are variants.
    assert_eq!(planned, "fill UriMiss true");
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_leader_leaves_leads() {
    let world = World::new();
    let (fill, _) = lead(&world).await;
    let (planned, ()) = tokio::join!(decided(&world, &[]), async { drop(fill) });
    assert_eq!(planned, "fill UriMiss true");
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_a_response_that_is_not_shared_calls_the_handler() {
    let world = World::new();
    let (fill, _) = lead(&world).await;
    let (planned, ()) = tokio::join!(decided(&world, &[]), async { fill.not_shared() });
    assert_eq!(planned, "fill UriMiss false");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_never_sent_as_a_response() {
    let world = World::new();
    let (request, fields) = world.request(&[]);
    let mut fill = world.fill(request.address.clone()).await;
    fill.head.kind = EntryKind::Object;
    fill.commit(&[], HeaderMap::new()).await;
    let planned = plan(&world.route, &request, &fields, None).await;
    assert!(
        matches!(planned, RequestPlan::Fill(Fwd::UriMiss, ..)),
        "{planned:?}"
    );
}
