use std::{fs, process::Command};

use crate::{
    TaskResult,
    install::REDIS,
    run::{cargo, command, read, root, run, start},
    servers,
};

/// Runs every test of the workspace. Without arguments, then also checks the code that only exists while a feature is off.
/// Benches are left out: clippy compiles them.
pub(crate) fn test(args: &[String]) -> TaskResult {
    ensure_redis()?;
    run(&mut cargo_test(&[], args))?;
    if args.is_empty() {
        for words in WITHOUT_FEATURES {
            run(cargo().args(words.split(' ')))?;
        }
    }
    Ok(())
}

/// Runs every test with optimizations, the long ones at full size. A failed test program ends none of the others.
///
/// Without arguments, the programs that wait for most of their time run beside the others. Each part writes to a file of its own.
pub(crate) fn soak(args: &[String]) -> TaskResult {
    ensure_redis()?;
    if !args.is_empty() {
        return run(&mut soak_test(args));
    }
    run(soak_test(&[]).arg("--no-run"))?;
    let folder = root().join("target/soak/log");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut parts = Vec::new();
    for (name, args) in soak_parts() {
        let log = folder.join(name).with_extension("log");
        eprintln!("writing {}", log.display());
        parts.push((name, start(&mut soak_test(&args), &log)?));
    }
    let failed = parts.into_iter().filter_map(|(name, mut part)| {
        let passed = part.wait().is_ok_and(|status| status.success());
        eprintln!("{name}: {}", if passed { "passed" } else { "failed" });
        (!passed).then_some(name)
    });
    let failed: Vec<_> = failed.collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("tests failed in {}", failed.join(", "))),
    }
}

fn soak_test(args: &[String]) -> Command {
    let mut command = cargo_test(&["--profile=soak", "--no-fail-fast"], args);
    command.env("SOAK", "1").env("SCHEDULES", "100000");
    command
}

/// Returns the parts of a soak that run beside each other, with the arguments of each: the programs that wait, and all the others.
fn soak_parts() -> Vec<(&'static str, Vec<String>)> {
    let words = |words: &[&str]| words.iter().copied().map(String::from).collect();
    let waiting = WAITING.iter();
    let mut parts: Vec<_> = waiting
        .clone()
        .map(|(program, _)| (*program, words(&["--package=tests", "--test", program])))
        .collect();
    let skipped = waiting.flat_map(|(_, names)| *names);
    let rest = skipped.flat_map(|name| ["--skip", name]);
    let rest: Vec<_> = ["--"].into_iter().chain(rest).collect();
    parts.push(("rest", words(&rest)));
    parts
}

/// The test programs that wait for most of their time, and the beginnings of their tests' names. A name that is missing here is run
/// twice.
const WAITING: &[(&str, &[&str])] = &[
    (
        "booking",
        &[
            "contention::of_100",
            "faults::with_fencing",
            "faults::without_fencing",
        ],
    ),
    (
        "lock_faults",
        &[
            "all_holds_though",
            "fences_rise_though",
            "a_process_that_was_stopped",
        ],
    ),
];

/// Runs the tests that depend on the server, or those that `args` name, once on each of the named servers. All of them are
/// tried, whatever fails.
pub(crate) fn test_on_servers(names: &[String], args: &[String]) -> TaskResult {
    let mut failed = Vec::new();
    for server in servers::named(names)? {
        let program = server.fetch()?;
        let on_servers: Vec<_> = ON_SERVERS.iter().copied().map(String::from).collect();
        let args = if args.is_empty() { &on_servers } else { args };
        let mut tests = cargo_test(&["--no-fail-fast"], args);
        tests.env("REDIS_SERVER", program);
        if run(&mut tests).is_err() {
            failed.push(server.name);
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("tests failed on {}", failed.join(", "))),
    }
}

/// Returns the `cargo test` of the whole workspace, or of the package that `args` name.
fn cargo_test(flags: &[&str], args: &[String]) -> Command {
    let mut command = cargo();
    command.args(["test", "--all-features"]).args(flags);
    let is_package = |arg: &String| {
        arg == "-p" || arg.starts_with("--package") || (arg.starts_with("-p") && arg.len() > 2)
    };
    // Arguments after `--` are for the test programs.
    if !args.iter().take_while(|arg| *arg != "--").any(is_package) {
        command.args(["--workspace", "--exclude", "benches"]);
    }
    command.args(args);
    command
}

/// Tests of the errors that name a missing feature, and a check of the layers without axum.
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
        // Valkey and others have another text. They are used as they are.
        _ => Ok(()),
    }
}

/// Returns the 7 of `Redis server v=7.0.15 sha=..`.
fn major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("v=")?;
    number.split('.').next()?.parse().ok()
}

const OLDEST: u32 = 7;

/// The tests whose results depend on the server.
const ON_SERVERS: &[&str] = &[
    "--package=tests",
    "--test",
    "cache",
    "--test",
    "conformance_redis",
    "--test",
    "doctor",
    "--test",
    "idempotency",
    "--test",
    "lock",
    "--test",
    "outage_store",
    "--test",
    "purge",
    "--test",
    "watch",
    "--test",
    "rate_limit",
    "--test",
    "rate_limit_exact",
    "--test",
    "twins",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_named_is_tested_alone() {
        let words = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| String::from(*arg)).collect();
            let command = cargo_test(&["--release"], &args);
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
    fn a_soak_runs_each_program_that_waits_once() {
        let parts = soak_parts();
        let [(booking, args), (locks, _), (rest, skipped)] = &parts[..] else {
            panic!("{parts:?}");
        };
        assert_eq!([*booking, locks, rest], ["booking", "lock_faults", "rest"]);
        assert_eq!(args.join(" "), "--package=tests --test booking");
        assert!(skipped.starts_with(&["--".into(), "--skip".into()]));
        for (program, names) in WAITING {
            let folder = root().join("tests");
            let files = [folder.join(format!("{program}.rs"))];
            let inner =
                ["contention", "faults"].map(|file| folder.join(format!("{program}/{file}.rs")));
            let texts = files
                .iter()
                .chain(&inner)
                .filter_map(|file| fs::read_to_string(file).ok());
            let text: String = texts.collect();
            for name in *names {
                let name = name.rsplit("::").next().unwrap_or(name);
                assert!(
                    text.contains(&format!("fn {name}")),
                    "{program} has no test {name}"
                );
            }
        }
    }

    #[test]
    fn the_major_version_is_read_from_what_redis_says() {
        let said = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1";
        assert_eq!(major(said), Some(7));
        assert_eq!(major("Valkey server 8.1"), None);
    }
}
