//! Requests that are charged in advance, on a real Redis.

use std::time::Duration;

use layer_store::Options;
use rate_limit_layer::{Limiter, Quota};
use tests::{RedisServer, patient_store, scale};
use tokio::time::Instant;

#[tokio::test]
async fn one_command_is_enough_for_ten_checks_and_what_is_left_comes_back() {
    let server = RedisServer::start();
    let store = patient_store(&server, Options::new()).await;
    let limiter = Limiter::new(store, Quota::per_day(1_000_000).fail_closed()).prepaid(10);
    let check = async |count: usize| {
        for _ in 0..count {
            assert!(limiter.check("ada").await.is_admitted());
        }
    };
    check(20).await;
    let mut monitor = server.monitor();
    check(1_100).await;
    let mut names = monitor.names(&server);
    names.retain(|name| name != "ping");
    assert!((90..=111).contains(&names.len()), "{}", names.len());
    assert!(names.iter().all(|name| name == "evalsha"), "{names:?}");

    let until = Instant::now() + Duration::from_secs(5);
    loop {
        // A day's quota of a million earns 11 a second.
        let left = limiter.peek("ada").await.unwrap()[0].remaining();
        if left >= 1_000_000 - 1_120 {
            break;
        }
        assert!(Instant::now() < until, "{left}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// 64 tasks that ask for one key: a command is under way at a time, and all who wait share the next one.
#[tokio::test]
async fn tasks_that_ask_for_one_key_share_their_commands() {
    let server = RedisServer::start();
    let store = patient_store(&server, Options::new()).await;
    let quota = Quota::per_second(1_000_000);
    let limiter = Limiter::new(store, quota.fail_closed()).prepaid(10);
    for _ in 0..20 {
        assert!(limiter.check("ada").await.is_admitted());
    }
    let mut monitor = server.monitor();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                assert!(limiter.check("ada").await.is_admitted());
            }
        });
    }
    tasks.join_all().await;
    let mut names = monitor.names(&server);
    names.retain(|name| name != "ping");
    // 64 and 10 in advance each time. At least ten for a command are promised.
    assert!(names.len() <= 640, "{}", names.len());
    assert!(names.iter().all(|name| name == "evalsha"), "{names:?}");
}

/// 8 instances, each with a connection of its own, that ask as fast as they can.
#[tokio::test(flavor = "multi_thread")]
async fn eight_instances_stay_within_the_bound() {
    let server = RedisServer::start();
    let (limit, most) = (1_000, 10);
    let policy = || Quota::per_second(limit).burst(200).fail_closed();
    let begun = Instant::now();
    let mut instances = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = patient_store(&server, Options::new()).await;
        let limiter = Limiter::new(store, policy()).prepaid(most);
        instances.spawn(async move {
            let mut passed = 0;
            while begun.elapsed() < Duration::from_secs(2) {
                match limiter.check("ada").await.is_admitted() {
                    true => passed += 1,
                    false => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
            passed
        });
    }
    let passed: u64 = instances.join_all().await.into_iter().sum();
    let time = begun.elapsed().as_micros() as u64;
    let bound = 200 + time * limit / 1_000_000 + 8 * most;
    assert!(passed <= bound, "{passed} of {bound}");
    assert!(passed >= bound * 3 / 4, "{passed} of {bound}");
}

/// Each time another key, which 8 instances ask at once for three times its burst: charged one by one, and in advance.
#[tokio::test(flavor = "multi_thread")]
async fn eight_instances_overshoot_by_no_more_than_is_stated() {
    let server = RedisServer::start();
    let (instances, asks, burst, limit) = (8, 40, 100, 100);
    for most in [0, 10] {
        let mut limiters = Vec::new();
        for _ in 0..instances {
            let store = patient_store(&server, Options::new()).await;
            let policy = Quota::per_second(limit).burst(burst);
            let policy = policy.name(&format!("prepaid {most}")).fail_closed();
            limiters.push(Limiter::new(store, policy).prepaid(most));
        }
        let mut highest = 0;
        for run in 0..scale(1_000) {
            let begun = Instant::now();
            let mut asking = tokio::task::JoinSet::new();
            for limiter in &limiters {
                let limiter = limiter.clone();
                asking.spawn(async move {
                    let mut passed = 0;
                    for _ in 0..asks {
                        passed += u64::from(limiter.check(run).await.is_admitted());
                    }
                    passed
                });
            }
            let passed: u64 = asking.join_all().await.into_iter().sum();
            // The server's clock is another one.
            let earned = begun.elapsed().as_micros() as u64 * limit / 1_000_000 + 1;
            let bound = burst + earned + instances * most;
            assert!(passed <= bound, "run {run}: {passed} of {bound}");
            assert!(passed + instances * most >= burst, "run {run}: {passed}");
            highest = highest.max(passed.saturating_sub(burst + earned));
        }
        println!("charged in advance {most}: at most {highest} over the burst and what was earned");
    }
}
