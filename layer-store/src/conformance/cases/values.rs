use super::{CX, CaseResult, LONG, Names, Trial, text};
use crate::{Store, StoreExt, Value};

/// Every way to read a key that was never written finds it absent.
pub async fn a_missing_key_is_absent(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("missing");
    assert_eq!(store.get(&CX, &key).await?, None);
    assert_eq!(store.get_many(&CX, &[key]).await?, [None]);
    assert!(!store.delete(&CX, &key).await?);
    assert_eq!(store.get(&CX, &key).await?, None);
    Ok(())
}

/// A value comes back as it was: all bytes, CR/LF and NUL among them, inline or a MiB long.
pub async fn a_value_is_kept_byte_for_byte(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("bytes");
    let all: Vec<u8> = (0..=255).collect();
    let values: [Vec<u8>; 6] = [
        vec![0],
        b"\r\n$-1\r\n".to_vec(),
        b"\xff\xfe\x00\x80".to_vec(),
        all.clone(),
        all.repeat(16),
        all.repeat(4096),
    ];
    for bytes in values {
        let value = Value::from(bytes.clone());
        store.put(&CX, &key, &value, LONG).await?;
        let read = store.get(&CX, &key).await?.map(|value| value.to_bytes());
        assert!(
            read.as_deref() == Some(&bytes[..]),
            "{} bytes came back as {:?}",
            bytes.len(),
            read.map(|read| read.len())
        );
    }
    Ok(())
}

/// An empty value is a value: the key is not absent.
pub async fn an_empty_value_is_not_a_missing_one(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("empty");
    let empty = Value::from("");
    store.put(&CX, &key, &empty, LONG).await?;
    assert_eq!(store.get(&CX, &key).await?, Some(empty.clone()));
    assert_eq!(store.get_many(&CX, &[key]).await?, [Some(empty.clone())]);
    let refused = store.put_if_absent(&CX, &key, &"late".into(), LONG).await?;
    assert_eq!(refused, Some(empty.clone()));
    assert!(store.compare_and_delete(&CX, &key, &empty).await?);
    assert_eq!(store.get(&CX, &key).await?, None);
    Ok(())
}

/// A pair of numbers and its text are one value, whichever was written.
pub async fn a_number_is_its_decimal_text(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let key = names.key("number");
    store.put(&CX, &key, &Value::pair(41, 7), LONG).await?;
    assert_eq!(text(store.get(&CX, &key).await?).as_deref(), Some("41:7"));
    let replaced = store
        .compare_and_set(&CX, &key, &"41:7".into(), &"42".into(), LONG)
        .await?;
    assert!(replaced);
    let read = store.get(&CX, &key).await?;
    assert_eq!(read.and_then(|value| value.as_pair()), Some((42, 0)));
    assert!(
        store
            .compare_and_delete(&CX, &key, &Value::pair(42, 0))
            .await?
    );
    // More digits than a floating-point number has.
    for large in [u64::MAX, (1 << 53) + 1] {
        store.put(&CX, &key, &Value::pair(large, 0), LONG).await?;
        let read = store.get(&CX, &key).await?;
        assert_eq!(text(read), Some(large.to_string()));
    }
    Ok(())
}

/// `get_many` has a value or nothing for each key, also for missing and repeated ones.
pub async fn get_many_replies_in_order(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [a, b, c] = ["a", "b", "c"].map(|identity| names.key(identity));
    store.put(&CX, &a, &"1".into(), LONG).await?;
    store.put(&CX, &c, &"3".into(), LONG).await?;
    let read = store.get_many(&CX, &[c, b, a, c]).await?;
    let read: Vec<_> = read.into_iter().map(text).collect();
    let wanted = [Some("3"), None, Some("1"), Some("3")];
    assert_eq!(read, wanted.map(|text| text.map(String::from)));
    Ok(())
}

/// A list of no keys or no operations is legal and has an empty reply.
pub async fn empty_lists_have_a_reply(trial: &Trial) -> CaseResult {
    let store = trial.store();
    assert_eq!(store.get_many(&CX, &[]).await?, []);
    assert_eq!(store.delete_many(&CX, &[]).await?, 0);
    assert!(store.batch(&CX, &[]).await?.is_empty());
    Ok(())
}

/// A ping has a reply, and `info` needs no call.
pub async fn ping_has_a_reply(trial: &Trial) -> CaseResult {
    trial.store().ping(&CX).await?;
    assert!(!trial.store().info().name.is_empty());
    Ok(())
}

/// A deletion replies 1 if there was a value, and 0 the second time.
pub async fn delete_reports_whether_there_was_one(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [key, other] = ["gone", "stays"].map(|identity| names.key(identity));
    store.put(&CX, &key, &"1".into(), LONG).await?;
    store.put(&CX, &other, &"2".into(), LONG).await?;
    assert!(store.delete(&CX, &key).await?);
    assert!(!store.delete(&CX, &key).await?);
    assert_eq!(store.get(&CX, &key).await?, None);
    assert_eq!(store.get(&CX, &other).await?, Some("2".into()));
    Ok(())
}

/// `delete_many` deletes all its keys, over several tags, and counts those that had a value.
pub async fn delete_many_deletes_and_counts_all(trial: &Trial) -> CaseResult {
    let (store, names) = (trial.store(), Names::fresh());
    let [a, b, c, other] = ["a", "b", "c", "other"].map(|identity| names.key(identity));
    for key in [&a, &c, &other] {
        store.put(&CX, key, &"1".into(), LONG).await?;
    }
    assert_eq!(store.delete_many(&CX, &[a, b, c]).await?, 2);
    let read = store.get_many(&CX, &[a, b, c, other]).await?;
    assert_eq!(read, [None, None, None, Some("1".into())]);
    assert_eq!(store.delete_many(&CX, &[a, b, c]).await?, 0);
    Ok(())
}
