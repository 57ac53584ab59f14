//! The cases of the docs (`lock_layer`, "When two may hold") in which a lock alone does not prevent a double booking, and a
//! fencing token does.
//!
//! One service has checked that the days are free, and takes its time before it writes. Meanwhile something happens to its lock,
//! and another service books a day of it.

use std::{thread, time::Duration};

use tests::{RedisServer, RedisSite, Service, SiteFault, outage::now};

use crate::{
    bookings::{DbFile, FLAGS},
    round::doubles,
    wish::{Wish, bookings},
};

/// The scene of a case: where the first booking is under way, and who has its lock.
struct Scene {
    site: RedisSite,
    first: Service,
    /// A replica that was promoted before the lock was taken, if the case asked for one.
    replica: Option<RedisServer>,
}

type Happens = fn(&mut Scene);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_between_its_check_and_its_write_books_a_day_twice() {
    only_a_fence_helps(|scene| {
        scene.first.pause();
        thread::sleep(3 * LEASE);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_lets_two_book_a_day() {
    only_a_fence_helps(|scene| scene.site.suffer(SiteFault::Flush)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_lets_two_book_a_day() {
    only_a_fence_helps(|scene| scene.site.suffer(SiteFault::Evict)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_deleted_lets_two_book_a_day() {
    only_a_fence_helps(|scene| {
        let server = scene.site.server();
        for key in server.command::<Vec<String>>(&["KEYS", "*:unit:*"]) {
            let _: u64 = server.command(&["DEL", &key]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_data_lets_two_book_a_day() {
    only_a_fence_helps(|scene| scene.site.suffer(SiteFault::KillEmpty)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_replica_without_the_lock_lets_two_book_a_day() {
    only_a_fence_helps(|scene| {
        let replica = scene.replica.take().expect("there is one");
        scene.site.fail_over_to(replica);
    })
    .await;
}

/// A jump of the server's clock ends leases early. Here they are ended by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_early_lets_two_book_a_day() {
    only_a_fence_helps(|scene| {
        let server = scene.site.server();
        for key in server.command::<Vec<String>>(&["KEYS", "*:unit:*"]) {
            let _: u64 = server.command(&["PEXPIRE", &key, "1"]);
        }
    })
    .await;
}

/// Its holder is told in time, and does not listen: `booking` writes without asking whether its lock is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_for_a_lease_lets_those_who_do_not_look_book_a_day_twice() {
    only_a_fence_helps(|scene| scene.site.suffer(SiteFault::Pause(3 * LEASE))).await;
}

/// What does not make a server forget makes no double booking, whatever is written.
#[tokio::test(flavor = "multi_thread")]
async fn no_fence_is_needed_where_nothing_is_forgotten() {
    for fault in [
        SiteFault::KillWithLog,
        SiteFault::Disconnect,
        SiteFault::DropReplies,
    ] {
        let file = DbFile::new();
        let happens = |scene: &mut Scene| scene.site.suffer(fault);
        let statuses = book_two(&file, &["--no-fences"], "10s", happens).await;
        assert_eq!(statuses, [201, 409], "{fault:?}");
    }
}

/// Without fencing tokens both book. With them, the second alone.
async fn only_a_fence_helps(happens: Happens) {
    for (fences, statuses, twice) in [(&["--no-fences"][..], [201, 201], 1), (&[], [503, 201], 0)] {
        let file = DbFile::new();
        assert_eq!(
            book_two(&file, fences, "300ms", happens).await,
            statuses,
            "{fences:?}"
        );
        let memory = [&FLAGS[..], &["--db", file.path(), "--no-constraint"]].concat();
        let service = Service::start("booking", &memory);
        let made = bookings(&mut service.connect().await, CAR).await;
        assert_eq!(doubles(&made), twice, "{made:?}");
    }
}

/// Returns the statuses of two bookings of one day. The second comes when something has happened to the lock of the first.
async fn book_two(
    file: &DbFile,
    fences: &[&str],
    lease: &str,
    happens: impl FnOnce(&mut Scene),
) -> [u16; 2] {
    let site = RedisSite::start();
    let url = site.url();
    let more = [
        "--store",
        &url,
        "--db",
        file.path(),
        "--no-constraint",
        "--lease",
        lease,
    ];
    let flags = [&FLAGS[..], &more, fences].concat();
    let first = Service::start("booking", &[&flags[..], &["--slow", "8s"]].concat());
    let second = Service::start("booking", &flags);
    let replica = site.promoted_replica();

    let mut client = first.connect().await;
    let booking = tokio::spawn(async move { wish().send(&mut client).await });
    // A lock that is watched, and not only taken.
    tokio::time::sleep(2 * LEASE).await;
    let mut scene = Scene {
        site,
        first,
        replica: Some(replica),
    };
    happens(&mut scene);
    let status = insist(&second).await;
    scene.first.resume();
    let first = booking.await.expect("the first is answered");
    [first.status().as_u16(), status]
}

/// Books until there is a booking, or until the first is about to be written, on a busy machine too.
async fn insist(service: &Service) -> u16 {
    let until = now() + Duration::from_secs(4);
    loop {
        let response = wish().send(&mut service.connect().await).await;
        let status = response.status().as_u16();
        if status == 201 || now() > until {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns a wish under a key of its own.
fn wish() -> Wish {
    Wish::new(CAR, "2030-01-01", "2030-01-02")
}

const CAR: u32 = 7;
const LEASE: Duration = Duration::from_millis(300);
