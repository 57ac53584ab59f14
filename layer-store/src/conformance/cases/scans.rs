use std::collections::BTreeSet;

use super::{CX, CaseResult, LONG, Trial, ms};
use crate::{
    Identity, IdentityRef, Key, KeyPrefix, KeySpace, ListedKey, Scan, Store, StoreError, StoreExt,
    conformance::unique, wrap::Prefix,
};

/// A scan lists each key that `put` or `add` wrote in its space, with identity and rest, and none of another space.
pub async fn a_scan_lists_the_keys_of_its_space(trial: &Trial) -> CaseResult {
    let store = trial.store();
    let name = unique();
    let space = KeySpace::new("data", &name);
    // One that begins with the name, one of another kind, one whose name is this one and a rest.
    let others = [
        KeySpace::new("data", &format!("{name}x")),
        KeySpace::new("other", &name),
        KeySpace::new("data", &format!("{name}:1")),
    ];
    let mut wanted = BTreeSet::new();
    for number in 0..120 {
        let rest = number.to_string();
        let rest = if number % 3 == 0 {
            rest.as_bytes()
        } else {
            b""
        };
        let key = Key::new(&space, IdentityRef::Int(number)).with_rest(rest);
        match number % 2 {
            0 => store.put(&CX, &key, &"1".into(), LONG).await?,
            _ => drop(store.add(&CX, &key, 1, Some(LONG)).await?),
        }
        wanted.insert(text(&key));
        for other in &others {
            let key = Key::new(other, IdentityRef::Int(number)).with_rest(rest);
            store.put(&CX, &key, &"1".into(), LONG).await?;
        }
    }
    let listed = list(store, Scan::new(&space)).await?;
    assert_eq!(texts(&listed), wanted);
    for key in listed {
        let Some(Identity::Int(number)) = key.identity() else {
            panic!("{} has another identity", key.as_str());
        };
        let rest = String::from_utf8(key.rest()).expect("every rest is a number");
        assert_eq!(
            rest,
            if number % 3 == 0 {
                number.to_string()
            } else {
                String::new()
            }
        );
    }
    Ok(())
}

/// A key that is there during a whole scan is listed, whatever is written and deleted between its pages.
pub async fn a_scan_misses_no_key_that_stays(trial: &Trial) -> CaseResult {
    let (store, space) = (trial.store(), KeySpace::new("data", &unique()));
    let stays: Vec<_> = (0..40)
        .map(|number| Key::new(&space, IdentityRef::Int(number)))
        .collect();
    for key in &stays {
        store.put(&CX, key, &"1".into(), LONG).await?;
    }
    let (mut listed, mut comes) = (BTreeSet::new(), 1_000);
    let mut scan = Scan::new(&space).limit(1);
    loop {
        let page = store.scan(&CX, &scan).await?;
        listed.extend(page.keys.iter().map(|key| key.as_str().to_owned()));
        let Some(next) = page.next else { break };
        scan = scan.from(next);
        if comes < 1_400 {
            let [key, goes] =
                [comes, comes - 5].map(|number| Key::new(&space, IdentityRef::Int(number)));
            store.put(&CX, &key, &"1".into(), LONG).await?;
            store.delete(&CX, &goes).await?;
            comes += 1;
        }
    }
    for key in &stays {
        assert!(listed.contains(&text(key)), "{} is missing", text(key));
    }
    Ok(())
}

/// A scan behind prefixes lists the keys behind exactly these, without them.
pub async fn a_scan_stays_within_its_prefixes(trial: &Trial) -> CaseResult {
    let space = KeySpace::new("data", &unique());
    let [a, b] = [unique(), unique()].map(|prefix| KeyPrefix::new(&prefix));
    let bare = trial.store().clone();
    let in_a = Prefix::new(bare.clone(), a.clone());
    let in_ab = Prefix::new(Prefix::new(bare.clone(), a.clone()), b.clone());
    let in_ba = Prefix::new(Prefix::new(bare.clone(), b), a);
    let key = |number| Key::new(&space, IdentityRef::Int(number));
    bare.put(&CX, &key(1), &"1".into(), LONG).await?;
    in_a.put(&CX, &key(2), &"1".into(), LONG).await?;
    in_ab.put(&CX, &key(3), &"1".into(), LONG).await?;
    in_ba.put(&CX, &key(4), &"1".into(), LONG).await?;
    let of = |number| BTreeSet::from([text(&key(number))]);
    let scan = Scan::new(&space);
    assert_eq!(texts(&list(&bare, scan).await?), of(1));
    assert_eq!(texts(&list(&in_a, scan).await?), of(2));
    assert_eq!(texts(&list(&in_ab, scan).await?), of(3));
    assert_eq!(texts(&list(&in_ba, scan).await?), of(4));
    Ok(())
}

/// Patterns, braces, line ends and bytes that are no UTF-8 are listed as they were written, and match nothing else. An identity
/// that is too long to be written out is listed by its hash. A rest that is too long hides its key.
pub async fn a_scan_lists_hostile_keys(trial: &Trial) -> CaseResult {
    let store = trial.store();
    let hostile = [
        &b"*"[..],
        b"?",
        b"[a-z]",
        b"\\",
        b"{",
        b"}",
        b"}:data:",
        b":",
        b"%",
        b"#",
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"",
    ];
    let spaces = hostile.map(|name| {
        let name = format!("{}{}", unique(), String::from_utf8_lossy(name));
        KeySpace::new("data", &name)
    });
    let long = vec![b'x'; 1 << 20];
    for space in &spaces {
        for name in hostile {
            let key = Key::new(space, IdentityRef::Text(name)).with_rest(name);
            store.put(&CX, &key, &"1".into(), LONG).await?;
        }
    }
    let hashed = Key::new(&spaces[0], IdentityRef::Text(&long));
    let hidden = Key::new(&spaces[0], IdentityRef::Int(1)).with_rest(&long);
    store.put(&CX, &hashed, &"1".into(), LONG).await?;
    store.put(&CX, &hidden, &"1".into(), LONG).await?;

    for (number, space) in spaces.iter().enumerate() {
        let listed = list(store, Scan::new(space)).await?;
        let (whole, hashes): (Vec<_>, Vec<_>) =
            listed.iter().partition(|key| key.identity().is_some());
        let names: BTreeSet<_> = whole.iter().map(|key| key.rest()).collect();
        assert_eq!(names, hostile.map(Vec::from).into());
        for key in whole {
            assert_eq!(key.identity(), Some(Identity::Text(key.rest().into())));
        }
        let wanted = if number == 0 {
            vec![text(&hashed)]
        } else {
            Vec::new()
        };
        assert!(hashes.iter().map(|key| key.as_str()).eq(wanted));
    }
    Ok(())
}

/// A space with nothing in it lists nothing, nor does one whose keys were deleted or have expired.
pub async fn a_scan_lists_what_is_there_alone(trial: &Trial) -> CaseResult {
    let store = trial.store();
    let [empty, used] = [unique(), unique()].map(|name| KeySpace::new("data", &name));
    assert!(list(store, Scan::new(&empty)).await?.is_empty());
    let [deleted, expired, stays] =
        [1, 2, 3].map(|number| Key::new(&used, IdentityRef::Int(number)));
    store.put(&CX, &deleted, &"1".into(), LONG).await?;
    store.put(&CX, &expired, &"1".into(), ms(20)).await?;
    store.put(&CX, &stays, &"1".into(), LONG).await?;
    store.delete(&CX, &deleted).await?;
    trial.pass(ms(20).as_duration()).await;
    if !trial.is_exact() {
        trial.pass(ms(20).as_duration()).await;
    }
    let listed = list(store, Scan::new(&used)).await?;
    assert_eq!(texts(&listed), BTreeSet::from([text(&stays)]));
    Ok(())
}

/// Lists all pages. A store may list a key twice.
async fn list(store: &impl Store, mut scan: Scan<'_>) -> Result<Vec<ListedKey>, StoreError> {
    let mut listed = Vec::new();
    loop {
        let page = store.scan(&CX, &scan).await?;
        listed.extend(page.keys);
        match page.next {
            Some(next) => scan = scan.from(next),
            None => break,
        }
    }
    listed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    listed.dedup();
    Ok(listed)
}

fn texts(listed: &[ListedKey]) -> BTreeSet<String> {
    listed.iter().map(|key| key.as_str().to_owned()).collect()
}

fn text(key: &Key<'_>) -> String {
    let mut text = Vec::new();
    key.render(&mut text);
    String::from_utf8(text).expect("the text of a key is ASCII")
}
