//! Inspects a server on each new connection, and reports what a user should know of it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::LazyLock,
};

use parking_lot::Mutex;

use super::{
    commands::{COMMANDS, CommandUse, Need},
    dialog::Dialog,
    features::{Feature, Features},
    resp::{Command, RespValue, ServerError},
    wire,
};
use crate::{Finding, FindingKind, Severity};

/// Asks a server what it is, right after the greeting. Without I/O.
///
/// All questions go out at once, so that a connection costs one round trip more. A server that does not tell its version is
/// asked once more, for the features themselves. Every question may be refused: then its answer is not known.
pub(super) struct Inspection {
    resp3: bool,
    step: Step,
    info: Option<Info>,
    features: Features,
    scripts: Scripts,
    /// True if no snapshots are made. `None`: the server does not tell.
    saves_nothing: Option<bool>,
    /// When the append-only file is brought to the disk: `always`, `everysec` or `no`.
    fsync: Option<String>,
    missing: Vec<&'static CommandUse>,
    tracks: bool,
}

/// The result of an inspection.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) features: Features,
    /// A number that is another one after a restart or a failover.
    pub(super) incarnation: Option<u64>,
    /// True if the server tells of changed keys on this connection.
    pub(super) tracks: bool,
    pub(super) findings: Vec<Finding>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Questions,
    Probes,
    Done,
}

/// If the server runs scripts, and the words with which it refuses to.
enum Scripts {
    Run,
    Refused(String),
}

/// The fields of `INFO`.
struct Info(String);

impl Inspection {
    pub(super) const fn new(resp3: bool) -> Self {
        Self {
            resp3,
            step: Step::Questions,
            info: None,
            features: Features::ALL,
            scripts: Scripts::Run,
            saves_nothing: None,
            fsync: None,
            missing: Vec::new(),
            tracks: false,
        }
    }

    pub(super) fn into_facts(self) -> Facts {
        Facts {
            features: self.features,
            incarnation: self.info.as_ref().and_then(Info::incarnation),
            tracks: self.tracks,
            findings: self.findings(),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.of_version());
        findings.extend(self.of_scripts());
        findings.extend(self.of_missing_commands());
        if let Some(info) = &self.info {
            findings.extend(info.of_role());
            findings.extend(info.of_eviction());
            findings.extend(self.of_persistence(info));
        }
        if !self.resp3 {
            findings.push(Finding::new(
                FindingKind::Resp2,
                Severity::Notice,
                "the server does not speak RESP3: it sends no hints of changed keys, and timers replace them",
            ));
        }
        findings
    }

    fn of_version(&self) -> Option<Finding> {
        let Some(version) = self.info.as_ref().and_then(Info::version) else {
            return Some(Finding::new(
                FindingKind::UnknownVersion,
                Severity::Notice,
                "the server does not tell its version: allow INFO, so that a restart of the server is noticed",
            ));
        };
        let (major, minor) = version;
        if version < OLDEST {
            return Some(Finding::new(
                FindingKind::OldVersion,
                Severity::Fatal,
                format!("Redis {major}.{minor} is too old: use 5.0 or later, best 7.0 or later"),
            ));
        }
        if self.features == Features::ALL {
            return None;
        }
        let works = matches!(self.scripts, Scripts::Run);
        Some(match works {
            true => Finding::new(
                FindingKind::OldVersion,
                Severity::Notice,
                format!(
                    "Redis {major}.{minor} lacks commands of 7.0: scripts replace them, which costs a little time"
                ),
            ),
            false => Finding::new(
                FindingKind::OldVersion,
                Severity::Warning,
                format!(
                    "Redis {major}.{minor} lacks commands of 7.0, and scripts cannot replace them: idempotency keys do not work. \
                     Use Redis 7.0 or later, or allow EVAL and EVALSHA"
                ),
            ),
        })
    }

    fn of_scripts(&self) -> Option<Finding> {
        let Scripts::Refused(words) = &self.scripts else {
            return None;
        };
        Some(Finding::new(
            FindingKind::NoScripts,
            Severity::Warning,
            format!(
                "the server runs no scripts for this user ({words}): rate limits, locks and the records of idempotency keys \
                 do not work, the cache does. \
                 Allow EVAL and EVALSHA"
            ),
        ))
    }

    fn of_missing_commands(&self) -> Option<Finding> {
        if self.missing.is_empty() {
            return None;
        }
        let names: Vec<_> = self
            .missing
            .iter()
            .map(|command| format!("{} ({})", command.name.to_uppercase(), command.used_by))
            .collect();
        Some(Finding::new(
            FindingKind::MissingCommands,
            Severity::Warning,
            format!(
                "the server has no {}: what uses it fails. Undo `rename-command`",
                names.join(" and no ")
            ),
        ))
    }

    fn of_persistence(&self, info: &Info) -> Option<Finding> {
        if info.field("aof_enabled") != Some("0") {
            return self.of_fsync();
        }
        let (kind, text) = match self.saves_nothing? {
            true => (
                FindingKind::NoPersistence,
                "the server saves nothing: a restart forgets idempotency records and locks. Set `appendonly yes` if that matters",
            ),
            false => (
                FindingKind::Snapshots,
                "the server saves snapshots alone: a restart forgets what was written since the last. Set `appendonly yes` if that matters",
            ),
        };
        Some(Finding::new(kind, Severity::Notice, text))
    }

    fn of_fsync(&self) -> Option<Finding> {
        let forgets = match self.fsync.as_deref()? {
            "everysec" => "up to two seconds",
            "no" => "up to half a minute",
            _ => return None,
        };
        Some(Finding::new(
            FindingKind::LateFsync,
            Severity::Notice,
            format!(
                "a crash of the server's machine forgets {forgets} of what was confirmed (appendfsync {}). Set `appendfsync always` if \
                 that matters",
                self.fsync.as_deref().unwrap_or_default()
            ),
        ))
    }

    fn take_answers(&mut self, replies: Vec<RespValue>) {
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(RespValue::Nil);
        self.info = next().to_text().map(Info).filter(|info| !info.0.is_empty());
        self.saves_nothing = setting(&next()).map(|save| save.is_empty());
        self.missing = missing_commands(&next());
        let scripts = [next(), next()];
        if let Some(words) = scripts.iter().find_map(refusal_of_scripts) {
            self.scripts = Scripts::Refused(words);
        }
        self.fsync = setting(&next());
        self.tracks = self.resp3 && next().is_status("OK");
        if let Some(info) = &self.info
            && let Some(version) = info.version()
        {
            // A service of its own that calls itself Redis 6 and has more.
            if info.field("upstash_version").is_none() {
                self.features = Features::of_version(version);
            }
            self.step = Step::Done;
        } else {
            self.step = Step::Probes;
        }
    }

    /// Reads the replies to commands that are wrong in one place on a server that knows their options, and in another on one
    /// that does not.
    fn take_probes(&mut self, replies: &[RespValue]) {
        let features = [Feature::SetNxGet, Feature::PexpireGt, Feature::KeepTtl];
        for (reply, feature) in replies.iter().zip(features) {
            if wire::is_unknown_option(reply) {
                self.features = self.features.without(feature);
            }
        }
        self.step = Step::Done;
    }
}

impl Dialog for Inspection {
    type Error = ServerError;

    fn ask(&mut self, out: &mut Vec<u8>) -> usize {
        match self.step {
            Step::Questions => {
                // All sections that it has by default: several named ones are an error before 7.0.
                Command::new(out, "INFO", 0);
                Command::new(out, "CONFIG", 2).text("GET").text("save");
                let mut command = Command::new(out, "COMMAND", 1 + COMMANDS.len());
                command.text("INFO");
                for known in &COMMANDS {
                    command.text(name_of(known.name));
                }
                drop(command);
                Command::new(out, "EVAL", 2).text(NOTHING).text("0");
                // The server has the script now, if it runs any.
                let mut command = Command::new(out, "EVALSHA", 2);
                command.text(&wire::sha1(NOTHING)).text("0");
                drop(command);
                Command::new(out, "CONFIG", 2)
                    .text("GET")
                    .text("appendfsync");
                // In RESP2 the server would say yes and then tell nothing.
                if self.resp3 {
                    // Only keys that are asked for are tracked.
                    let mut command = Command::new(out, "CLIENT", 3);
                    command.text("TRACKING").text("ON").text("OPTIN");
                }
                6 + usize::from(self.resp3)
            }
            Step::Probes => {
                // No time to live is zero, so nothing is written.
                let mut command = Command::new(out, "SET", 6);
                command.text(NO_KEY).text("").text("PX").text("0");
                command.text("NX").text("GET");
                drop(command);
                let mut command = Command::new(out, "PEXPIRE", 3);
                command.text(NO_KEY).text("1").text("GT");
                drop(command);
                // Only what is there is overwritten, and it is not.
                let mut command = Command::new(out, "SET", 4);
                command.text(NO_KEY).text("").text("XX").text("KEEPTTL");
                drop(command);
                3
            }
            Step::Done => 0,
        }
    }

    fn take(&mut self, replies: Vec<RespValue>) -> Result<(), ServerError> {
        match self.step {
            Step::Questions => self.take_answers(replies),
            Step::Probes => self.take_probes(&replies),
            Step::Done => {}
        }
        Ok(())
    }
}

impl Info {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (field, value) = line.trim_end().split_once(':')?;
            (field == name).then_some(value)
        })
    }

    fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.field("redis_version")?.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().and_then(|minor| minor.parse().ok());
        Some((major, minor.unwrap_or(0)))
    }

    /// Returns a hash of the server's `run_id`.
    fn incarnation(&self) -> Option<u64> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        // Not zero, which says that it is unknown.
        Some(hasher.hash_one(self.field("run_id")?).max(1))
    }

    fn of_role(&self) -> Option<Finding> {
        if self.field("cluster_enabled") == Some("1") {
            return Some(Finding::new(
                FindingKind::ClusterNode,
                Severity::Warning,
                "the server is a node of a Cluster: operations on keys of other nodes fail. Use a server that is no Cluster",
            ));
        }
        match (self.field("role")?, self.field("connected_slaves")) {
            ("slave", _) => Some(Finding::new(
                FindingKind::Replica,
                Severity::Warning,
                "the server is a replica and takes no writes: use the address of the primary",
            )),
            (_, None | Some("0")) => None,
            (_, Some(_)) => Some(Finding::new(
                FindingKind::Replicated,
                Severity::Notice,
                "the server has replicas: a failover to one that has not heard of the last writes forgets them. \
                 Set `min-replicas-to-write 1` if that matters",
            )),
        }
    }

    fn of_eviction(&self) -> Option<Finding> {
        let policy = self.field("maxmemory_policy")?;
        // Without a limit nothing is evicted.
        if policy == "noeviction" || self.field("maxmemory") == Some("0") {
            return None;
        }
        Some(Finding::new(
            FindingKind::Eviction,
            Severity::Warning,
            format!(
                "the server evicts values when it is full (maxmemory-policy {policy}): locks, idempotency records and limits may be \
                 lost early. Set `noeviction`, or use this server for the cache alone"
            ),
        ))
    }
}

/// Logs what has not been logged yet of the server at `address`: once for each process, and again if it changes.
pub(super) fn report(address: &str, findings: &[Finding]) {
    let mut known = REPORTED.lock();
    let seen = known.entry(address.to_owned()).or_default();
    for finding in findings.iter().filter(|finding| !seen.contains(finding)) {
        let kind = finding.kind.as_str();
        match finding.severity {
            Severity::Notice => tracing::info!(server = address, kind, "{finding}"),
            Severity::Warning => tracing::warn!(server = address, kind, "{finding}"),
            // `connect` returns it, and later only a warning is left.
            Severity::Fatal => tracing::warn!(server = address, kind, "{finding}"),
        }
    }
    findings.clone_into(seen);
}

static REPORTED: LazyLock<Mutex<HashMap<String, Vec<Finding>>>> = LazyLock::new(Mutex::default);

/// Reads the reply to `CONFIG GET` of one setting. `None`: the server does not tell.
fn setting(reply: &RespValue) -> Option<String> {
    let RespValue::Array(pair) = reply else {
        return None;
    };
    Some(pair.get(1)?.to_text()?.to_string())
}

/// Reads the reply to `COMMAND INFO`, which has nothing in the place of an unknown command.
fn missing_commands(reply: &RespValue) -> Vec<&'static CommandUse> {
    let RespValue::Array(infos) = reply else {
        return Vec::new();
    };
    if infos.len() != COMMANDS.len() {
        return Vec::new();
    }
    let both = COMMANDS.iter().zip(infos);
    let missing =
        both.filter(|(known, info)| known.need == Need::Required && matches!(info, RespValue::Nil));
    missing.map(|(known, _)| known).collect()
}

/// Reads the reply to a script that does nothing. An error that could be about something else does not count.
fn refusal_of_scripts(reply: &RespValue) -> Option<String> {
    let RespValue::Error(error) = reply else {
        return None;
    };
    let details = error.details().to_ascii_lowercase();
    let unknown = ["unknown command", "unsupported command"]
        .iter()
        .any(|text| details.starts_with(text));
    let forbidden = error.code() == "NOPERM" && !details.contains(" key");
    (unknown || forbidden).then(|| super::error_reply::Harmless(error).to_string())
}

fn name_of(name: &str) -> &str {
    name.split('|').next().unwrap_or(name)
}

/// The oldest version that replicates what a script did, and not the script.
const OLDEST: (u32, u32) = (5, 0);
const NOTHING: &str = "return 1";
/// A key that no layer has.
const NO_KEY: &str = "{layer-store}:no-key";

#[cfg(test)]
mod tests;
