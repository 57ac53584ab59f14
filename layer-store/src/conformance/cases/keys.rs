use super::{CX, CaseResult, LONG, Names, Trial};
use crate::{
    Arg, Identity, Key, KeyPrefix, KeySpace, Store, StoreExt, Value,
    conformance::{programs::LIMITED, unique},
    wrap::Prefix,
};

/// Whatever an identity or rest holds (patterns, braces, line ends, NUL, bytes that are no UTF-8, a megabyte), it names one
/// value, its own.
pub async fn hostile_keys_are_apart(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let parts = hostile_parts();
    let mut keys: Vec<Key<'_>> = Vec::new();
    for part in &parts {
        keys.push(names.key_of(part));
        keys.push(names.key("plain").with_rest(part));
    }
    keys.push(names.key("plain"));

    for (number, key) in keys.iter().enumerate() {
        let own = Value::pair(number as u64, 0);
        let before = store.put_if_absent(&CX, key, &own, LONG).await?;
        assert_eq!(before, None, "key {number} is another one's");
    }
    for (number, key) in keys.iter().enumerate() {
        let read = store.get(&CX, key).await?;
        assert_eq!(read, Some(Value::pair(number as u64, 0)), "key {number}");
    }
    // Deleting or counting one of them touches no other.
    let mut left = keys.len();
    while let Some(key) = keys.pop() {
        let args = [Arg::Int(i64::MAX), Arg::Int(60_000)];
        let counted = store.run(&CX, &LIMITED, &[key], &args).await?;
        assert_eq!(counted.int(1), Some(left as i64), "key {}", left - 1);
        assert!(store.delete(&CX, &key).await?);
        left -= 1;
        let others = store.get_many(&CX, &keys).await?;
        assert_eq!(others.iter().flatten().count(), left);
    }
    Ok(())
}

/// (`a`, `bc`), (`ab`, `c`) and their like are different keys, and so are a number and its text.
pub async fn parts_of_a_key_do_not_run_together(trial: &Trial) -> CaseResult {
    let store = trial.store();
    let names: Vec<_> = ["", "a", "ab", "a:b", "b", "b:a"]
        .map(|name| format!("{}{name}", unique()))
        .into();
    let spaces: Vec<_> = names
        .iter()
        .map(|name| KeySpace::new("data", name))
        .collect();
    let identities = [
        Identity::from("a"),
        Identity::from("a:b"),
        Identity::from("ab"),
        Identity::from("7"),
        Identity::from("int:7"),
        Identity::from("ip:192.0.2.7"),
        Identity::from("192.0.2.7"),
        Identity::Int(7),
        Identity::V4(0xc000_0207),
        Identity::V6(7),
        Identity::from(""),
    ];
    let mut keys = Vec::new();
    for space in &spaces {
        for identity in &identities {
            for rest in ["", "a", "b", "a:b", "ab", "7"] {
                keys.push(Key::new(space, identity.as_ref()).with_rest(rest.as_bytes()));
            }
        }
    }
    for (number, key) in keys.iter().enumerate() {
        let own = Value::pair(number as u64, 0);
        let before = store.put_if_absent(&CX, key, &own, LONG).await?;
        assert_eq!(before, None, "key {number}, {key:?}, is another one's");
    }
    assert_eq!(store.delete_many(&CX, &keys).await?, keys.len() as u64);
    Ok(())
}

/// A key behind one prefix, another, none, and two nested in either order is five keys, also to programs.
pub async fn prefixes_are_apart(trial: &Trial) -> CaseResult {
    let names = Names::fresh();
    let [a, b] = [unique(), unique()].map(|prefix| KeyPrefix::new(&prefix));
    let within = |store, prefix: &KeyPrefix| Prefix::new(store, prefix.clone());
    let bare = trial.store().clone();
    let in_a = within(bare.clone(), &a);
    let in_b = within(bare.clone(), &b);
    let in_ab = Prefix::new(within(bare.clone(), &a), b.clone());
    let in_ba = Prefix::new(within(bare.clone(), &b), a.clone());

    let key = names.key("shared");
    count_to(&bare, &key, 1).await?;
    count_to(&in_a, &key, 2).await?;
    count_to(&in_b, &key, 3).await?;
    count_to(&in_ab, &key, 4).await?;
    count_to(&in_ba, &key, 5).await?;
    assert_eq!(bare.get(&CX, &key).await?, Some(Value::pair(1, 0)));
    assert_eq!(in_a.get(&CX, &key).await?, Some(Value::pair(2, 0)));

    assert_eq!(in_a.delete_many(&CX, &[key]).await?, 1);
    assert_eq!(in_a.get(&CX, &key).await?, None);
    assert_eq!(bare.get(&CX, &key).await?, Some(Value::pair(1, 0)));
    assert_eq!(in_b.get(&CX, &key).await?, Some(Value::pair(3, 0)));
    assert_eq!(in_ab.get(&CX, &key).await?, Some(Value::pair(4, 0)));
    assert_eq!(in_ba.get(&CX, &key).await?, Some(Value::pair(5, 0)));
    Ok(())
}

/// Counts `key` from nothing, as often as the argument says.
async fn count_to(store: &impl Store, key: &Key<'_>, count: i64) -> CaseResult {
    let args = [Arg::Int(i64::MAX), Arg::Int(600_000)];
    for count in 1..=count {
        let counted = store.run(&CX, &LIMITED, &[*key], &args).await?;
        assert_eq!(counted.int(1), Some(count), "somebody else counts here");
    }
    Ok(())
}

fn hostile_parts() -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = [
        &b"*"[..],
        b"?",
        b"[a-z]*",
        b"\\",
        b"\\*",
        b"{",
        b"}",
        b"{}",
        b"{plain}",
        b"}{",
        b"a",
        b"a ",
        b"A",
        b"a:",
        b":",
        b"%",
        b"%2A",
        b"#",
        b"\r\n",
        b"\n",
        b"\0",
        b"a\0",
        b"\xff",
        b"\xff\xfe",
        b"\xef\xbf\xbd",
        b"\r\nFLUSHALL\r\n",
        b"plain:data",
    ]
    .map(Vec::from)
    .into();
    // Just below and above the length that is written out, and a megabyte, differing in the last byte alone.
    for length in [127, 128, 129, 1 << 20] {
        for last in *b"xy" {
            let mut part = vec![b'x'; length];
            part[length - 1] = last;
            parts.push(part);
        }
    }
    parts
}
