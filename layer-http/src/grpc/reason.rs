use std::fmt;

use super::Code;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident: $domain:ident $name:literal => $code:ident [$($detail:ident),*],)+) => {
        /// The reason why a layer refuses a call, with its code: the table of [this page](super#refusals).
        ///
        /// It is told in the `ErrorInfo` of the status' details, so that a client can tell a refusal of a layer from an error of a
        /// handler with the same code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the code: `grpc-status`.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$variant => Code::$code,)+
                }
            }

            /// Returns the reason of the `ErrorInfo`, such as `QUOTA_EXCEEDED`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns the domain of the `ErrorInfo`: the crate that refuses.
            pub const fn domain(self) -> &'static str {
                match self {
                    $(Self::$variant => $domain,)+
                }
            }

            /// Returns the details beside the `ErrorInfo`.
            pub const fn details(self) -> &'static [Detail] {
                match self {
                    $(Self::$variant => &[$(Detail::$detail),*],)+
                }
            }
        }
    };
}

reasons! {
    // The rate limit and the limit of requests in flight.
    /// A quota is exceeded.
    QuotaExceeded: LIMIT "QUOTA_EXCEEDED" => ResourceExhausted [RetryInfo, QuotaFailure],
    /// The call costs more than a quota ever allows at once.
    TooCostly: LIMIT "TOO_COSTLY" => InvalidArgument [QuotaFailure],
    /// As many calls are in flight as may be.
    InFlightLimitReached: LIMIT "IN_FLIGHT_LIMIT_REACHED" => ResourceExhausted [RetryInfo, QuotaFailure],
    /// The call would have to wait longer for its quota than it may.
    WaitTooLong: LIMIT "WAIT_TOO_LONG" => ResourceExhausted [RetryInfo],
    /// The store of a limit is down, and the limit fails closed.
    LimitUnavailable: LIMIT "LIMIT_UNAVAILABLE" => Unavailable [RetryInfo],
    /// The call lacks the identity that a limit needs.
    IdentityMissing: LIMIT "IDENTITY_MISSING" => InvalidArgument [],
    /// The call has two identities.
    IdentityAmbiguous: LIMIT "IDENTITY_AMBIGUOUS" => InvalidArgument [],
    /// A limit does not fit the route.
    LimitMisconfigured: LIMIT "LIMIT_MISCONFIGURED" => Internal [],
    // Locks.
    /// Another call holds the lock.
    LockBusy: LOCK "LOCK_BUSY" => Aborted [RetryInfo],
    /// The store of the locks is down.
    LockUnavailable: LOCK "LOCK_UNAVAILABLE" => Unavailable [RetryInfo],
    /// The number of units to lock is not possible.
    LockUnitsInvalid: LOCK "LOCK_UNITS_INVALID" => InvalidArgument [],
    /// The call does not name what it locks.
    LockKeyMissing: LOCK "LOCK_KEY_MISSING" => InvalidArgument [],
    /// The call names two things to lock.
    LockKeyAmbiguous: LOCK "LOCK_KEY_AMBIGUOUS" => InvalidArgument [],
    /// A lock does not fit the route.
    LockMisconfigured: LOCK "LOCK_MISCONFIGURED" => Internal [],
    // Idempotency.
    /// The call has no idempotency key.
    KeyMissing: LOCK "KEY_MISSING" => InvalidArgument [],
    /// The idempotency key is malformed.
    KeyInvalid: LOCK "KEY_INVALID" => InvalidArgument [],
    /// The idempotency key came with another request before.
    KeyReused: LOCK "KEY_REUSED" => FailedPrecondition [PreconditionFailure],
    /// The first call with this idempotency key is running.
    InProgress: LOCK "IN_PROGRESS" => Aborted [RetryInfo],
    /// The first call with this idempotency key was begun, and its outcome is not known.
    OutcomeUnknown: LOCK "OUTCOME_UNKNOWN" => DataLoss [],
    /// The first call with this idempotency key is done, and its response was not kept.
    ResponseNotKept: LOCK "RESPONSE_NOT_KEPT" => AlreadyExists [],
    /// The request is longer than an idempotent call's may be.
    RequestTooLarge: LOCK "REQUEST_TOO_LARGE" => OutOfRange [],
    /// The request broke off.
    RequestUnreadable: LOCK "REQUEST_UNREADABLE" => Cancelled [],
    /// The call has several messages, or none, and only a unary call can have an idempotency key.
    NotUnary: LOCK "NOT_UNARY" => Unimplemented [],
    /// The call does not say whose it is.
    ClientMissing: LOCK "CLIENT_MISSING" => InvalidArgument [],
    /// The service cannot tell its clients apart.
    ClientUnknown: LOCK "CLIENT_UNKNOWN" => Internal [],
    /// The service stops, and begins no more calls.
    Closing: LOCK "CLOSING" => Unavailable [RetryInfo],
    /// The store of the idempotency records is down.
    RecordUnavailable: LOCK "RECORD_UNAVAILABLE" => Unavailable [RetryInfo],
    // The cache.
    /// The call wants a stored response, and there is none.
    NotStored: CACHE "NOT_STORED" => FailedPrecondition [PreconditionFailure],
    /// The runtime ended while the handler ran.
    Interrupted: CACHE "INTERRUPTED" => Unavailable [RetryInfo],
    /// The handler confirmed a response that is not stored.
    ConfirmedAnother: CACHE "CONFIRMED_ANOTHER" => Internal [],
    /// A purge names no possible path or key.
    PatternInvalid: CACHE "PATTERN_INVALID" => InvalidArgument [],
    /// The store did not confirm a purge.
    PurgeUnconfirmed: CACHE "PURGE_UNCONFIRMED" => Unavailable [RetryInfo],
}

/// A detail of a refusal: a message of `google.rpc` (google/rpc/error_details.proto).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Detail {
    /// After which time the call may be sent again. `grpc-retry-pushback-ms` says it, too.
    RetryInfo,
    /// The quotas that are used up.
    QuotaFailure,
    /// The condition that does not hold.
    PreconditionFailure,
}

impl Detail {
    /// Returns the name of the message, such as `RetryInfo`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetryInfo => "RetryInfo",
            Self::QuotaFailure => "QuotaFailure",
            Self::PreconditionFailure => "PreconditionFailure",
        }
    }
}

const LIMIT: &str = "rate-limit-layer";
const LOCK: &str = "lock-layer";
const CACHE: &str = "cache-layer";

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the guide has a row for each reason, and no other.
    #[test]
    fn the_guide_has_this_table() {
        let guide = include_str!("../../docs/grpc.md");
        let section = guide
            .split("\n# ")
            .find(|text| text.starts_with("Refusals\n"));
        let rows: Vec<_> = section
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells = line.split('|').skip(1).take(4);
                let cells = cells.map(|cell| cell.trim().replace('`', ""));
                cells.collect::<Vec<_>>()
            })
            .collect();
        let table: Vec<_> = Reason::ALL
            .iter()
            .map(|reason| {
                let details: Vec<_> = reason.details().iter().map(|it| it.as_str()).collect();
                let row = [reason.as_str(), reason.code().as_str(), reason.domain()];
                let mut row = row.map(str::to_owned).to_vec();
                row.push(details.join(", "));
                row
            })
            .collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        // The form that `ErrorInfo` asks for.
        let is_legal = |name: &&str| {
            name.len() <= 63 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        };
        assert!(names.iter().all(is_legal));
    }
}
