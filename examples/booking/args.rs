use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use rate_limit_layer::{InvalidQuota, Policy, Quota};

use crate::{
    bookings::Drill,
    db::Constraint,
    ledger::Fences,
    limits::{Limits, Tier, Tiers},
};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "booking",
    about = "A car rental that shows the layers of this workspace"
)]
pub(crate) struct Args {
    /// The address to listen on. Port 0 takes a free port and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// The store: memory://, redis://host:6379 or rediss://.. [default: REDIS_URL or REDIS_HOST, else memory]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,

    /// The SQLite file of the bookings. Several processes may share it [default: a temporary one]
    #[arg(long, value_name = "PATH")]
    pub(crate) db: Option<PathBuf>,

    /// Creates the database without its constraint that no day is booked twice: only the locks prevent it then
    #[arg(long)]
    no_constraint: bool,

    /// Writes without fencing tokens, to show what locks alone prevent. For drills
    #[arg(long)]
    no_fences: bool,

    /// The time until others get the locks of a process that died, such as 10s or 500ms
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = examples::time)]
    lease: Duration,

    /// The limit for each client's address, such as 100/s, 100/min, 100/h or 5000/day
    #[arg(long, value_name = "QUOTA", default_value = "100/s")]
    limit: Quota,

    /// The number of requests that may come at once [default: that of the limit]
    #[arg(long, value_name = "N")]
    burst: Option<u64>,

    /// The number of requests of a client that a process may charge in advance: fewer commands to Redis, and so many more may pass
    #[arg(long, value_name = "N", default_value_t = 0)]
    prepaid: u64,

    /// A limit for each client's address that is not in force: /metrics shows what it would refuse
    #[arg(long, value_name = "QUOTA")]
    trial: Option<Quota>,

    /// An API key with a quota of its own in place of --limit, such as key-of-ada=1000/s. May be repeated
    #[arg(long = "tier", value_name = "KEY=QUOTA")]
    tiers: Vec<Tier>,

    /// The response while the store is down: `open` admits requests uncounted, `closed` answers 503
    #[arg(long, value_enum, value_name = "MODE", default_value = "open")]
    on_store_error: OnStoreError,

    /// The longest time of a call to the store of `--store`, such as 250ms
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = examples::time)]
    pub(crate) deadline: Duration,

    /// The time that each booking and each report takes at least, such as 2s or 500ms, for drills: what happens to it at a deploy?
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = examples::time)]
    slow: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnStoreError {
    Open,
    Closed,
}

impl Args {
    pub(crate) const fn constraint(&self) -> Constraint {
        match self.no_constraint {
            true => Constraint::None,
            false => Constraint::Unique,
        }
    }

    pub(crate) const fn drill(&self) -> Drill {
        Drill {
            slow: self.slow,
            lease: self.lease,
            fences: match self.no_fences {
                true => Fences::Ignored,
                false => Fences::Compared,
            },
        }
    }

    /// Returns the limits for every route but `/healthz` and `/metrics`.
    ///
    /// # Errors
    ///
    /// Returns an error if the quota cannot have this burst.
    pub(crate) fn limits(&self) -> Result<Limits, InvalidQuota> {
        let trial = |quota: Quota| quota.fail_open().name("trial");
        Ok(Limits {
            policy: self.policy()?,
            prepaid: self.prepaid,
            trial: self.trial.map(trial),
            tiers: Tiers::new(&self.tiers),
        })
    }

    /// Returns the policy of `--limit`.
    ///
    /// # Errors
    ///
    /// Returns an error if the quota cannot have this burst.
    fn policy(&self) -> Result<Policy, InvalidQuota> {
        let quota = match self.burst {
            Some(burst) => self.limit.try_burst(burst)?,
            None => self.limit,
        };
        Ok(match self.on_store_error {
            OnStoreError::Open => quota.fail_open(),
            OnStoreError::Closed => quota.fail_closed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["booking"].iter().chain(words))
    }

    #[test]
    fn the_default_burst_is_the_limit() {
        for (words, quota) in [
            (&[][..], "100/s"),
            (&["--limit", "100/h"], "100/h"),
            (&["--limit", "5000/day", "--burst", "20"], "5000/day;b=20"),
        ] {
            let policy = args(words).unwrap().policy().unwrap();
            assert_eq!(policy.quota().to_string(), quota);
        }
    }

    #[test]
    fn a_time_is_in_seconds_or_milliseconds() {
        for (text, millis) in [("2s", 2_000), ("500ms", 500), ("0s", 0)] {
            let slow = args(&["--slow", text]).unwrap().drill().slow;
            assert_eq!(slow, Duration::from_millis(millis));
        }
    }

    #[test]
    fn wrong_settings_say_what_to_write() {
        for (words, hint) in [
            (&["--limit", "0/s"][..], "write at least 1"),
            (&["--limit", "many"], "write one such as 100/min"),
            (&["--tier", "ada"], "such as key-of-ada=1000/s"),
            (&["--tier", "ada=many"], "write one such as 100/min"),
            (
                &["--on-store-error", "ajar"],
                "possible values: open, closed",
            ),
            (&["--slow", "2"], "write a time such as 2s"),
            (&["--listen", "8080"], "invalid socket address"),
        ] {
            let error = args(words).unwrap_err().to_string();
            assert!(error.contains(hint), "{words:?}: {error}");
        }
        let zero = args(&["--burst", "0"]).unwrap().policy().unwrap_err();
        assert!(zero.to_string().contains("write at least 1"), "{zero}");
    }
}
