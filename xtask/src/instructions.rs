use std::path::{Path, PathBuf};

use crate::{
    TaskResult,
    install::VALGRIND,
    run::{cargo, command, read, run},
};

/// One line of `instructions list`.
struct Bar {
    name: String,
    /// The maximum number of instructions of a request.
    most: u64,
}

/// Counts the instructions of each request in the table, and fails if one takes more than its bar.
pub(crate) fn instructions(names: &[String]) -> TaskResult {
    VALGRIND.ensure()?;
    let program = build()?;
    let bars = bars(&program, names)?;
    println!("{:<24}{:>14}{:>14}", "a request", "instructions", "at most");
    let mut over = Vec::new();
    for Bar { name, most } in bars {
        let taken = per_request(&program, &name)?;
        println!("{name:<24}{taken:>14}{most:>14}");
        if taken > most {
            over.push(name);
        }
    }
    match over.is_empty() {
        true => Ok(()),
        false => Err(format!("over the bar: {}", over.join(", "))),
    }
}

/// Builds the program that is counted, and returns its path. It includes the crates that ours are compared with.
fn build() -> TaskResult<PathBuf> {
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "benches",
        "--bin",
        BINARY,
    ]);
    build.arg("--all-features");
    run(&mut build)?;
    // A second build has nothing to do, and prints where the program is.
    let (messages, _) = read(build.args(["--quiet", "--message-format", "json"]))?;
    let path = messages
        .lines()
        .filter_map(|line| line.split_once(r#""executable":""#))
        .find_map(|(_, rest)| rest.split_once('"'));
    match path {
        Some((path, _)) => Ok(path.replace(r"\\", r"\").into()),
        None => Err(format!("cargo did not say where it put {BINARY}")),
    }
}

fn bars(program: &Path, names: &[String]) -> TaskResult<Vec<Bar>> {
    let (list, _) = read(command(program).arg("list"))?;
    let bars: Vec<_> = list.lines().map(bar).collect::<TaskResult<_>>()?;
    if let Some(unknown) = names
        .iter()
        .find(|name| bars.iter().all(|bar| bar.name != **name))
    {
        let known: Vec<_> = bars.iter().map(|bar| bar.name.as_str()).collect();
        return Err(format!(
            "nothing is named {unknown:?}: write one of {}",
            known.join(", ")
        ));
    }
    let wanted = |bar: &Bar| names.is_empty() || names.contains(&bar.name);
    Ok(bars.into_iter().filter(wanted).collect())
}

/// Reads a line of a name and a number.
fn bar(line: &str) -> TaskResult<Bar> {
    let bar = || {
        let (name, most) = line.split_once(' ')?;
        let (name, most) = (name.into(), most.trim().parse().ok()?);
        Some(Bar { name, most })
    };
    bar().ok_or_else(|| format!("`{BINARY} list` should print `name most`, and printed {line:?}"))
}

/// Returns the instructions of one request: the difference of a long and a short run, so that start and end cancel out.
fn per_request(program: &Path, name: &str) -> TaskResult<u64> {
    let long = collected(program, name, LONG)?;
    let short = collected(program, name, SHORT)?;
    Ok(long.saturating_sub(short).div_ceil(LONG - SHORT))
}

/// Returns the instructions that valgrind counts inside [`DRIVE`].
fn collected(program: &Path, name: &str, requests: u64) -> TaskResult<u64> {
    let mut valgrind = command(VALGRIND.program);
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={DRIVE}"))
        .arg(program)
        .args(["loop", name, &requests.to_string()]);
    let (_, log) = read(&mut valgrind)?;
    match total(&log) {
        Some(0) => Err(format!(
            "{name}: nothing was counted: is `{DRIVE}` still `#[inline(never)]`?"
        )),
        Some(total) => Ok(total),
        None => Err(format!(
            "{name}: valgrind did not say what it counted:\n{log}"
        )),
    }
}

/// Returns the 4567 of `==123== Collected : 4567`.
fn total(log: &str) -> Option<u64> {
    let (_, rest) = log.split_once("Collected :")?;
    rest.split_whitespace().next()?.parse().ok()
}

const BINARY: &str = "instructions";
/// The functions that send the requests. The last `*` matches their type parameters.
const DRIVE: &str = "contenders::*::drive*";
const LONG: u64 = 4_000;
const SHORT: u64 = 1_000;
