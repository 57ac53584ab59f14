use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use crate::{
    db::{Db, Keep},
    problem::Problem,
    stay::Stay,
};

/// The bookings of all cars.
///
/// A booking takes two steps, and its days are locked during both. [`claim`](Self::claim) writes the lock's fencing token to the
/// days and checks that they are free. [`book`](Self::book) writes the booking, unless a higher token has come since.
///
/// A process may be paused between the steps and go on after another has got its lock. It is refused then, whatever the other has
/// done meanwhile. If only `book` compared tokens, the late process could write between the other's check and its write.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    db: Db,
    fences: Fences,
}

/// The use of fencing tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fences {
    Compared,
    /// None is written, so none is compared: only the locks keep two bookings apart.
    Ignored,
}

/// The result of a check of the days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    Free,
    Taken,
    /// A later lock has written its token.
    Outrun,
}

/// The result of writing a booking.
#[derive(Debug)]
pub(crate) enum Booked {
    Booking(Booking),
    /// The constraint of the database refuses it.
    Taken,
    /// A later lock has written its token.
    Outrun,
}

#[derive(Debug, Serialize)]
pub(crate) struct Booking {
    pub(crate) id: i64,
    pub(crate) car: u32,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) customer: String,
    /// The fencing token of the lock under which it was made.
    fence: i64,
}

impl Ledger {
    pub(crate) fn new(db: Db, fences: Fences) -> Self {
        Self { db, fences }
    }

    pub(crate) async fn claim(&self, car: u32, stay: Stay, fence: u64) -> Result<Claimed, Problem> {
        let fence = match self.fences {
            Fences::Compared => Some(fence as i64),
            Fences::Ignored => None,
        };
        self.db.write(move |db| claim(db, car, stay, fence)).await
    }

    pub(crate) async fn book(
        &self,
        car: u32,
        stay: Stay,
        customer: String,
        fence: u64,
    ) -> Result<Booked, Problem> {
        let booking = Booking {
            id: 0,
            car,
            from: stay.from(),
            to: stay.to(),
            customer,
            fence: fence as i64,
        };
        self.db.write(move |db| book(db, booking, stay)).await
    }

    pub(crate) async fn of_car(&self, car: u32) -> Result<Vec<Booking>, Problem> {
        let query = "SELECT id, car, first_day, last_day, customer, fence FROM bookings
             WHERE car = ?1 ORDER BY first_day, id";
        let work = move |db: &Connection| {
            let mut query = db.prepare_cached(query)?;
            query.query_map([car], Booking::read)?.collect()
        };
        self.db.read(work).await
    }

    pub(crate) async fn find(&self, id: i64) -> Result<Option<Booking>, Problem> {
        let query =
            "SELECT id, car, first_day, last_day, customer, fence FROM bookings WHERE id = ?1";
        let work = move |db: &Connection| db.query_row(query, [id], Booking::read).optional();
        self.db.read(work).await
    }

    /// Deletes a booking. Returns its car, or `None` if there is no such booking.
    pub(crate) async fn cancel(&self, id: i64) -> Result<Option<u32>, Problem> {
        let work = move |db: &Transaction<'_>| {
            let delete = "DELETE FROM bookings WHERE id = ?1 RETURNING car";
            let car = db.query_row(delete, [id], |row| row.get(0)).optional()?;
            db.execute("DELETE FROM booked_days WHERE booking = ?1", [id])?;
            Ok((Keep::Yes, car))
        };
        self.db.write(work).await
    }
}

impl Booking {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            car: row.get(1)?,
            from: row.get(2)?,
            to: row.get(3)?,
            customer: row.get(4)?,
            fence: row.get(5)?,
        })
    }
}

fn claim(
    db: &Transaction<'_>,
    car: u32,
    stay: Stay,
    fence: Option<i64>,
) -> rusqlite::Result<(Keep, Claimed)> {
    if let Some(fence) = fence
        && !raise_fences(db, car, stay, fence)?
    {
        return Ok((Keep::No, Claimed::Outrun));
    }
    let taken = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM booked_days WHERE car = ?1 AND day BETWEEN ?2 AND ?3)",
        params![car, stay.from(), stay.to()],
        |row| row.get(0),
    )?;
    Ok((
        Keep::Yes,
        match taken {
            true => Claimed::Taken,
            false => Claimed::Free,
        },
    ))
}

/// Writes a fencing token to days. Returns false if one of them has a higher one.
fn raise_fences(db: &Transaction<'_>, car: u32, stay: Stay, fence: i64) -> rusqlite::Result<bool> {
    let mut raise = db.prepare_cached(
        "INSERT INTO fences (car, day, fence) VALUES (?1, ?2, ?3)
         ON CONFLICT (car, day) DO UPDATE SET fence = excluded.fence WHERE fences.fence < excluded.fence",
    )?;
    for day in stay.days() {
        if raise.execute(params![car, day, fence])? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn book(
    db: &Transaction<'_>,
    mut booking: Booking,
    stay: Stay,
) -> rusqlite::Result<(Keep, Booked)> {
    let Booking {
        car,
        from,
        to,
        customer,
        fence,
        ..
    } = &booking;
    let written = db.execute(
        "INSERT INTO bookings (car, first_day, last_day, customer, fence) SELECT ?1, ?2, ?3, ?4, ?5
         WHERE NOT EXISTS (SELECT 1 FROM fences WHERE car = ?1 AND day BETWEEN ?2 AND ?3 AND fence > ?5)",
        params![car, from, to, customer, fence],
    )?;
    if written == 0 {
        return Ok((Keep::No, Booked::Outrun));
    }
    booking.id = db.last_insert_rowid();
    let mut take =
        db.prepare_cached("INSERT INTO booked_days (car, day, booking) VALUES (?1, ?2, ?3)")?;
    for day in stay.days() {
        match take.execute(params![booking.car, day, booking.id]) {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Ok((Keep::No, Booked::Taken));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((Keep::Yes, Booked::Booking(booking)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Constraint;

    const CAR: u32 = 7;

    fn ledger(constraint: Constraint) -> Ledger {
        Ledger::new(Db::open(None, constraint).unwrap(), Fences::Compared)
    }

    fn stay(from: &str, to: &str) -> Stay {
        Stay::parse(from, to).unwrap()
    }

    async fn book(ledger: &Ledger, stay: Stay, fence: u64) -> Booked {
        ledger.book(CAR, stay, "ada".into(), fence).await.unwrap()
    }

    #[tokio::test]
    async fn days_are_free_until_they_are_booked_and_again_once_cancelled() {
        let ledger = ledger(Constraint::None);
        let (stay, overlap) = (
            stay("2026-12-01", "2026-12-05"),
            stay("2026-12-05", "2026-12-09"),
        );
        assert_eq!(ledger.claim(CAR, stay, 1).await.unwrap(), Claimed::Free);
        let Booked::Booking(booking) = book(&ledger, stay, 1).await else {
            panic!("nobody else is there")
        };
        assert_eq!(ledger.claim(CAR, overlap, 2).await.unwrap(), Claimed::Taken);
        assert_eq!(
            ledger.claim(CAR + 1, overlap, 1).await.unwrap(),
            Claimed::Free
        );
        assert_eq!(ledger.cancel(booking.id).await.unwrap(), Some(CAR));
        assert_eq!(ledger.cancel(booking.id).await.unwrap(), None);
        assert_eq!(ledger.claim(CAR, overlap, 3).await.unwrap(), Claimed::Free);
    }

    #[tokio::test]
    async fn whoever_was_outrun_writes_nothing_wherever_the_other_stands() {
        let ledger = ledger(Constraint::None);
        let (early, late) = (
            stay("2026-12-01", "2026-12-05"),
            stay("2026-12-05", "2026-12-09"),
        );
        assert_eq!(ledger.claim(CAR, early, 1).await.unwrap(), Claimed::Free);
        assert_eq!(ledger.claim(CAR, late, 2).await.unwrap(), Claimed::Free);
        assert!(matches!(book(&ledger, early, 1).await, Booked::Outrun));
        assert!(matches!(book(&ledger, late, 2).await, Booked::Booking(_)));
        assert!(matches!(book(&ledger, early, 1).await, Booked::Outrun));
        assert_eq!(ledger.claim(CAR, early, 1).await.unwrap(), Claimed::Outrun);
        assert_eq!(ledger.of_car(CAR).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn without_fences_whoever_was_outrun_writes() {
        let ledger = Ledger::new(Db::open(None, Constraint::None).unwrap(), Fences::Ignored);
        let day = stay("2026-12-01", "2026-12-01");
        for fence in [1, 2] {
            assert_eq!(ledger.claim(CAR, day, fence).await.unwrap(), Claimed::Free);
        }
        for fence in [2, 1] {
            let booked = book(&ledger, day, fence).await;
            assert!(matches!(booked, Booked::Booking(_)));
        }
    }

    #[tokio::test]
    async fn the_constraint_books_no_day_twice_even_without_locks() {
        let day = stay("2026-12-01", "2026-12-01");
        for (constraint, bookings) in [(Constraint::Unique, 1), (Constraint::None, 2)] {
            let ledger = ledger(constraint);
            book(&ledger, day, 1).await;
            let second = book(&ledger, day, 1).await;
            assert_eq!(matches!(second, Booked::Taken), bookings == 1);
            assert_eq!(ledger.of_car(CAR).await.unwrap().len(), bookings);
        }
    }
}
