use std::process::Command;

use crate::{
    TaskResult,
    install::REDIS,
    run::{cargo, command, read, run},
};

/// Every test of the workspace; the benches are compiled by clippy. Without further words also what stands only where a feature
/// is off.
pub(crate) fn test(args: &[String]) -> TaskResult {
    ensure_redis()?;
    run(&mut cargo_test(None, args))?;
    if args.is_empty() {
        for words in WITHOUT_FEATURES {
            run(cargo().args(words.split(' ')))?;
        }
    }
    Ok(())
}

/// The same at full size.
pub(crate) fn soak(args: &[String]) -> TaskResult {
    ensure_redis()?;
    run(cargo_test(Some("--release"), args).env("SOAK", "1"))
}

/// Of the whole workspace, unless `args` name a package.
fn cargo_test(profile: Option<&str>, args: &[String]) -> Command {
    let mut command = cargo();
    command.args(["test", "--all-features"]).args(profile);
    let is_package = |arg: &String| {
        arg == "-p" || arg.starts_with("--package") || (arg.starts_with("-p") && arg.len() > 2)
    };
    // What follows `--` is for the tests.
    if !args.iter().take_while(|arg| *arg != "--").any(is_package) {
        command.args(["--workspace", "--exclude", "benches"]);
    }
    command.args(args);
    command
}

/// The errors that name a feature, and the layers without axum.
const WITHOUT_FEATURES: [&str; 3] = [
    "test --package layer-store --lib --features test-util",
    "test --package layer-store --lib --features redis settings",
    "check --package layer-http --package rate-limit-layer --package cache-layer --package lock-layer --no-default-features",
];

fn ensure_redis() -> TaskResult {
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
    fn a_package_that_is_named_is_tested_alone() {
        let words = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| String::from(*arg)).collect();
            let command = cargo_test(Some("--release"), &args);
            let words = command.get_args().map(|word| word.to_string_lossy());
            words.collect::<Vec<_>>().join(" ")
        };
        let all = "test --all-features --release --workspace --exclude benches";
        assert_eq!(words(&[]), all);
        assert_eq!(words(&["--", "-p"]), format!("{all} -- -p"));
        for package in ["-p tests", "-ptests", "--package=tests"] {
            let args: Vec<_> = package.split(' ').chain(["--", "name"]).collect();
            let alone = format!("test --all-features --release {package} -- name");
            assert_eq!(words(&args), alone);
        }
    }

    #[test]
    fn the_major_version_is_read_from_what_redis_says() {
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1";
        assert_eq!(major(said), Some(7));
        assert_eq!(major("Valkey server 8.1"), None);
    }
}
