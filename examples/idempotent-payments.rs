//! Payments into accounts that happen once, whatever happens: an idempotency key, a lock for each account, and a database that
//! checks both for itself.
//!
//! ```text
//! cargo run --example idempotent-payments
//! REDIS_URL=redis://127.0.0.1 PAYMENTS=payments.db cargo run --example idempotent-payments
//!
//! curl -i http://127.0.0.1:3000/accounts/7/payments -H 'idempotency-key: 1' -H 'x-user: ada' -d 50
//! curl -i http://127.0.0.1:3000/accounts/7/payments -H 'idempotency-key: 1' -H 'x-user: ada' -d 50   # replayed
//! curl -i http://127.0.0.1:3000/accounts/7
//! ```
//!
//! No middleware is exactly-once: a process can die between a payment and its record, a store can forget, a process can be
//! stopped while it holds a lock. So the record's name is a unique key of the table, and the fencing token guards the balance.

use std::{
    env,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use lock_layer::{
    ClientScope, IdempotencyContext, IdempotencyLayer, LockContext, LockLayer, PeerIp, RunOutcome,
    header, path_param, store,
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

/// A real service has a pool of connections here, and waits for them on other threads.
type Db = Arc<Mutex<Connection>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    examples::log();
    let store = store::connect_from_env_or_memory().await?;
    let db = Arc::new(Mutex::new(open(&env::var("PAYMENTS").unwrap_or_default())?));

    let user = ClientScope::of(header("x-user")).or(PeerIp);
    let once = IdempotencyLayer::at_most_once(store.clone(), user);
    let lock = LockLayer::new(store, path_param("id"))
        .name("account")
        .wait(Duration::from_secs(2));
    let runs = once.tracker();
    let app = Router::new()
        // Idempotency outside: a repetition is replayed without a lock.
        .route("/accounts/{id}/payments", post(pay).layer((once, lock)))
        .route("/accounts/{id}", get(balance))
        .with_state(db);

    let address = env::args().nth(1);
    let listener = examples::listen(address.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let grace = examples::serve_on(listener, app).await?;
    let left = runs.close_and_wait(grace).await;
    if left > 0 {
        tracing::warn!(left, "stopping with payments that have not ended");
    }
    Ok(())
}

async fn pay(
    State(db): State<Db>,
    Path(account): Path<u32>,
    run: IdempotencyContext,
    lock: LockContext,
    amount: String,
) -> Response {
    let Ok(amount) = amount.trim().parse() else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "write an amount in cents, such as 50\n",
        );
    };
    let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
    match book(&mut db, run.record(), account, amount, lock.fence()) {
        Ok(Booked::Balance(balance)) => {
            (StatusCode::CREATED, format!("balance {balance}\n")).into_response()
        }
        Ok(Booked::Outrun) => refuse(StatusCode::SERVICE_UNAVAILABLE, "repeat the request\n"),
        // The layer keeps it: nobody knows if the database did its work.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Refuses a request that has changed nothing, so that its key may be tried again.
fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, Extension(RunOutcome::NotExecuted), text).into_response()
}

enum Booked {
    Balance(i64),
    /// A later lock has written: this process was stopped and goes on too late.
    Outrun,
}

fn book(
    db: &mut Connection,
    record: &str,
    account: u32,
    amount: i64,
    fence: u64,
) -> rusqlite::Result<Booked> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // The unique key: a payment that was made before its record was lost is not made again.
    let insert =
        "INSERT INTO payments (record, account, amount) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    if transaction.execute(insert, params![record, account, amount])? == 0 {
        return read(&transaction, account).map(Booked::Balance);
    }
    // The fence: a later holder has written a higher one, and then no row fits. Dropped here, the transaction is undone.
    let update =
        "UPDATE accounts SET balance = balance + ?2, fence = ?3 WHERE id = ?1 AND fence < ?3";
    transaction.execute(
        "INSERT OR IGNORE INTO accounts (id, balance, fence) VALUES (?1, 0, 0)",
        [account],
    )?;
    if transaction.execute(update, params![account, amount, fence as i64])? == 0 {
        return Ok(Booked::Outrun);
    }
    let balance = read(&transaction, account)?;
    transaction.commit()?;
    Ok(Booked::Balance(balance))
}

fn read(db: &Transaction<'_>, account: u32) -> rusqlite::Result<i64> {
    db.query_row(
        "SELECT balance FROM accounts WHERE id = ?1",
        [account],
        |row| row.get(0),
    )
}

async fn balance(State(db): State<Db>, Path(account): Path<u32>) -> Result<String, StatusCode> {
    let db = db.lock().unwrap_or_else(PoisonError::into_inner);
    let balance: Option<i64> = db
        .query_row(
            "SELECT balance FROM accounts WHERE id = ?1",
            [account],
            |row| row.get(0),
        )
        .optional()
        .map_err(|error| {
            tracing::error!(%error, "the database failed");
            StatusCode::INTERNAL_SERVER_ERROR
        })?;
    Ok(format!("balance {}\n", balance.unwrap_or_default()))
}

/// Opens the file, or a temporary database if the name is empty.
fn open(path: &str) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance INTEGER, fence INTEGER);
         CREATE TABLE IF NOT EXISTS payments (record TEXT PRIMARY KEY, account INTEGER, amount INTEGER);",
    )?;
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance_of(booked: rusqlite::Result<Booked>) -> Option<i64> {
        match booked.unwrap() {
            Booked::Balance(balance) => Some(balance),
            Booked::Outrun => None,
        }
    }

    #[test]
    fn a_payment_whose_record_was_lost_is_not_made_again() {
        let mut db = open("").unwrap();
        assert_eq!(balance_of(book(&mut db, "a", 7, 50, 1)), Some(50));
        assert_eq!(balance_of(book(&mut db, "b", 7, 50, 2)), Some(100));
        // The store has forgotten the record, so the handler runs again.
        assert_eq!(balance_of(book(&mut db, "a", 7, 50, 3)), Some(100));
    }

    #[test]
    fn a_holder_that_was_stopped_and_goes_on_changes_nothing() {
        let mut db = open("").unwrap();
        assert_eq!(balance_of(book(&mut db, "later", 7, 50, 9)), Some(50));
        assert_eq!(balance_of(book(&mut db, "late", 7, 50, 8)), None);
        // Its payment is undone too, so its client may send it again.
        assert_eq!(balance_of(book(&mut db, "late", 7, 50, 10)), Some(100));
    }
}
