use std::{fmt, future::Future, process::ExitCode, time::Duration};

use super::{CASES, Case, Trial};

/// The result of all cases on one store, from [`run_all`].
#[derive(Clone, Debug, Default)]
#[must_use = "a report that nobody reads hides what failed"]
pub struct Report {
    passed: usize,
    failures: Vec<Failure>,
}

/// A case that a store did not pass.
#[derive(Clone, Debug)]
struct Failure {
    case: &'static str,
    reason: String,
}

/// Runs every case on the store or [`Trial`] that the future gives, one after the other, and prints a line for each.
///
/// It makes a runtime with several threads, so that calls do race. A case that takes longer than a minute fails.
///
/// ```
/// use layer_store::{MemoryStore, conformance};
///
/// let report = conformance::run_all(async { MemoryStore::new() });
/// assert_eq!(report.failed().next(), None);
/// ```
///
/// # Panics
///
/// If the future panics, or if this is called in a runtime.
pub fn run_all<T: Into<Trial>>(make: impl Future<Output = T>) -> Report {
    run_cases(CASES, CASE_LIMIT, make)
}

/// Runs every case as [`run_all`] does, prints a summary, and returns the status for `main`: a failure if any case failed.
///
/// A whole program:
///
/// ```
/// use std::process::ExitCode;
///
/// use layer_store::{MemoryStore, conformance};
///
/// fn main() -> ExitCode {
///     conformance::main(async { MemoryStore::new() })
/// }
/// ```
///
/// # Panics
///
/// See [`run_all`].
pub fn main<T: Into<Trial>>(make: impl Future<Output = T>) -> ExitCode {
    let report = run_all(make);
    println!("{report}");
    report.exit_code()
}

impl Report {
    /// Returns true if the store passed every case.
    pub const fn is_passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Returns the number of cases that the store passed.
    pub const fn passed(&self) -> usize {
        self.passed
    }

    /// Returns the cases that the store did not pass, each with the reason.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.failures
            .iter()
            .map(|failure| (failure.case, &*failure.reason))
    }

    /// Returns the status for `main`: a success if the store passed every case.
    pub fn exit_code(&self) -> ExitCode {
        match self.is_passed() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Report {
    /// Writes a line for each case that failed, and the numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, reason) in self.failed() {
            writeln!(f, "{case}: {reason}")?;
        }
        let failed = self.failures.len();
        write!(f, "{} passed, {failed} failed", self.passed)
    }
}

fn run_cases<T: Into<Trial>>(
    cases: &[Case],
    limit: Duration,
    make: impl Future<Output = T>,
) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime needs threads and nothing else");
    let report = runtime.block_on(async {
        let trial = make.await.into();
        let mut report = Report::default();
        for case in cases {
            let result = run_case(*case, trial.clone(), limit).await;
            println!(
                "{} {}",
                if result.is_ok() { "ok    " } else { "FAILED" },
                case.name()
            );
            match result {
                Ok(()) => report.passed += 1,
                Err(reason) => report.failures.push(Failure {
                    case: case.name(),
                    reason,
                }),
            }
        }
        report
    });
    // A store that blocks a thread must not keep the report from being read.
    runtime.shutdown_background();
    report
}

/// Runs a case in a task of its own, which may panic or hang.
async fn run_case(case: Case, trial: Trial, limit: Duration) -> Result<(), String> {
    let task = tokio::spawn(async move { case.run(&trial).await });
    let abort = task.abort_handle();
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(format!("an operation failed: {}", error.report())),
        Ok(Err(panic)) => Err(match panic.try_into_panic() {
            Ok(payload) => match payload.downcast_ref::<String>() {
                Some(message) => message.clone(),
                None => payload
                    .downcast_ref::<&str>()
                    .map_or("it panicked".into(), ToString::to_string),
            },
            Err(error) => error.to_string(),
        }),
        Err(_) => {
            abort.abort();
            Err(format!("it did not end within {limit:?}"))
        }
    }
}

/// The longest time that a case may take. The slowest takes a second over a network.
const CASE_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Effect, ErrorKind, MemoryStore,
        conformance::{Bug, BuggyStore, FaultInjector, case},
    };

    #[test]
    fn a_sound_store_passes_every_case() {
        let report = run_all(async { MemoryStore::new() });
        assert!(report.is_passed(), "{report}");
        assert_eq!(report.passed(), CASES.len());
        assert_eq!(report.exit_code(), ExitCode::SUCCESS);
        assert_eq!(
            report.to_string(),
            format!("{} passed, 0 failed", CASES.len())
        );
    }

    #[test]
    fn a_report_names_the_cases_that_failed_and_why() {
        let cases = ["ping_has_a_reply", "get_many_replies_in_order"].map(case);
        let buggy = async { BuggyStore::new(MemoryStore::new(), Bug::SkipsMissing) };
        let report = run_cases(&cases, CASE_LIMIT, buggy);
        assert_eq!(report.exit_code(), ExitCode::FAILURE);
        assert_eq!((report.passed(), report.failed().count()), (1, 1));
        let text = report.to_string();
        assert!(text.starts_with("get_many_replies_in_order: "), "{text}");
        assert!(text.ends_with("1 passed, 1 failed"), "{text}");
    }

    #[test]
    fn an_operation_that_fails_and_one_that_hangs_fail_their_case() {
        let cases = ["ping_has_a_reply"].map(case);
        let report = |store: &FaultInjector<MemoryStore>| {
            let store = store.clone();
            run_cases(&cases, Duration::from_millis(50), async { store }).to_string()
        };
        let store = FaultInjector::new(MemoryStore::new());
        store.fail(ErrorKind::Unavailable, Effect::NotApplied);
        assert!(report(&store).contains("an operation failed: "));
        store.hang();
        assert!(report(&store).contains("it did not end within 50ms"));
    }
}
