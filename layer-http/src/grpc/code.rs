use std::fmt;

use http::HeaderValue;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)+) => {
        /// A status code of gRPC: the value of `grpc-status`.
        ///
        /// The source is <https://grpc.io/docs/guides/status-codes/>.
        ///
        /// ```
        /// use layer_http::grpc::Code;
        ///
        /// assert_eq!(Code::ResourceExhausted.number(), 8);
        /// assert_eq!(Code::ResourceExhausted.to_string(), "RESOURCE_EXHAUSTED");
        /// assert_eq!(Code::of_number(8), Some(Code::ResourceExhausted));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Code {
            /// All codes, by number.
            pub const ALL: [Self; 17] = [$(Self::$variant),+];

            /// Returns the name, such as `RESOURCE_EXHAUSTED`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

codes! {
    /// The call succeeded.
    Ok = 0 "OK",
    /// The caller cancelled the call.
    Cancelled = 1 "CANCELLED",
    /// Nothing more is known of the error.
    Unknown = 2 "UNKNOWN",
    /// The request is wrong, whatever the state of the service.
    InvalidArgument = 3 "INVALID_ARGUMENT",
    /// The deadline ended before the call did.
    DeadlineExceeded = 4 "DEADLINE_EXCEEDED",
    /// What was asked for does not exist.
    NotFound = 5 "NOT_FOUND",
    /// What was to be made exists already.
    AlreadyExists = 6 "ALREADY_EXISTS",
    /// The caller may not do this.
    PermissionDenied = 7 "PERMISSION_DENIED",
    /// A quota is used up.
    ResourceExhausted = 8 "RESOURCE_EXHAUSTED",
    /// The service is not in the state that the call needs.
    FailedPrecondition = 9 "FAILED_PRECONDITION",
    /// The call met another one, and may be tried again.
    Aborted = 10 "ABORTED",
    /// A value is past its range.
    OutOfRange = 11 "OUT_OF_RANGE",
    /// The service does not have this method.
    Unimplemented = 12 "UNIMPLEMENTED",
    /// The service broke a promise of its own.
    Internal = 13 "INTERNAL",
    /// The service cannot be used now.
    Unavailable = 14 "UNAVAILABLE",
    /// Data is lost.
    DataLoss = 15 "DATA_LOSS",
    /// The caller did not say who it is.
    Unauthenticated = 16 "UNAUTHENTICATED",
}

impl Code {
    /// Returns the code with this number. `None` above 16.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the value of `grpc-status`.
    pub(crate) fn to_value(self) -> HeaderValue {
        HeaderValue::from(u16::from(self.number()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_tonics() {
        for code in Code::ALL {
            let number = i32::from(code.number());
            let theirs = tonic::Code::from_i32(number);
            let name = code.as_str().replace('_', "").to_lowercase();
            assert_eq!(format!("{theirs:?}").to_lowercase(), name);
            assert_eq!(code.to_value(), number.to_string());
            assert_eq!(Code::of_number(code.number()), Some(code));
        }
        assert_eq!(Code::of_number(17), None);
    }
}
