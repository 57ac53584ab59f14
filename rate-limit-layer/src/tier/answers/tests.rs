use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, AtomicUsize},
};

use tokio::time::{advance, sleep};

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn gold() -> Quota {
    Quota::per_minute(1_000)
}

/// A look-up that counts its calls, takes 10 ms, and fails while it is told to.
#[derive(Clone, Default)]
struct Database {
    calls: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
}

impl Database {
    fn look_up(&self) -> TierLookUp {
        let this = self.clone();
        TierLookUp::new(move |identity| {
            let this = this.clone();
            async move {
                this.calls.fetch_add(1, Relaxed);
                let at_once = this.at_once.fetch_add(1, Relaxed) + 1;
                this.most_at_once.fetch_max(at_once, Relaxed);
                sleep(10 * MS).await;
                this.at_once.fetch_sub(1, Relaxed);
                match this.fails.load(Relaxed) {
                    true => Err("the database is down"),
                    false => Ok((identity == Identity::from("ada")).then(gold)),
                }
            }
        })
    }

    fn calls(&self) -> usize {
        self.calls.swap(0, Relaxed)
    }
}

fn answers(look_up: TierLookUp) -> Arc<Answers> {
    Arc::new(Answers::new(look_up, "api".into()))
}

fn key(identity: &str) -> u128 {
    let space = layer_store::KeySpace::new("limit", "api");
    layer_store::Key::new(&space, Identity::from(identity).as_ref()).bits()
}

async fn tier(answers: &Arc<Answers>, identity: &str) -> Option<Quota> {
    match answers.tell(key(identity), &identity.into()) {
        Told::Tier(tier) => tier,
        Told::Wait(asking) => Answers::wait(asking).await,
    }
}

fn panicked() -> Option<Quota> {
    panic!("as planned");
}

/// The tier that is told without waiting.
fn tier_now(answers: &Arc<Answers>, identity: &str) -> Option<Option<Quota>> {
    match answers.tell(key(identity), &identity.into()) {
        Told::Tier(tier) => Some(tier),
        Told::Wait(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_also_that_there_is_no_tier() {
    let database = Database::default();
    let answers = answers(database.look_up());
    for _ in 0..5 {
        assert_eq!(tier(&answers, "ada").await, Some(gold()));
        assert_eq!(tier(&answers, "bob").await, None);
    }
    assert_eq!(database.calls(), 2);
    answers.forget(key("ada"));
    assert_eq!(tier(&answers, "ada").await, Some(gold()));
    assert_eq!(database.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_client_is_one_look_up_and_of_many_64_at_once() {
    let database = Database::default();
    let answers = answers(database.look_up());
    let all = (0..1_000).map(|_| tier(&answers, "ada"));
    let tiers = futures_util::future::join_all(all).await;
    assert!(tiers.iter().all(|tier| *tier == Some(gold())));
    assert_eq!(database.calls(), 1);

    let names: Vec<_> = (0..500).map(|number| format!("client {number}")).collect();
    futures_util::future::join_all(names.iter().map(|name| tier(&answers, name))).await;
    assert_eq!(database.calls(), 500);
    assert_eq!(database.most_at_once.load(Relaxed), MAX_LOOK_UPS);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_goes_on_while_one_request_asks_anew() {
    let database = Database::default();
    let answers = answers(database.look_up().fresh_for(5 * SECOND));
    assert_eq!(tier(&answers, "ada").await, Some(gold()));
    advance(6 * SECOND).await;
    for _ in 0..10 {
        assert_eq!(tier_now(&answers, "ada"), Some(Some(gold())));
    }
    sleep(20 * MS).await;
    assert_eq!(database.calls(), 2);
    // It goes on also while the look-up fails, which is tried again each second.
    database.fails.store(true, Relaxed);
    advance(6 * SECOND).await;
    for _ in 0..4 {
        assert_eq!(tier_now(&answers, "ada"), Some(Some(gold())));
        sleep(500 * MS).await;
    }
    assert_eq!(database.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_fails_hangs_or_panics_tells_no_tier_and_is_tried_a_second_later() {
    let database = Database::default();
    database.fails.store(true, Relaxed);
    let answers = answers(database.look_up());
    assert_eq!(tier(&answers, "ada").await, None);
    assert_eq!(tier_now(&answers, "ada"), Some(None));
    database.fails.store(false, Relaxed);
    advance(SECOND + MS).await;
    assert_eq!(tier(&answers, "ada").await, Some(gold()));
    assert_eq!(database.calls(), 2);

    let hangs = TierLookUp::new(|_| std::future::pending::<Result<_, Infallible>>());
    let hangs = self::answers(hangs.deadline(50 * MS));
    let begun = Instant::now();
    assert_eq!(tier(&hangs, "ada").await, None);
    assert_eq!(begun.elapsed(), 50 * MS);
    assert_eq!(tier_now(&hangs, "ada"), Some(None), "nobody waits twice");

    let panics = TierLookUp::new(|_| async { Ok::<_, Infallible>(panicked()) });
    let panics = self::answers(panics);
    assert_eq!(tier(&panics, "ada").await, None);
    assert_eq!(tier_now(&panics, "ada"), Some(None));
    assert_eq!(panics.room.available_permits(), MAX_LOOK_UPS);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_leaves_ends_no_look_up() {
    let database = Database::default();
    let answers = answers(database.look_up());
    assert_eq!(tier_now(&answers, "ada"), None);
    sleep(20 * MS).await;
    assert_eq!(tier_now(&answers, "ada"), Some(Some(gold())));
    assert_eq!(database.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_clients_stays_within_the_bound_and_forgets_no_tier() {
    let look_up = TierLookUp::new(|identity: Identity<'static>| async move {
        Ok::<_, Infallible>((identity == Identity::from("ada")).then(gold))
    });
    let answers = answers(look_up.capacity(100));
    assert_eq!(tier(&answers, "ada").await, Some(gold()));
    for number in 0..5_000 {
        tier(&answers, &format!("nobody {number}")).await;
    }
    let kept = answers.buckets.iter();
    let kept: usize = kept.map(|bucket| bucket.lock().unwrap().len()).sum();
    assert_eq!(kept, 128);
    assert_eq!(tier_now(&answers, "ada"), Some(Some(gold())));
}
