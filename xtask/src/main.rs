//! The commands that the README and `.ci/run` call: `cargo xtask help`.

mod audit;
mod install;
mod instructions;
mod run;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What any step ends with: a message for whoever ran it.
type Outcome<T = ()> = Result<T, String>;

/// Runs what this workspace needs beyond plain cargo.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test, doc tests and examples among them, against a real Redis.
    ///
    /// Installs redis-server with the system's package manager if it is missing and this is root.
    Test {
        /// What to pass on to `cargo test`, such as `-p tests --test outage_store`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the same with the long stories at full size, optimised.
    Soak {
        /// What to pass on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Count the instructions of a request and hold them against their bars.
    ///
    /// Installs valgrind with the system's package manager if it is missing and this is root.
    Instructions {
        /// Count these alone.
        names: Vec<String>,
    },
    /// Check features, dependencies, the public API and spelling, by tools that are not installed here.
    Audit,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Test { args } => test::test(&args),
        Task::Soak { args } => test::soak(&args),
        Task::Instructions { names } => instructions::instructions(&names),
        Task::Audit => audit::audit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
