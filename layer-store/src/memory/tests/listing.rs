use super::*;
use crate::{IdentityRef, Page, Scan};

fn page(store: &MemoryStore, scan: Scan<'_>) -> Page {
    let reply = store.call_now(&Op::Scan(&scan), &CX).unwrap();
    reply.unwrap().into_page().unwrap()
}

/// Lists all pages. Returns the numbers, in order, and how many pages there were.
fn list(store: &MemoryStore, mut scan: Scan<'_>) -> (Vec<u64>, usize) {
    let (mut numbers, mut pages) = (Vec::new(), 0);
    loop {
        let page = page(store, scan);
        pages += 1;
        assert!(page.keys.len() <= scan.max_keys() as usize);
        numbers.extend(page.keys.iter().map(|key| match key.identity() {
            Some(Identity::Int(number)) => number,
            other => panic!("{other:?}"),
        }));
        match page.next {
            Some(next) => scan = scan.from(next),
            None => break,
        }
    }
    numbers.sort_unstable();
    (numbers, pages)
}

#[test]
fn each_key_is_listed_once_whatever_the_limit() {
    let (store, _clock) = store(10_000);
    for number in 0..500 {
        set(&store, number, millis(1_000), Retention::Evictable).unwrap();
    }
    let space = KeySpace::new("data", "");
    for limit in [1, 7, 499, 500, 501] {
        let (numbers, pages) = list(&store, Scan::new(&space).limit(limit));
        assert!(numbers.into_iter().eq(0..500), "{limit}");
        // A scan knows that it is at its end when it has looked there.
        let least = 500_usize.div_ceil(limit as usize);
        assert!((least..=least + 1).contains(&pages), "{limit}: {pages}");
    }
}

#[test]
fn what_a_program_wrote_is_listed_once_a_set_wrote_it_too() {
    let (store, clock) = store(100);
    let space = KeySpace::new("data", "");
    let listed = || list(&store, Scan::new(&space)).0;
    write(&store, 1, 1_000).unwrap();
    assert_eq!(listed(), []);
    set(&store, 1, millis(1_000), Retention::Pinned).unwrap();
    assert_eq!(listed(), [1]);
    write(&store, 1, 1_000).unwrap();
    assert_eq!(listed(), [1]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(listed(), []);
    // The entry of an expired key is still the same one.
    write(&store, 1, 1_000).unwrap();
    write(&store, 2, 1_000).unwrap();
    assert!(listed().len() <= 1);
}

/// A page holds the locks for a short time, also if nothing is there to be listed.
#[test]
fn a_page_looks_at_some_thousand_places_at_most() {
    let (store, _clock) = store(100_000);
    for number in 0..50_000 {
        set(&store, number, millis(1_000), Retention::Evictable).unwrap();
    }
    let other = KeySpace::new("data", "other");
    let (numbers, pages) = list(&store, Scan::new(&other));
    assert_eq!(numbers, []);
    assert!((10..=30).contains(&pages), "{pages}");
    // Entries without texts cost nothing.
    let (store, _clock) = self::store(100_000);
    for number in 0..50_000 {
        write(&store, number, 1_000).unwrap();
    }
    assert_eq!(list(&store, Scan::new(&other)), (vec![], 1));
}

#[test]
fn a_cursor_of_another_store_lists_nothing() {
    let (store, _clock) = store(100);
    set(&store, 1, millis(1_000), Retention::Pinned).unwrap();
    let space = KeySpace::new("data", "");
    let page = page(&store, Scan::new(&space).from(crate::Cursor::new(u64::MAX)));
    assert!(page.keys.is_empty() && page.next.is_none());
}

/// A limiter's entries carry no text, and neither does what they leave behind.
#[test]
fn a_shard_that_programs_alone_wrote_to_has_no_texts() {
    let (store, _clock) = store(10);
    let space = KeySpace::new("data", "");
    let key = Key::new(&space, IdentityRef::Int(1));
    write(&store, 1, 1_000).unwrap();
    assert!(!store.0.shard(&key).lock().has_texts());
    set(&store, 1, millis(1_000), Retention::Pinned).unwrap();
    assert!(store.0.shard(&key).lock().has_texts());
}
