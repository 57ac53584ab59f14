use std::process::Command;

use crate::{
    Outcome,
    install::REDIS,
    run::{cargo, command, read, run},
};

/// Every test of the workspace; the benches are compiled by clippy.
pub(crate) fn test(args: &[String]) -> Outcome {
    ensure_redis()?;
    run(cargo_test().args(args))
}

/// The same at full size.
pub(crate) fn soak(args: &[String]) -> Outcome {
    ensure_redis()?;
    run(cargo_test().arg("--release").args(args).env("SOAK", "1"))
}

fn cargo_test() -> Command {
    let mut command = cargo();
    command.args([
        "test",
        "--workspace",
        "--exclude",
        "benches",
        "--all-features",
    ]);
    command
}

fn ensure_redis() -> Outcome {
    REDIS.ensure()?;
    let (version, _) = read(command(REDIS.program).arg("--version"))?;
    match major(&version) {
        Some(major) if major < OLDEST => Err(format!(
            "redis-server is older than {OLDEST}.0, the first with `SET NX GET`: install a later one ({})",
            version.trim()
        )),
        // Who does not say it as Redis does is taken at its word.
        _ => Ok(()),
    }
}

/// Of `Redis server v=7.0.15 sha=..`.
fn major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("v=")?;
    number.split('.').next()?.parse().ok()
}

const OLDEST: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_redis_says() {
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1";
        assert_eq!(major(said), Some(7));
        assert_eq!(major("Valkey server 8.1"), None);
    }
}
