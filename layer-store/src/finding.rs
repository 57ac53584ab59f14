use std::fmt;

#[cfg(feature = "redis")]
use crate::ConfigError;

/// Something about a server that a store on it should know. [`SharedStore::doctor`](crate::SharedStore::doctor) returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The subject.
    pub kind: FindingKind,
    /// The severity.
    pub severity: Severity,
    /// The meaning, and the cure.
    pub text: String,
}

/// The subject of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// The version is older than 7.0. Scripts stand in for what it lacks, or it is too old for that.
    OldVersion,
    /// The server does not tell its version, so that nothing else is known of it.
    UnknownVersion,
    /// The server runs no scripts for this user.
    NoScripts,
    /// Commands are missing or were renamed.
    MissingCommands,
    /// A full server evicts values before their end.
    Eviction,
    /// A restart of the server forgets everything.
    NoPersistence,
    /// A restart of the server forgets the last minutes: it writes snapshots, and no append-only file.
    Snapshots,
    /// A crash of the server's machine forgets the last second or more: its append-only file is not brought to the disk at each command.
    LateFsync,
    /// The server has replicas. One that is promoted may not have heard of the last writes.
    Replicated,
    /// The server is a replica, which takes no writes.
    Replica,
    /// The server is a node of a Cluster, which has a part of the keys.
    ClusterNode,
    /// The server does not speak RESP3, so that it sends no hints of changed keys.
    Resp2,
}

/// The severity of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Everything works. Logged as information.
    Notice,
    /// Something does not work, or not always. Logged as a warning.
    Warning,
    /// The store cannot work. An error of [`connect`](crate::connect()).
    Fatal,
}

impl Finding {
    #[cfg(feature = "redis")]
    pub(crate) fn new(kind: FindingKind, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            kind,
            severity,
            text: text.into(),
        }
    }

    /// Checks findings against those that [`connect`](crate::connect()) refuses: the fatal ones, and the kinds in `refused`.
    ///
    /// # Errors
    ///
    /// The first that is refused.
    #[cfg(feature = "redis")]
    pub(crate) fn check(
        address: &str,
        findings: &[Self],
        refused: &[FindingKind],
    ) -> Result<(), ConfigError> {
        let refused = findings
            .iter()
            .find(|finding| finding.severity == Severity::Fatal || refused.contains(&finding.kind));
        match refused {
            None => Ok(()),
            Some(finding) => Err(ConfigError::new(format!("cannot use {address}: {finding}"))),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FindingKind {
    /// Returns a short name, such as `no-scripts`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OldVersion => "old-version",
            Self::UnknownVersion => "unknown-version",
            Self::NoScripts => "no-scripts",
            Self::MissingCommands => "missing-commands",
            Self::Eviction => "eviction",
            Self::NoPersistence => "no-persistence",
            Self::Snapshots => "snapshots",
            Self::LateFsync => "late-fsync",
            Self::Replicated => "replicated",
            Self::Replica => "replica",
            Self::ClusterNode => "cluster-node",
            Self::Resp2 => "resp2",
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn fatal_findings_and_those_that_the_user_names_are_refused() {
        let finding = |kind, severity| Finding::new(kind, severity, "say what to do");
        let warning = finding(FindingKind::Eviction, Severity::Warning);
        let notice = finding(FindingKind::NoPersistence, Severity::Notice);
        let fatal = finding(FindingKind::OldVersion, Severity::Fatal);
        let harmless = [warning, notice];
        assert!(Finding::check("redis://h", &harmless, &[]).is_ok());
        assert!(Finding::check("redis://h", &harmless, &[FindingKind::Replica]).is_ok());
        for kind in [FindingKind::Eviction, FindingKind::NoPersistence] {
            let error =
                Finding::check("redis://h", &harmless, &[FindingKind::Replica, kind]).unwrap_err();
            assert_eq!(error.to_string(), "cannot use redis://h: say what to do");
        }
        assert!(Finding::check("redis://h", &[fatal], &[]).is_err());
    }
}
