use crate::{
    TaskResult,
    run::{cargo, command, find, read, run},
};

/// A check, and the tool that it needs.
struct Check {
    program: &'static str,
    install: &'static str,
    run: fn() -> TaskResult,
}

const CHECKS: [Check; 4] = [
    Check {
        program: "cargo-hack",
        install: "cargo install cargo-hack",
        run: features,
    },
    Check {
        program: "cargo-deny",
        install: "cargo install cargo-deny",
        run: dependencies,
    },
    Check {
        program: "cargo-public-api",
        install: "cargo install cargo-public-api && rustup toolchain install nightly",
        run: public_api,
    },
    Check {
        program: "typos",
        install: "cargo install typos-cli",
        run: spelling,
    },
];

/// Runs all checks whose tools are installed, and reports the missing tools and the failed checks.
pub(crate) fn audit() -> TaskResult {
    let mut problems = Vec::new();
    for check in CHECKS {
        match find(check.program) {
            Some(_) => problems.extend((check.run)().err()),
            None => problems.push(format!(
                "{} is missing: run `{}`",
                check.program, check.install
            )),
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\nerror: ")),
    }
}

fn features() -> TaskResult {
    let hack = [
        "hack",
        "check",
        "--workspace",
        "--exclude",
        "benches",
        "--exclude",
        "xtask",
    ];
    run(cargo()
        .args(hack)
        .args(["--feature-powerset", "--depth", "2"]))
}

fn dependencies() -> TaskResult {
    let config = ["--config", "xtask/deny.toml"];
    run(cargo()
        .args(["deny", "--all-features", "check"])
        .args(config)
        .args(["bans", "licenses"]))
}

/// Checks that the public API of layer-store has no type of the Redis client.
fn public_api() -> TaskResult {
    let api = [
        "public-api",
        "--package",
        "layer-store",
        "--all-features",
        "-sss",
    ];
    let (api, _) = read(cargo().args(api))?;
    let seen: Vec<_> = api.lines().filter(|line| names_redis(line)).collect();
    match seen.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the public API names the Redis client:\n{}",
            seen.join("\n")
        )),
    }
}

/// Returns true for a path that begins with the client's name. `layer_store::redis` is our own.
fn names_redis(line: &str) -> bool {
    line.match_indices("redis::").any(|(at, _)| {
        !line[..at]
            .ends_with(|before: char| before == ':' || before == '_' || before.is_alphanumeric())
    })
}

fn spelling() -> TaskResult {
    run(&mut command("typos"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_of_the_client_is_told_from_one_of_ours() {
        assert!(names_redis("pub fn f(value: redis::Value)"));
        assert!(names_redis("impl From<redis::RedisError> for StoreError"));
        assert!(!names_redis("pub struct layer_store::redis::RedisStore"));
        assert!(!names_redis("pub fn f(value: fake_redis::Value)"));
    }
}
