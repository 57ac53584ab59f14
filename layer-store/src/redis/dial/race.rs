use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

/// Connects to the first of several addresses that accepts (RFC 8305, section 5).
///
/// Attempts begin in the order given: the next one 250 ms after the last, or at once if one fails. Those that are still under
/// way when one has connected are dropped.
///
/// # Errors
///
/// No address accepts: the error of the last one that failed.
///
/// # Cancel safety
///
/// A dropped future drops all attempts.
pub(super) async fn race<T, F>(
    addresses: &[SocketAddr],
    mut connect: impl FnMut(SocketAddr) -> F,
) -> io::Result<(SocketAddr, T)>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.iter();
    let mut running = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            running.push((*address, Box::pin(connect(*address))));
        } else if running.is_empty() {
            return Err(last);
        }
        let ended = match waiting.as_slice() {
            [] => Some(first_end(&mut running).await),
            [..] => timeout(HEAD_START, first_end(&mut running)).await.ok(),
        };
        match ended {
            Some((address, Ok(connected))) => return Ok((address, connected)),
            Some((_, Err(error))) => last = error,
            // The head start is over.
            None => {}
        }
    }
}

/// Waits until one of the attempts ends, and takes it out.
async fn first_end<T, F: Future<Output = T>>(
    running: &mut Vec<(SocketAddr, Pin<Box<F>>)>,
) -> (SocketAddr, T) {
    poll_fn(|cx| {
        for at in 0..running.len() {
            let (address, attempt) = &mut running[at];
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                let address = *address;
                drop(running.remove(at));
                return Poll::Ready((address, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// The time that an attempt has before the next begins ("Connection Attempt Delay").
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// The behaviour of an address: the time until it ends, and if it connects.
    type Behaviour = (u64, bool);
    const SWALLOWS: Behaviour = (1_000_000, false);

    /// Races addresses with these behaviours. Returns the number of the winner, the time that it took, and when each began.
    async fn run(all: &[Behaviour]) -> (Option<usize>, u64, Vec<u64>) {
        let addresses: Vec<_> = (0..all.len() as u16)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        let start = Instant::now();
        let since = || start.elapsed().as_millis() as u64;
        let begun = Mutex::new(Vec::new());
        let result = race(&addresses, |address| {
            begun.lock().push(since());
            let (millis, connects) = all[usize::from(address.port())];
            async move {
                sleep(Duration::from_millis(millis)).await;
                match connects {
                    true => Ok(address.port()),
                    false => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                }
            }
        })
        .await;
        let winner = result.ok().map(|(address, port)| {
            assert_eq!(address.port(), port);
            usize::from(port)
        });
        (winner, since(), begun.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_accepts_wins() {
        for (all, winner, took, begun) in [
            // The first accepts in time, so no other is tried.
            (&[(10, true), (1, true)][..], Some(0), 10, &[0][..]),
            // One that swallows packets costs the head start.
            (&[SWALLOWS, (10, true)], Some(1), 260, &[0, 250]),
            (
                &[SWALLOWS, SWALLOWS, (10, true)],
                Some(2),
                510,
                &[0, 250, 500],
            ),
            // One that refuses costs nothing.
            (&[(1, false), (2, false), (3, true)], Some(2), 6, &[0, 1, 3]),
            // The first may still win after its head start.
            (&[(300, true), (100, true)], Some(0), 300, &[0, 250]),
            // A failure of the last does not end the others.
            (&[(400, true), (1, false)], Some(0), 400, &[0, 250]),
            (&[(1, false), (2, false)], None, 3, &[0, 1]),
            (&[], None, 0, &[]),
        ] {
            assert_eq!(run(all).await, (winner, took, begun.to_vec()), "{all:?}");
        }
    }
}
