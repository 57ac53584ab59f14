//! The example `job-worker` as several processes on one Redis: each message is sent once, and none is lost at a deploy.

use std::{collections::BTreeMap, time::Duration};

use http::Request;
use tests::{Client, Process, RedisServer, Service, outage::now};
use tokio::time::sleep;

#[tokio::test]
async fn each_message_is_sent_once_and_none_is_lost_when_a_worker_is_replaced() {
    let redis = RedisServer::start();
    let [mut old, new] = [(); 2].map(|()| start(&redis, "20ms"));
    let begun = now();
    // Each comes twice, once at each process.
    let (mut one, mut other) = (old.connect().await, new.connect().await);
    for message in 0..MESSAGES {
        assert_eq!(offer(&mut one, message).await, 202);
        assert_eq!(offer(&mut other, message).await, 202);
    }
    // In the middle of its work.
    sleep(Duration::from_millis(500)).await;
    let told = now();
    old.terminate();
    assert!(old.wait().success(), "{:#?}", old.log());
    assert!(told.elapsed() < GRACE, "{:?}", told.elapsed());

    let until = now() + Duration::from_secs(20);
    let sent = loop {
        let sent = count(&[&old, &new], "sent ");
        if sent.len() == MESSAGES as usize {
            break sent;
        }
        assert!(
            now() < until,
            "{} of {MESSAGES} were sent: {sent:?}",
            sent.len()
        );
        sleep(Duration::from_millis(5)).await;
    };
    let took = begun.elapsed();
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
    assert!(count(&[&old], "left ").is_empty());
    // Ten a second over all processes, after the first.
    let fastest = Duration::from_millis(100) * (MESSAGES - 1);
    assert!(took >= fastest, "{took:?}");
}

/// 100 messages take ten seconds and more, which is the time that a process has.
#[tokio::test]
async fn a_worker_with_too_much_on_its_queue_lists_what_it_leaves() {
    let redis = RedisServer::start();
    let mut worker = start(&redis, "20ms");
    let mut client = worker.connect().await;
    for message in 0..140 {
        assert_eq!(offer(&mut client, message).await, 202);
    }
    drop(client);
    let told = now();
    worker.terminate();
    assert!(worker.wait().success(), "{:#?}", worker.log());
    assert!(told.elapsed() < GRACE, "{:?}", told.elapsed());
    let (sent, left) = (count(&[&worker], "sent "), count(&[&worker], "left "));
    assert!(sent.values().chain(left.values()).all(|times| *times == 1));
    assert!(
        sent.len() > 50 && !left.is_empty(),
        "{} {}",
        sent.len(),
        left.len()
    );
    // The workers themselves may have one message each, which waits for its turn.
    assert!(
        sent.len() + left.len() >= 140 - 4,
        "{} {}",
        sent.len(),
        left.len()
    );
}

async fn offer(client: &mut Client, message: u32) -> u16 {
    let request = Request::post(format!("/messages/{message}")).body(String::new());
    let response = client.send(request.expect("numbers are ASCII")).await;
    response.status().as_u16()
}

fn start(redis: &RedisServer, slow: &str) -> Service {
    let url = redis.url();
    let flags = ["--listen", "127.0.0.1:0", "--store", &url, "--slow", slow];
    Service::start("job-worker", &flags)
}

/// Counts how often each message was sent, or left.
fn count(workers: &[&Process], what: &str) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    let said = workers.iter().flat_map(|worker| worker.said());
    for line in said.filter(|line| line.starts_with(what)) {
        *times.entry(line[what.len()..].to_owned()).or_default() += 1;
    }
    times
}

const MESSAGES: u32 = 30;
/// The time that a worker has to end, and what a busy machine may add.
const GRACE: Duration = Duration::from_secs(13);
