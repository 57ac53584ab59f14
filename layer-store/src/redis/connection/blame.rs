use std::time::Duration;

use tokio::time::Instant;

use super::SendError;

/// The history of a call that has reached its deadline, and of its connection meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    pub(super) sent: Sent,
    /// The time since which the server owes the reply that is due first, to this call or another.
    pub(super) owed_since: Option<Instant>,
    /// The last time that bytes were received.
    pub(super) received_at: Instant,
    /// The last time that another call had its replies in time. Late ones do not count: nobody waits for them.
    pub(super) replied_at: Instant,
    /// The last time that bytes were received or written.
    pub(super) moved_at: Instant,
    /// True if a reply has arrived in part.
    pub(super) mid_reply: bool,
    /// The last time that the socket took no more bytes.
    pub(super) full_at: Option<Instant>,
}

/// The progress of a call's commands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sent {
    /// There was no room on the connection.
    No,
    /// The socket has not taken all of them.
    InPart,
    /// The socket took the last byte at this time.
    At(Instant),
}

/// Decides who is to blame: the server, or what lies before it.
///
/// The server is to blame if it had its fair share of the time, half of it, and nothing moved. What this process or the line
/// does slowly is not its fault, and says nothing of the calls of others.
pub(super) fn blame(course: &Course) -> SendError {
    let half = course.begun + (course.deadline - course.begun) / 2;
    let recently = course
        .deadline
        .checked_sub(BURST)
        .map_or(course.begun, |burst| course.begun.min(burst));
    match course.sent {
        // ## No room until now, because the server does not reply to those before
        Sent::No if course.owed_since.is_some_and(|since| since <= course.begun) => {
            SendError::TimedOut {
                sent: false,
                receiving: false,
            }
        }
        Sent::No => SendError::Overloaded { sent: false },
        // ## Commands are still going out, or went out late
        Sent::InPart if course.moved_at >= course.begun => SendError::Overloaded { sent: true },
        Sent::At(at) if at > half => SendError::Overloaded { sent: true },
        // ## A line that was full a moment ago: the system may still hold them
        Sent::At(_) if course.full_at.is_some_and(|at| at >= recently) => {
            SendError::Overloaded { sent: true }
        }
        // ## A long reply is arriving
        Sent::At(_) if course.mid_reply && course.received_at >= recently => {
            SendError::Overloaded { sent: true }
        }
        // ## The server has had its time
        Sent::InPart => SendError::TimedOut {
            sent: true,
            receiving: false,
        },
        Sent::At(at) => SendError::TimedOut {
            sent: true,
            receiving: course.replied_at > at,
        },
    }
}

/// On a slow line bytes move in bursts, which are so far apart at most.
const BURST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Decides on a call that began at 0 ms and ended at 100 ms.
    fn decide(sent: Option<Option<i64>>, received: i64, moved: i64, mid_reply: bool) -> String {
        decide_with(sent, received, received, moved, mid_reply)
    }

    fn decide_with(
        sent: Option<Option<i64>>,
        received: i64,
        replied: i64,
        moved: i64,
        mid_reply: bool,
    ) -> String {
        let before = Instant::now();
        let at = |ms: i64| before + Duration::from_millis((9_000 + ms) as u64);
        let begun = at(0);
        let error = blame(&Course {
            begun,
            deadline: at(100),
            sent: match sent {
                None => Sent::No,
                Some(None) => Sent::InPart,
                Some(Some(ms)) => Sent::At(at(ms)),
            },
            owed_since: Some(at(moved)),
            received_at: at(received),
            replied_at: at(replied),
            moved_at: at(moved),
            mid_reply,
            full_at: None,
        });
        match error {
            SendError::TimedOut { sent, receiving } => format!("server {sent} {receiving}"),
            SendError::Overloaded { sent } => format!("line {sent}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_server_is_to_blame_if_it_had_half_of_the_time_and_gave_no_sign() {
        // Sent at once: nothing came, something came for others, a long reply is coming, and one that stopped.
        assert_eq!(decide(Some(Some(0)), 0, 0, false), "server true false");
        assert_eq!(decide(Some(Some(0)), 80, 80, false), "server true true");
        assert_eq!(decide(Some(Some(0)), 80, 80, true), "line true");
        assert_eq!(decide(Some(Some(0)), -950, 0, true), "server true false");
        // Only what is late comes: all replies take longer than a call may.
        let late = decide_with(Some(Some(0)), 80, 0, 80, false);
        assert_eq!(late, "server true false");
        // Sent late.
        assert_eq!(decide(Some(Some(50)), 0, 50, false), "server true false");
        assert_eq!(decide(Some(Some(51)), 0, 51, false), "line true");
        // Going out, and stuck on the way out.
        assert_eq!(decide(Some(None), 0, 90, false), "line true");
        assert_eq!(decide(Some(None), 0, -9, false), "server true false");
        // Not sent, behind others that move, and behind others that do not.
        assert_eq!(decide(None, 90, 90, false), "line false");
        assert_eq!(decide(None, -9, -9, false), "server false false");
    }

    #[test]
    fn what_was_sent_on_a_line_that_was_just_full_may_still_be_on_its_way() {
        let begun = Instant::now() + BURST;
        let blame_after = |pause: Duration| {
            let error = blame(&Course {
                begun,
                deadline: begun + Duration::from_millis(100),
                sent: Sent::At(begun),
                owed_since: Some(begun),
                received_at: begun - BURST,
                replied_at: begun - BURST,
                moved_at: begun,
                mid_reply: false,
                full_at: Some(begun + Duration::from_millis(100) - pause),
            });
            matches!(error, SendError::Overloaded { sent: true })
        };
        assert!(blame_after(BURST));
        assert!(!blame_after(BURST + Duration::from_millis(1)));
    }

    #[test]
    fn a_call_alone_that_was_not_sent_says_nothing_of_the_server() {
        let begun = Instant::now();
        let error = blame(&Course {
            begun,
            deadline: begun + Duration::from_millis(100),
            sent: Sent::No,
            owed_since: None,
            received_at: begun,
            replied_at: begun,
            moved_at: begun,
            mid_reply: false,
            full_at: None,
        });
        assert!(matches!(error, SendError::Overloaded { sent: false }));
    }
}
