/// How a holder has its units: alone, or with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockMode {
    /// Nobody else has the units, in either mode: for those who write.
    Exclusive,
    /// Others may share the units, and nobody has them alone: for those who read.
    Shared,
}
