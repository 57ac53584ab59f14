use std::{fmt, fs, path::Path};

use crate::{
    TaskResult,
    run::{cargo, find, root, run},
};

/// The crates whose code is mutated, in the order of their floors.
const CRATES: [&str; 5] = [
    "layer-store",
    "layer-http",
    "rate-limit-layer",
    "cache-layer",
    "lock-layer",
];

/// The files that decide, talk with a store or keep state: all sources but these. Globs below the workspace's root.
const EXCLUDED: [&str; 8] = [
    // Tests, and what only tests use.
    "*/src/**/tests.rs",
    "*/src/**/tests/**",
    "*/src/testing.rs",
    "layer-store/src/conformance/**",
    "layer-store/src/wrap/fake.rs",
    // Documentation and re-exports.
    "*/src/lib.rs",
    // Sockets and TLS, which the tests of a crate cannot reach: `cargo xtask test` has a real Redis.
    "layer-store/src/redis/stream.rs",
    "layer-store/src/redis/tls.rs",
];

/// Functions that no test has to notice, as regular expressions over the names of mutants.
const EXCLUDED_NAMES: [&str; 2] = ["impl (fmt::)?Debug for", "size_hint"];

/// The seconds after which a test that hangs has noticed the mutant.
const TIMEOUT: &str = "60";

/// The share of the viable mutants that the tests have to catch, of 100.
const MIN_CAUGHT: usize = 92;

/// Mutates the crates, each under its own tests, and fails if too few mutants are caught.
///
/// # Errors
///
/// Returns a message if a name is no crate of ours, if cargo-mutants cannot run, or if less than [`MIN_CAUGHT`] of 100 are
/// caught.
pub(crate) fn mutants(names: &[String], install: bool, args: &[String]) -> TaskResult {
    let crates = chosen(names)?;
    ensure_tool(install)?;
    let mut counts = Vec::new();
    for name in crates {
        counts.push((name, mutate(name, args)?));
    }
    let mut total = Counts::default();
    println!(
        "{:<20}{:>8}{:>8}{:>10}{:>8}",
        "crate", "caught", "missed", "unviable", "of 100"
    );
    for (name, counts) in &counts {
        println!("{name:<20}{counts}");
        total.add(counts);
    }
    println!("{:<20}{total}", "all");
    for survivor in &total.survivors {
        println!("missed: {survivor}");
    }
    match total.share() {
        Some(share) if share < MIN_CAUGHT => Err(format!(
            "{share} of 100 mutants are caught, and at least {MIN_CAUGHT} have to be: write tests that fail for those listed above"
        )),
        _ => Ok(()),
    }
}

/// The crates of these names, or all of them.
fn chosen(names: &[String]) -> TaskResult<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(CRATES.into());
    }
    let known = |name: &String| CRATES.into_iter().find(|known| known == name);
    names
        .iter()
        .map(|name| {
            known(name).ok_or_else(|| {
                let crates = CRATES.join(", ");
                format!("no mutants are made of {name:?}: write one of {crates}")
            })
        })
        .collect()
}

fn ensure_tool(install: bool) -> TaskResult {
    match find(TOOL) {
        Some(_) => Ok(()),
        None if install => run(cargo().args(["install", "--locked", TOOL])),
        None => Err(format!(
            "{TOOL} is needed and was not found: run `cargo install --locked {TOOL}`, or this command again with --install"
        )),
    }
}

/// Runs cargo-mutants over one crate and reads what it found.
fn mutate(name: &str, args: &[String]) -> TaskResult<Counts> {
    let folder = root().join("target/mutants").join(name);
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let mut command = cargo();
    command.args(["mutants", "--package", name, "--all-features"]);
    command.args(["--timeout", TIMEOUT]);
    command.arg("--output").arg(&folder);
    for glob in EXCLUDED {
        command.args(["--exclude", glob]);
    }
    for pattern in EXCLUDED_NAMES {
        command.args(["--exclude-re", pattern]);
    }
    // Without doc tests, which would take most of the time.
    command.args(args).args(["--", "--lib", "--tests"]);
    let ended = run(&mut command);
    let counts = Counts::read(&folder.join("mutants.out"));
    // cargo-mutants fails when a mutant is missed, and also when it could not begin: then it has counted nothing.
    match (counts, ended) {
        (Some(counts), Ok(())) => Ok(counts),
        (Some(counts), Err(_)) if counts.share().is_some() => Ok(counts),
        (_, Err(error)) => Err(error),
        (None, Ok(())) => Err(format!("{TOOL} left no list in {}", folder.display())),
    }
}

/// The results for the mutants of one crate, or of all.
#[derive(Debug, Default)]
struct Counts {
    /// A test failed, or ran into the time limit.
    caught: usize,
    /// The mutant did not compile.
    unviable: usize,
    /// No test failed: where, and what was changed.
    survivors: Vec<String>,
}

impl Counts {
    /// Reads the lists that cargo-mutants leaves, one mutant a line.
    fn read(folder: &Path) -> Option<Self> {
        let lines = |file: &str| {
            let text = fs::read_to_string(folder.join(file)).ok()?;
            Some(text.lines().map(String::from).collect::<Vec<_>>())
        };
        Some(Self {
            caught: lines("caught.txt")?.len() + lines("timeout.txt")?.len(),
            unviable: lines("unviable.txt")?.len(),
            survivors: lines("missed.txt")?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.caught += other.caught;
        self.unviable += other.unviable;
        self.survivors.extend_from_slice(&other.survivors);
    }

    /// The caught ones of 100 viable ones, rounded down. `None` if there was none.
    fn share(&self) -> Option<usize> {
        (self.caught * 100).checked_div(self.caught + self.survivors.len())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missed, share) = (self.survivors.len(), self.share().unwrap_or(100));
        write!(
            f,
            "{:>8}{missed:>8}{:>10}{share:>8}",
            self.caught, self.unviable
        )
    }
}

const TOOL: &str = "cargo-mutants";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_viable_mutants_and_is_rounded_down() {
        let counts = |caught, missed| Counts {
            caught,
            unviable: 50,
            survivors: vec![String::new(); missed],
        };
        assert_eq!(counts(91, 9).share(), Some(91));
        assert_eq!(counts(919, 81).share(), Some(91));
        assert_eq!(counts(92, 8).share(), Some(92));
        assert_eq!(counts(0, 0).share(), None);
    }

    #[test]
    fn an_unknown_crate_is_named_with_those_that_are_known() {
        assert_eq!(chosen(&[]).unwrap(), CRATES);
        assert_eq!(chosen(&["layer-http".into()]).unwrap(), ["layer-http"]);
        let error = chosen(&["booking".into()]).unwrap_err();
        assert!(error.contains("\"booking\"") && error.contains("cache-layer"));
    }
}
