//! The risks of a store for what is kept in it: the findings about its server, weighed for locks and for records.

use std::{error::Error, fmt};

use layer_store::{Finding, FindingKind, Severity, StoreInfo};

/// A use of a store, which decides how bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreUse {
    Locks,
    /// Records of runs that must not be repeated.
    AtMostOnce,
    /// Records of runs that may be repeated.
    RetrySafe,
}

/// A store is not fit for its use. See [`IdempotencyLayer::checked`](crate::IdempotencyLayer::checked).
#[derive(Clone, Debug)]
pub struct UnfitStore {
    findings: Box<[Finding]>,
}

impl StoreUse {
    /// Returns what is known of the store's server, with the severity and the meaning that it has for this use.
    pub(crate) fn findings(self, info: &StoreInfo) -> Vec<Finding> {
        info.findings
            .iter()
            .map(|finding| self.weigh(finding))
            .collect()
    }

    /// Checks that there is nothing fatal.
    pub(crate) fn check(self, info: &StoreInfo) -> Result<(), UnfitStore> {
        let mut findings = self.findings(info);
        findings.retain(|finding| finding.severity == Severity::Fatal);
        match findings.is_empty() {
            true => Ok(()),
            false => Err(UnfitStore {
                findings: findings.into(),
            }),
        }
    }

    fn weigh(self, finding: &Finding) -> Finding {
        let mut weighed = finding.clone();
        if let Some((severity, risk)) = self.risk(finding.kind) {
            weighed.severity = severity;
            weighed.text = format!("{risk}: {}", finding.text);
        }
        weighed
    }

    /// Returns the severity of a finding, and what it means. `None`: what the store says of it.
    fn risk(self, kind: FindingKind) -> Option<(Severity, &'static str)> {
        use FindingKind::{
            Eviction, LateFsync, NoPersistence, NoScripts, Replica, Replicated, Snapshots,
        };
        use Severity::{Fatal, Notice, Warning};
        Some(match (kind, self) {
            (Replica, _) => (Fatal, "nothing can be locked or recorded"),
            (NoScripts, Self::Locks) => (Fatal, "nothing can be locked"),
            (NoScripts, _) => (Fatal, "every request with a key is answered 503"),
            (Eviction, Self::Locks) => (Warning, "two may hold a lock at a time"),
            (Eviction, Self::AtMostOnce) => (Fatal, "a request may run twice"),
            (Eviction, Self::RetrySafe) => (Warning, "a request that is done may run again"),
            (NoPersistence | Snapshots | Replicated, Self::Locks) => (
                Notice,
                "two may hold a lock at a time, after a restart or a failover",
            ),
            (NoPersistence | Snapshots, Self::AtMostOnce) => {
                (Warning, "a request may run twice, after a restart")
            }
            (LateFsync, Self::Locks) => (
                Notice,
                "two may hold a lock at a time, after a crash of the server's machine",
            ),
            (LateFsync, Self::AtMostOnce) => (
                Warning,
                "a request may run twice, after a crash of the server's machine",
            ),
            (LateFsync, Self::RetrySafe) => (
                Notice,
                "a request that is done may run again, after a crash of the server's machine",
            ),
            (Replicated, Self::AtMostOnce) => {
                (Warning, "a request may run twice, after a failover")
            }
            (NoPersistence | Snapshots | Replicated, Self::RetrySafe) => (
                Notice,
                "a request that is done may run again, after a restart or a failover",
            ),
            _ => return None,
        })
    }
}

impl UnfitStore {
    /// Returns the reasons: what is fatal for this use.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for UnfitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store is not fit for this use")?;
        for finding in &self.findings {
            write!(f, "; {finding}")?;
        }
        Ok(())
    }
}

impl Error for UnfitStore {}

#[cfg(test)]
mod tests {
    use FindingKind::{
        Eviction, LateFsync, MissingCommands, NoPersistence, NoScripts, Replica, Replicated, Resp2,
        Snapshots,
    };
    use Severity::{Fatal, Notice, Warning};

    use super::*;

    #[test]
    fn each_use_weighs_a_finding_by_what_it_risks() {
        // For locks, at most once, safe to retry.
        let table = [
            (Replica, [Some(Fatal); 3]),
            (NoScripts, [Some(Fatal); 3]),
            (Eviction, [Some(Warning), Some(Fatal), Some(Warning)]),
            (NoPersistence, [Some(Notice), Some(Warning), Some(Notice)]),
            (Snapshots, [Some(Notice), Some(Warning), Some(Notice)]),
            (LateFsync, [Some(Notice), Some(Warning), Some(Notice)]),
            (Replicated, [Some(Notice), Some(Warning), Some(Notice)]),
            (MissingCommands, [None; 3]),
            (Resp2, [None; 3]),
        ];
        let uses = [StoreUse::Locks, StoreUse::AtMostOnce, StoreUse::RetrySafe];
        for (kind, severities) in table {
            let weighed = uses.map(|store_use| store_use.risk(kind).map(|risk| risk.0));
            assert_eq!(weighed, severities, "{kind:?}");
        }
    }
}
