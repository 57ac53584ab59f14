//! An operator whose client says that its key answers 409.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use layer_store::{Effect, ErrorKind, Identity, Op, conformance::Fault};

use super::{Handler, both, by_user, created, is_replay, record_name_of, send};
use crate::{
    IdempotencyLayer, IdempotencyRefusal, Idempotent, RecordAddress, RunError, RunState,
    testing::{World, post, settle, worlds},
};

fn address(key: &str) -> RecordAddress<'_> {
    RecordAddress::new("", Method::POST, "/bookings", key).by_path()
}

#[tokio::test(start_paused = true)]
async fn a_record_tells_its_state_and_its_age() {
    for world in worlds() {
        for layer in both(&world) {
            let layer = layer.clock(world.clock()).max_response_body(100);
            let records = layer.handle();
            let service = Handler::new().under(&layer, async |_, request| {
                let long = request.headers()["idempotency-key"].as_bytes().len() > 40;
                tokio::time::sleep(Duration::from_secs(2)).await;
                created(if long { LONG } else { "done" })
            });
            let short = layer_store::conformance::unique();
            let long = format!("{short}{}", "x".repeat(41));
            for (key, state) in [
                (&short, RunState::Completed(StatusCode::CREATED)),
                (&long, RunState::BodyNotKept(StatusCode::CREATED)),
            ] {
                assert!(records.find(&address(key)).await.unwrap().is_none());
                let (sent, request) = (service.clone(), post(key, ""));
                let first = tokio::spawn(async move { send(&sent, request).await });
                world.pass(Duration::from_secs(1)).await;
                let found = records.find(&address(key)).await.unwrap().unwrap();
                assert_eq!(found.state(), RunState::Running);
                first.await.unwrap();
                let found = records.find(&address(key)).await.unwrap().unwrap();
                assert_eq!(found.state(), state);
                world.pass(Duration::from_secs(60)).await;
                let found = records.find(&address(key)).await.unwrap().unwrap();
                let age = found.age().as_secs();
                assert!((59..=63).contains(&age), "{age}");
                assert_eq!((found.age() + found.ends_in()).as_secs(), 86_400);
                let name = record_name_of(&post(key, ""));
                assert_eq!(found.name().as_bytes(), name.as_bytes());
                let by_name = records.find_by_name(found.name()).await.unwrap();
                assert_eq!(by_name.unwrap().state(), state);
            }
            assert!(records.find_by_name("no name").await.unwrap().is_none());
            assert!(records.orphans().await.unwrap().is_empty());
        }
    }
}

const LONG: &str = "A response that is longer than the limit of a hundred bytes reaches its client, and \
    nothing of it is kept.";

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_person_is_listed_and_marked_done_or_forgotten() {
    for world in worlds() {
        let [layer, _] = both(&world);
        let records = layer.handle();
        let handler = Handler::new();
        let service = handler.under(&layer, async |run, _| match run {
            1 | 2 => panic!("as it was asked to"),
            _ => created("done"),
        });
        for key in ["1", "2"] {
            let (service, request) = (service.clone(), post(key, ""));
            let first = tokio::spawn(async move { send(&service, request).await });
            assert!(first.await.unwrap_err().is_panic());
        }
        let mut orphans = records.orphans().await.unwrap();
        assert_eq!(orphans.len(), 2);
        assert!(format!("{orphans:?}").contains("OutcomeUnknown"));
        orphans.retain(|orphan| orphan.name() == record_name_of(&post("1", "")).as_str());
        assert!(
            records
                .mark_done(&orphans[0], StatusCode::CREATED)
                .await
                .unwrap()
        );
        let again = send(&service, post("1", "")).await;
        let status = StatusCode::CREATED;
        let refusal = IdempotencyRefusal::BodyNotKept { status };
        assert_eq!(again.extensions().get(), Some(&refusal));

        let found = records.find(&address("2")).await.unwrap().unwrap();
        assert!(records.forget(&found).await.unwrap());
        assert!(records.find(&address("2")).await.unwrap().is_none());
        assert_eq!(send(&service, post("2", "")).await.status(), status);
        assert!(is_replay(&send(&service, post("2", "")).await));
        // What was found has changed since.
        assert!(!records.forget(&found).await.unwrap());
        assert!(!records.mark_done(&found, StatusCode::OK).await.unwrap());
        assert!(records.orphans().await.unwrap().is_empty());
    }
}

/// A process that died between the two steps of its claim did nothing. Its claim ends soon, and nobody need settle it.
#[tokio::test(start_paused = true)]
async fn a_claim_that_has_not_begun_is_told_by_its_life_and_is_left_alone() {
    let world = World::far();
    let [layer, _] = both(&world);
    let layer = layer.clock(world.clock());
    let handler = Handler::new();
    let (service, records) = (handler.counting(&layer), layer.handle());
    world.fault_injector.inject_by(|op| {
        let begins = matches!(op, Op::Batch([Op::Touch { .. }, ..]));
        begins.then_some(Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied))
    });
    let first = send(&service, post("1", "")).await;
    assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    world.fault_injector.heal();
    let found = records.find(&address("1")).await.unwrap().unwrap();
    assert_eq!(found.state(), RunState::NotBegun);
    assert!(found.age() + found.ends_in() == Duration::from_secs(1));
    assert!(!records.forget(&found).await.unwrap());
    assert!(!records.mark_done(&found, StatusCode::OK).await.unwrap());
    assert!(records.orphans().await.unwrap().is_empty());
    let second = send(&service, post("1", "")).await;
    assert_eq!(
        second.extensions().get(),
        Some(&IdempotencyRefusal::InProgress)
    );
    world.pass(Duration::from_secs(1)).await;
    let third = send(&service, post("1", "")).await;
    assert_eq!((third.status(), handler.runs()), (StatusCode::CREATED, 1));
}

/// A run that is expected to last for as long as its record is, and whose process is gone, is near its end and begun.
#[tokio::test(start_paused = true)]
async fn a_claim_that_has_begun_is_running_in_its_last_second_too() {
    let world = World::far();
    let [layer, _] = both(&world);
    let ten = Duration::from_secs(10);
    let layer = layer.keep_for(ten).expected_run(ten).clock(world.clock());
    let records = layer.handle();
    let service = Handler::new().under(&layer, async |_, _| std::future::pending().await);
    let first = tokio::spawn(async move { send(&service, post("1", "")).await });
    settle().await;
    super::fail_program(&world, "record_write", Effect::NotApplied);
    world.pass(Duration::from_millis(9_500)).await;
    let found = records.find(&address("1")).await.unwrap().unwrap();
    assert!(found.ends_in() <= Duration::from_secs(1), "{found:?}");
    assert_eq!(found.state(), RunState::Running);
    first.abort();
}

/// More than a page of a scan has. One after the other is settled, and a store that fails in between stops nothing.
#[tokio::test(start_paused = true)]
async fn orphans_come_one_by_one_and_each_is_settled() {
    let world = World::far();
    let jobs = Idempotent::at_most_once(world.store());
    for number in 0..250_u32 {
        let result = match number % 2 {
            0 => jobs.run(number.to_string(), async || Ok(1)).await,
            _ => jobs.run(number.to_string(), async || Err("no")).await,
        };
        assert_eq!(result.is_ok(), number % 2 == 0);
    }
    let records = jobs.handle();
    let mut walk = records.walk_orphans();
    let mut forgotten = 0;
    for turn in 0.. {
        if turn == 0 || turn == 60 {
            let lost = Fault::Fail(ErrorKind::Unavailable, Effect::NotApplied);
            world.fault_injector.inject(lost);
            assert!(walk.next().await.is_err());
            world.fault_injector.heal();
        }
        let Some(found) = walk.next().await.unwrap() else {
            break;
        };
        assert_eq!(found.state(), RunState::OutcomeUnknown);
        forgotten += usize::from(records.forget(&found).await.unwrap());
    }
    assert_eq!(forgotten, 125);
    assert!(records.orphans().await.unwrap().is_empty());
    assert!(walk.next().await.unwrap().is_none());
}

/// A record is found by what names it: the client that the scope found or its address, and the host.
#[tokio::test(start_paused = true)]
async fn an_address_names_the_record_that_the_layer_names() {
    let world = World::near();
    let layer = IdempotencyLayer::at_most_once(world.store(), by_user().per_host());
    let service = Handler::new().counting(&layer);
    let records = layer.handle();
    let request = |user: Option<&str>| {
        let mut request = Request::post("http://Shop.example:80/bookings");
        request = request.header("idempotency-key", "\"k\"");
        if let Some(user) = user {
            request = request.header("x-user", user);
        }
        let mut request = request.body(Full::default()).unwrap();
        let peer = std::net::SocketAddr::from(([192, 0, 2, 7], 4711));
        request.extensions_mut().insert(crate::PeerAddr(peer));
        request
    };
    send(&service, request(Some("ada"))).await;
    send(&service, request(None)).await;
    let at = |client: Identity<'static>| {
        let address = RecordAddress::new(client, Method::POST, "/bookings", "k");
        address.host("shop.example").by_path()
    };
    let ada = at(Identity::from("ada"));
    let peer = at(Identity::V4(0xC000_0207)).by_address();
    for address in [ada.clone(), peer] {
        assert!(
            records.find(&address).await.unwrap().is_some(),
            "{address:?}"
        );
    }
    assert!(records.find(&ada.host("other")).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn runs_without_http_are_settled_too() {
    let world = World::far();
    let jobs = Idempotent::at_most_once(world.store());
    let failed = jobs.run::<u32, _, _>("1", async || Err("no")).await;
    assert!(matches!(failed, Err(RunError::Failed("no"))));
    let records = jobs.handle();
    let orphans = records.orphans().await.unwrap();
    assert_eq!(orphans.len(), 1);
    assert!(records.forget(&orphans[0]).await.unwrap());
    settle().await;
    assert_eq!(jobs.run("1", async || Ok::<_, &str>(1)).await.unwrap(), 1);
}
