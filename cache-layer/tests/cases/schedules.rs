//! Orders of events that would lead to an old response if one rule of purges were missing, the shortest for each rule.
//!
//! A and B are readers, X is a writer. In the end, no request that came after the purge may see v1.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use cache_layer::{Invalidation, ResponseCache, Tags, store::SharedStore};
use http::{HeaderValue, Request, header::CACHE_CONTROL};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{FRESH, Handler, Reply, Site, eventually, gate::Gate, request, response};

const STALE: HeaderValue =
    HeaderValue::from_static("max-age=60, stale-while-revalidate=600, stale-if-error=600");

/// A database with one version, two readers and a writer on one store, each with a gate of its own.
struct World {
    version: Arc<AtomicUsize>,
    /// A permit for each response that a handler may give.
    answers: Arc<Semaphore>,
    way_a: Gate,
    a: Site,
    b: Site,
    way_x: Gate,
    x: ResponseCache,
}

impl World {
    fn new(store: &SharedStore) -> Self {
        let version = Arc::new(AtomicUsize::new(1));
        let answers = Arc::new(Semaphore::new(0));
        let (way_a, way_x) = (Gate::new(store), Gate::new(store));
        let handler = |version: &Arc<AtomicUsize>, answers: &Arc<Semaphore>| {
            let (version, answers) = (version.clone(), answers.clone());
            Handler::new(move |request: Request<String>, _| {
                let read = version.load(SeqCst);
                let answers = answers.clone();
                async move {
                    answers.acquire().await.unwrap().forget();
                    let mut answer = response(&[FRESH], format!("v{read}"));
                    match request.uri().query() {
                        Some("tagged") => {
                            answer.extensions_mut().insert(Tags::new(["t"]));
                        }
                        Some("stale") => {
                            answer.headers_mut().insert(CACHE_CONTROL, STALE);
                        }
                        _ => {}
                    }
                    answer
                }
            })
        };
        Self {
            a: Site::of_stamps(&way_a.store(), handler(&version, &answers)),
            b: Site::of_stamps(store, handler(&version, &answers)),
            x: ResponseCache::new(way_x.store()),
            version,
            answers,
            way_a,
            way_x,
        }
    }

    fn commit(&self) {
        self.version.fetch_add(1, SeqCst);
    }

    /// Lets one handler answer with what it has read.
    fn answer(&self) {
        self.answers.add_permits(1);
    }

    /// A has looked up, planted its stamps, and its handler has read v1.
    async fn a_reads(&self, page: &'static str) -> JoinHandle<Reply> {
        let calls = self.a.calls();
        let reading = start(&self.a, page);
        eventually("A's handler has read", || self.a.calls() > calls).await;
        reading
    }

    /// All requests that come now get v2, and go on getting it.
    async fn everybody_reads_v2(&self, page: &'static str) {
        self.answers.add_permits(100);
        for site in [&self.b, &self.a, &self.b, &self.a] {
            assert_eq!(site.get(page).await.body, "v2");
        }
    }
}

fn start(site: &Site, page: &'static str) -> JoinHandle<Reply> {
    let site = site.clone();
    tokio::spawn(async move { site.try_send(request(page, &[])).await.unwrap() })
}

pub async fn a_missing_stamp_is_a_miss(store: SharedStore) {
    let world = World::new(&store);
    let a = world.a_reads("/page").await;
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    world.answer();
    assert_eq!(a.await.unwrap().body, "v1");
    world.everybody_reads_v2("/page").await;
}

/// Not even while it is revalidated, where the answer itself allows that (RFC 5861).
pub async fn a_missing_stamp_is_never_stale_but_usable(store: SharedStore) {
    let world = World::new(&store);
    let a = world.a_reads("/page?stale").await;
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    world.answer();
    assert_eq!(a.await.unwrap().body, "v1");
    // The entry stands; its handler is withheld, and nobody is answered meanwhile.
    let b = start(&world.b, "/page?stale");
    eventually("B's handler has read", || world.b.calls() == 1).await;
    assert!(!b.is_finished());
    world.everybody_reads_v2("/page?stale").await;
    assert_eq!(b.await.unwrap().body, "v2");
}

pub async fn the_snapshot_is_that_of_the_lookup(store: SharedStore) {
    let world = World::new(&store);
    let a = world.a_reads("/page").await;
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    // B plants new stamps, which A's answer must not stand on.
    let b = start(&world.b, "/page");
    eventually("B's handler has read", || world.b.calls() == 1).await;
    world.answer();
    a.await.unwrap();
    world.everybody_reads_v2("/page").await;
    assert_eq!(b.await.unwrap().body, "v2");
}

pub async fn stamps_are_planted_before_the_handler_begins(store: SharedStore) {
    let world = World::new(&store);
    world.way_a.close();
    let a = start(&world.a, "/page");
    world.way_a.next("get_many").await.pass().await;
    let plant = world.way_a.next("batch").await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.a.calls(), 0, "the handler waits for its stamps");
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    plant.pass().await;
    world.way_a.open();
    world.answer();
    assert_eq!(a.await.unwrap().body, "v2");
    world.everybody_reads_v2("/page").await;
}

pub async fn a_plant_is_sent_once(store: SharedStore) {
    let world = World::new(&store);
    world.way_a.close();
    let a = start(&world.a, "/page");
    world.way_a.next("get_many").await.pass().await;
    let mut plant = world.way_a.next("batch").await;
    plant.apply().await;
    plant.lose();
    eventually("A's handler has read", || world.a.calls() == 1).await;
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    world.answer();
    let reply = a.await.unwrap();
    assert_eq!(
        (reply.body.as_str(), reply.cache_status().as_str()),
        ("v1", "cache; fwd=miss; detail=store-down")
    );
    assert!(
        world.way_a.take().is_empty(),
        "nothing was planted again, and nothing stored"
    );
    world.way_a.open();
    world.everybody_reads_v2("/page").await;
}

pub async fn a_follower_needs_a_lookup_of_its_own(store: SharedStore) {
    let world = World::new(&store);
    let first = world.a_reads("/page").await;
    let follower = start(&world.a, "/page");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.a.calls(), 1, "while the stamps stand, others wait");
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    // Another request of the same instance: it may not have what began before the purge.
    let second = world.a_reads("/page").await;
    world.answers.add_permits(2);
    assert_eq!(first.await.unwrap().body, "v1");
    assert_eq!(
        follower.await.unwrap().body,
        "v1",
        "a fill whose stamps fell keeps its followers"
    );
    assert_eq!(second.await.unwrap().body, "v2");
    world.everybody_reads_v2("/page").await;
}

pub async fn a_lookup_is_not_shared(store: SharedStore) {
    let world = World::new(&store);
    world.answer();
    assert_eq!(world.a.get("/page").await.body, "v1");
    world.way_a.close();
    let first = start(&world.a, "/page");
    let mut lookup = world.way_a.next("get_many").await;
    lookup.apply().await;
    world.commit();
    world.x.purge_path("/page").await.unwrap();
    let second = start(&world.a, "/page");
    world.way_a.next("get_many").await.pass().await;
    lookup.answer();
    assert_eq!(first.await.unwrap().body, "v1");
    world.way_a.next("batch").await.pass().await;
    world.way_a.open();
    world.answer();
    assert_eq!(second.await.unwrap().body, "v2");
    world.everybody_reads_v2("/page").await;
}

pub async fn the_epoch_is_deleted_before_the_tag(store: SharedStore) {
    let world = World::new(&store);
    world.way_x.split();
    let a = world.a_reads("/page?tagged").await;
    world.commit();
    world.way_x.close();
    let purge = world.x.purge_tag("t");
    world.way_x.next("delete").await.pass().await;
    // Between the two, A reads or plants the tag's stamp, compares the epoch, and stores if it may.
    world.answer();
    a.await.unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    world.way_x.next("delete").await.pass().await;
    purge.await.unwrap();
    world.everybody_reads_v2("/page?tagged").await;
}

pub async fn the_epoch_is_compared_after_the_tags_are_read(store: SharedStore) {
    let world = World::new(&store);
    let a = world.a_reads("/page?tagged").await;
    world.way_a.split();
    world.way_a.close();
    world.commit();
    world.answer();
    // A learns of the tag: two commands on a Cluster, and the purge between them.
    eventually("A asks for the tag", || !world.way_a.is_idle()).await;
    for held in world.way_a.take() {
        held.pass().await;
    }
    world.x.purge_tag("t").await.unwrap();
    world.way_a.drain().await;
    world.way_a.open();
    a.await.unwrap();
    world.everybody_reads_v2("/page?tagged").await;
}

pub async fn a_purge_of_a_tag_that_is_named_later_is_seen(store: SharedStore) {
    let world = World::new(&store);
    let a = world.a_reads("/page?tagged").await;
    world.commit();
    world.x.purge_tag("t").await.unwrap();
    // A learns of the tag only now, and finds or plants a stamp that knows nothing of the purge.
    world.answer();
    a.await.unwrap();
    world.everybody_reads_v2("/page?tagged").await;
}

pub async fn scopes_are_purged_in_the_order_given(store: SharedStore) {
    let way = Gate::new(&store);
    way.split();
    let handler = Handler::new(|_, n| async move {
        let mut answer = response(&[FRESH], n.to_string());
        answer
            .extensions_mut()
            .insert(Invalidation::key("inner").and_tag("t").and_path("/outer"));
        answer
    });
    let site = Site::of_stamps(&way.store(), handler);
    // Behind a gate, so that it reads the stamps each time: in memory a purge is seen when it is over.
    let open = Gate::new(&store).store();
    let watching = Site::of_stamps(&open, Handler::text(&[FRESH], |_, n| n.to_string()));
    let object = || {
        let minute = std::time::Duration::from_secs(60);
        let loads = Arc::new(AtomicUsize::new(0));
        let (cache, seen) = (watching.cache.clone(), loads.clone());
        async move {
            let load = || async move {
                loads.fetch_add(1, SeqCst);
                Ok::<_, ()>("object".into())
            };
            cache
                .objects()
                .get_or_insert_with("inner", minute, &[], load)
                .await
                .unwrap();
            seen.load(SeqCst) == 0
        }
    };
    object().await;
    watching.get("/outer").await;
    way.close();
    let posting = tokio::spawn({
        let site = site.clone();
        async move {
            site.send(Request::post("/change").body(String::new()).unwrap())
                .await
        }
    });
    assert!(object().await && watching.get("/outer").await.is_hit());
    way.next("delete").await.pass().await;
    assert!(
        !object().await && watching.get("/outer").await.is_hit(),
        "the inner one goes first"
    );
    way.next("delete").await.pass().await;
    way.next("delete").await.pass().await;
    assert!(watching.get("/outer").await.is_hit());
    way.next("delete").await.pass().await;
    assert!(!watching.get("/outer").await.is_hit());
    way.next("delete").await.pass().await;
    posting.await.unwrap();
}

pub async fn an_invalidation_waits_for_the_handler(store: SharedStore) {
    let way = Gate::new(&store);
    let commit = Arc::new(Semaphore::new(0));
    let inside = commit.clone();
    let handler = Handler::new(move |_, _| {
        let commit = inside.clone();
        async move {
            commit.acquire().await.unwrap().forget();
            let mut answer = response(&[], "changed");
            answer.extensions_mut().insert(Invalidation::path("/page"));
            answer
        }
    });
    let site = Site::of_stamps(&way.store(), handler);
    way.close();
    let posting = tokio::spawn({
        let site = site.clone();
        async move {
            site.send(Request::post("/change").body(String::new()).unwrap())
                .await
        }
    });
    eventually("the handler runs", || site.calls() == 1).await;
    assert!(way.is_idle(), "nothing is purged before the commit");
    commit.add_permits(1);
    let purge = way.next("delete_many").await;
    assert!(!posting.is_finished(), "the client waits for the purge");
    purge.pass().await;
    assert_eq!(posting.await.unwrap().body, "changed");
}

pub async fn a_follower_needs_the_epoch(store: SharedStore) {
    let world = World::new(&store);
    let first = world.a_reads("/page?tagged").await;
    world.commit();
    world.x.purge_tag("t").await.unwrap();
    // The stamps of the path stand; the tag that the handler is going to name was purged.
    let second = world.a_reads("/page?tagged").await;
    world.answers.add_permits(2);
    assert_eq!(first.await.unwrap().body, "v1");
    assert_eq!(second.await.unwrap().body, "v2");
    world.everybody_reads_v2("/page?tagged").await;
}
