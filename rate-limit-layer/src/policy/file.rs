//! Quotas and policies as they are written in a file (feature `serde`).

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{Block, FailureMode, Policy, Quota, policy::name_fault};

/// Reads the text of a quota: `"100/min burst 20"`.
impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let quota = text.parse();
        quota.map_err(|error| D::Error::custom(format_args!("{text:?}: {error}")))
    }
}

/// Writes the text of a quota: `"100/min;b=20"`.
impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a policy: `{"quota": "100/min burst 20", "fail": "open", "name": "api", "shadow": true}`.
///
/// `block` is `{"after": 10, "seconds": 60, "up_to_seconds": 3600}`, of which the last may be left out.
/// `fail` is `"open"`, `"closed"`, or `{"local": 4}` for four instances. It has no default. `name`, `shadow` and `block` may be left out.
/// Anything else is an error. Whom the policy counts is no matter of a file: write [`Policy::by`].
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = PolicyFile::deserialize(deserializer)?;
        let policy = Self::new(file.quota, file.fail.into());
        let policy = match file.shadow {
            true => policy.shadow(),
            false => policy,
        };
        let policy = match file.block {
            Some(block) => policy.block(block.read().map_err(D::Error::custom)?),
            None => policy,
        };
        match file.name {
            None => Ok(policy),
            Some(name) => match name_fault(&name) {
                None => Ok(policy.name(&name)),
                Some(fault) => Err(D::Error::custom(fault)),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "policy")]
struct PolicyFile {
    quota: Quota,
    fail: Fail,
    name: Option<String>,
    #[serde(default)]
    shadow: bool,
    block: Option<BlockFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "block")]
struct BlockFile {
    after: u32,
    seconds: u64,
    up_to_seconds: Option<u64>,
}

impl BlockFile {
    fn read(self) -> Result<Block, &'static str> {
        let block = Block::try_after(self.after, Duration::from_secs(self.seconds))?;
        match self.up_to_seconds {
            Some(longest) => block.try_up_to(Duration::from_secs(longest)),
            None => Ok(block),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fail {
    Open,
    Closed,
    Local(NonZeroU32),
}

impl From<Fail> for FailureMode {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Open => Self::Open,
            Fail::Closed => Self::Closed,
            Fail::Local(instances) => Self::Local(instances),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_str;

    use super::*;

    #[test]
    fn a_quota_is_its_text() {
        let quota = Quota::per_minute(100).burst(20);
        assert_eq!(from_str::<Quota>(r#""100/min burst 20""#).unwrap(), quota);
        let text = serde_json::to_string(&quota).unwrap();
        assert_eq!(text, r#""100/min;b=20""#);
        assert_eq!(from_str::<Quota>(&text).unwrap(), quota);
    }

    #[test]
    fn a_policy_has_what_its_file_says() {
        let bare: Policy = from_str(r#"{"quota": "5/s", "fail": "open"}"#).unwrap();
        assert_eq!(bare.quota(), Quota::per_second(5));
        assert_eq!(bare.failure_mode(), FailureMode::Open);
        assert!(bare.name.is_none() && !bare.is_shadow());
        let whole = r#"{"quota": "5/s", "fail": {"local": 4}, "name": "api", "shadow": true}"#;
        let whole: Policy = from_str(whole).unwrap();
        let local = FailureMode::Local(NonZeroU32::new(4).unwrap());
        assert_eq!(whole.failure_mode(), local);
        assert!(whole.name.as_deref() == Some("api") && whole.is_shadow());
        let closed: Policy = from_str(r#"{"quota": "5/s", "fail": "closed"}"#).unwrap();
        assert_eq!(closed.failure_mode(), FailureMode::Closed);
    }

    #[test]
    fn a_policy_has_the_block_of_its_file() {
        let read = |block: &str| -> Policy {
            from_str(&format!(
                r#"{{"quota": "5/s", "fail": "open", "block": {block}}}"#
            ))
            .unwrap()
        };
        let block = Block::after(10, Duration::from_secs(60));
        assert_eq!(read(r#"{"after": 10, "seconds": 60}"#).block, Some(block));
        let longer = read(r#"{"after": 10, "seconds": 60, "up_to_seconds": 3600}"#);
        assert_eq!(longer.block, Some(block.up_to(Duration::from_secs(3_600))));
    }

    #[test]
    fn an_error_says_what_to_write() {
        for (text, hint) in [
            (
                r#"{"quota": "many", "fail": "open"}"#,
                r#""many": not a quota: write one such as 100/min"#,
            ),
            (r#"{"quota": "0/s", "fail": "open"}"#, "write at least 1"),
            (r#"{"quota": 5, "fail": "open"}"#, "expected a string"),
            (
                r#"{"quota": "5/s", "fail": "open", "block": {"after": 0, "seconds": 60}}"#,
                "write Block::after(1, ..)",
            ),
            (
                r#"{"quota": "5/s", "fail": "open", "block": {"after": 1, "seconds": 60, "up_to_seconds": 1}}"#,
                "at least as long as the first",
            ),
            (
                r#"{"quota": "5/s", "fail": "open", "block": {"after": 1}}"#,
                "missing field `seconds`",
            ),
            (r#"{"quota": "5/s"}"#, "missing field `fail`"),
            (r#"{"fail": "open"}"#, "missing field `quota`"),
            (
                r#"{"quota": "5/s", "fail": "ajar"}"#,
                "expected one of `open`, `closed`, `local`",
            ),
            (r#"{"quota": "5/s", "fail": {"local": 0}}"#, "nonzero"),
            (
                r#"{"quota": "5/s", "fail": "open", "burst": 9}"#,
                "unknown field `burst`, expected one of",
            ),
            (
                r#"{"quota": "5/s", "fail": "open", "name": ""}"#,
                "write 1 to 64 printable ASCII characters",
            ),
            (
                r#"{"quota": "5/s", "fail": "open", "name": "a/peer"}"#,
                "does not end in /peer",
            ),
        ] {
            let error = from_str::<Policy>(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
