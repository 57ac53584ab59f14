/// The features of a server's commands. By default all of Redis 7.0.
///
/// A feature that is missing is replaced by a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features(u8);

/// An option of a command that not every server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// `SET .. NX GET`, since Redis 7.0.
    SetNxGet = 1,
    /// `PEXPIRE .. GT`, since Redis 7.0.
    PexpireGt = 2,
    /// `SET .. KEEPTTL`, since Redis 6.0.
    KeepTtl = 4,
}

impl Features {
    /// Everything.
    pub(super) const ALL: Self = Self(u8::MAX);

    /// Returns the features of a version of Redis, such as `(6, 2)`.
    pub(super) fn of_version(version: (u32, u32)) -> Self {
        let missing = Feature::ALL
            .into_iter()
            .filter(|feature| version < feature.since());
        missing.fold(Self::default(), Self::without)
    }

    pub(super) const fn has(self, feature: Feature) -> bool {
        self.0 & feature as u8 != 0
    }

    #[must_use]
    pub(super) const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(feature as u8))
    }

    /// Returns the features as a number, for an atomic one.
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl Default for Features {
    fn default() -> Self {
        Self::ALL
    }
}

impl Feature {
    const ALL: [Self; 3] = [Self::SetNxGet, Self::PexpireGt, Self::KeepTtl];

    const fn since(self) -> (u32, u32) {
        match self {
            Self::SetNxGet | Self::PexpireGt => (7, 0),
            Self::KeepTtl => (6, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_what_came_before_it() {
        let of = |version| {
            let features = Features::of_version(version);
            Feature::ALL.map(|feature| features.has(feature))
        };
        assert_eq!(of((5, 0)), [false, false, false]);
        assert_eq!(of((6, 0)), [false, false, true]);
        assert_eq!(of((6, 2)), [false, false, true]);
        assert_eq!(of((7, 0)), [true, true, true]);
        assert_eq!(of((10, 1)), [true, true, true]);
    }

    #[test]
    fn a_feature_is_taken_away_alone() {
        let features = Features::default().without(Feature::PexpireGt);
        assert!(features.has(Feature::SetNxGet) && !features.has(Feature::PexpireGt));
        assert_eq!(Features::from_bits(features.bits()), features);
    }
}
