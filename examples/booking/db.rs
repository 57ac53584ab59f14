use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::problem::Problem;

/// The cars and their bookings, in SQLite. Several processes may share a file.
#[derive(Clone, Debug)]
pub(crate) struct Db(Arc<Mutex<Connection>>);

/// The database's own protection against booking a day twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constraint {
    Unique,
    /// None: only the locks prevent it.
    None,
}

impl Db {
    /// Opens the file at `path`, or a temporary one.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or written, or is no database.
    pub(crate) fn open(path: Option<&Path>, constraint: Constraint) -> rusqlite::Result<Self> {
        // SQLite's name for a temporary file. It is removed however the process ends.
        let path = path.unwrap_or(Path::new(""));
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        // With a write-ahead log readers do not wait for writers.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(include_str!("schema.sql"))?;
        if constraint == Constraint::Unique {
            connection.execute_batch(include_str!("constraint.sql"))?;
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Runs a query, or a single statement that writes.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.blocking(|connection| work(connection)).await
    }

    /// Runs `work` in one transaction, which is kept or undone as `work` decides.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<(Keep, T)> + Send + 'static,
    {
        self.blocking(|connection| {
            // Takes the write lock at once. Of two transactions that read first and then write, one would fail.
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let (keep, result) = work(&transaction)?;
            if keep == Keep::Yes {
                transaction.commit()?;
            }
            Ok(result)
        })
        .await
    }

    /// Runs `work` on a thread that may block: SQLite waits for the disk and for other processes.
    async fn blocking<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = self.0.clone();
        let work = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(failed(error)),
            Err(error) => Err(failed(error)),
        }
    }
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

fn failed(error: impl std::error::Error) -> Problem {
    tracing::error!(%error, "the database failed");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal Server Error",
        "the database failed",
    )
}
