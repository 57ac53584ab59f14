use std::collections::BTreeSet;

use crate::{
    TaskResult,
    run::{cargo, command, read, root, run},
};

/// Checks format, lints and tests of the named packages, or of those that have uncommitted changes.
///
/// # Errors
///
/// Returns a message if a name is no package of ours, if nothing has changed, or if a check fails.
pub(crate) fn check(names: &[String]) -> TaskResult {
    let packages = match names {
        [] => changed()?,
        names => names.iter().cloned().collect(),
    };
    if packages.is_empty() {
        return Err("no package has uncommitted changes: name one, such as cache-layer".into());
    }
    if let Some(unknown) = packages.iter().find(|name| !is_package(name)) {
        return Err(format!("there is no package {unknown:?} in this workspace"));
    }
    run(cargo().args(["fmt", "--all", "--check"]))?;
    for package in &packages {
        let clippy = ["clippy", "--all-features", "--all-targets", "--package"];
        run(cargo().args(clippy).arg(package).args(DENY_WARNINGS))?;
        // These two start servers, or measure: `cargo xtask test` and `cargo bench` run them.
        if !["tests", "benches"].contains(&package.as_str()) {
            run(cargo().args(["test", "--all-features", "--package", package]))?;
        }
    }
    Ok(())
}

/// The packages in whose folders a file differs from the last commit.
fn changed() -> TaskResult<BTreeSet<String>> {
    let (status, _) = read(command("git").args(["status", "--porcelain", "--no-renames"]))?;
    Ok(folders(&status).filter(|name| is_package(name)).collect())
}

/// The first folder of each path in what `git status --porcelain` prints, such as ` M cache-layer/src/lib.rs`.
fn folders(status: &str) -> impl Iterator<Item = String> {
    let paths = status.lines().filter_map(|line| line.get(3..));
    paths.filter_map(|path| Some(path.split_once('/')?.0.into()))
}

fn is_package(name: &str) -> bool {
    root().join(name).join("Cargo.toml").is_file()
}

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_lead_to_their_packages() {
        let status = " M cache-layer/src/lib.rs\n?? examples/new.rs\nM  README.md\n";
        let folders: Vec<_> = folders(status).collect();
        assert_eq!(folders, ["cache-layer", "examples"]);
        assert!(is_package("cache-layer") && !is_package(".ci") && !is_package("none"));
    }
}
