/// The bug of a [`BuggyStore`](super::BuggyStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bug {
    /// A compare-and-set does not compare.
    IgnoresEquals,
    /// A put-if-absent reads, and writes later.
    RacesAbsent,
    /// A refused write does not reply the existing value.
    HidesExisting,
    /// A refused write moves the expiry all the same.
    RefusedMovesExpiry,
    /// A compare-and-delete does not compare.
    DeletesOthers,
    /// A compare-and-delete compares, and deletes later.
    RacesDeletes,
    /// A deletion of several keys stops after the first.
    DeletesFirstOnly,
    /// `only_longer` is ignored.
    TouchShortens,
    /// A touch of a missing value makes an empty one.
    TouchCreates,
    /// [`Expiry::KEEP`](crate::Expiry::KEEP) forgets the expiry.
    ForgetsExpiry,
    /// A compare-and-set with [`Expiry::KEEP`](crate::Expiry::KEEP) forgets the expiry.
    EqualsForgetsExpiry,
    /// A time to live is rounded up to whole seconds.
    CountsSeconds,
    /// Nothing ever expires.
    NeverExpires,
    /// An empty value reads as a missing one.
    HidesEmpty,
    /// Values are kept as UTF-8, and other bytes are replaced.
    KeepsText,
    /// Values longer than 64 KiB are cut.
    CutsLong,
    /// Values end at their first NUL.
    CutsAtNul,
    /// A number beyond 53 bits is kept as a floating-point number.
    RoundsNumbers,
    /// Reading several keys skips those that are missing.
    SkipsMissing,
    /// Reading several keys reads a repeated one once.
    MergesRepeated,
    /// Adding moves the expiry each time.
    AddMovesExpiry,
    /// Adding knows no maximum.
    AddIgnoresMax,
    /// Adding reads, and writes later.
    RacesAdds,
    /// A scan ends with its first page.
    ScansOnePage,
    /// A watch gets no hints.
    LosesHints,
    /// A batch stops at the first error.
    BatchStops,
    /// A batch reads first, and writes after.
    BatchReadsFirst,
    /// A program reads its keys, and writes them later.
    RacesPrograms,
    /// Programs run one after the other, and another reader sees what one of them has written so far.
    TearsPrograms,
    /// A program is run again after it was answered.
    RunsTwice,
    /// A program over two tags is run.
    IgnoresTags,
    /// Prefixes are left out.
    IgnoresPrefixes,
    /// A caller that is dropped leaves its reply to the next one.
    ShiftsReplies,
    /// `call_now` applies an operation and returns `None`, so that it is applied again.
    ActsUnasked,
}

impl Bug {
    /// All bugs.
    pub const ALL: &[Self] = &[
        Self::IgnoresEquals,
        Self::RacesAbsent,
        Self::HidesExisting,
        Self::RefusedMovesExpiry,
        Self::DeletesOthers,
        Self::RacesDeletes,
        Self::DeletesFirstOnly,
        Self::TouchShortens,
        Self::TouchCreates,
        Self::ForgetsExpiry,
        Self::EqualsForgetsExpiry,
        Self::CountsSeconds,
        Self::NeverExpires,
        Self::HidesEmpty,
        Self::KeepsText,
        Self::CutsLong,
        Self::CutsAtNul,
        Self::RoundsNumbers,
        Self::SkipsMissing,
        Self::MergesRepeated,
        Self::AddMovesExpiry,
        Self::AddIgnoresMax,
        Self::RacesAdds,
        Self::ScansOnePage,
        Self::LosesHints,
        Self::BatchStops,
        Self::BatchReadsFirst,
        Self::RacesPrograms,
        Self::TearsPrograms,
        Self::RunsTwice,
        Self::IgnoresTags,
        Self::IgnoresPrefixes,
        Self::ShiftsReplies,
        Self::ActsUnasked,
    ];
}
