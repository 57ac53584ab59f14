use crate::{
    Algorithm, Quota,
    policy::{limit::Limit, limit_set::MAX_POLICIES},
};

/// A quota for each limit of a limiter, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quotas([Option<Quota>; MAX_POLICIES]);

impl Quotas {
    /// Takes the quotas that limits have.
    pub(crate) fn of(limits: &[Limit]) -> Self {
        let mut quotas = [None; MAX_POLICIES];
        for (quota, limit) in quotas.iter_mut().zip(limits) {
            *quota = Some(limit.quota);
        }
        Self(quotas)
    }

    /// Returns the quota of a limit. `None`: there is no such limit.
    pub(crate) const fn get(&self, limit: usize) -> Option<Quota> {
        self.0[limit]
    }

    pub(crate) const fn set(&mut self, limit: usize, quota: Quota) {
        self.0[limit] = Some(quota);
    }
}

/// Returns why a policy of quota `usual` cannot have `other` in its place. `None`: it can.
///
/// What is kept under GCRA is a time, which means the same to each of its quotas. What the other algorithms keep are counts of windows,
/// so that another quota must count in the same ones.
pub(crate) fn misfit(usual: Quota, other: Quota) -> Option<&'static str> {
    if usual.algorithm() != other.algorithm() {
        return Some("its algorithm is another one, which counts under other keys");
    }
    let windows = |quota: Quota| (quota.window(), quota.calendar());
    match usual.algorithm() {
        Algorithm::Gcra => None,
        _ if windows(usual) == windows(other) => None,
        _ => Some(
            "its windows are not those of the policy: under this algorithm only the limit may differ",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_quota_fits_if_what_is_kept_means_the_same() {
        let [minute, hour] = [Quota::per_minute(10), Quota::per_hour(99)];
        assert_eq!(misfit(minute, hour.burst(5)), None);
        let log = |limit, seconds| Quota::exact(limit, Duration::from_secs(seconds));
        assert_eq!(misfit(log(10, 60), log(20, 60)), None);
        for (usual, other, misfit) in [
            (minute, minute.fixed_window(), "algorithm"),
            (minute.sliding_window(), minute, "algorithm"),
            (minute.fixed_window(), hour.fixed_window(), "windows"),
            (minute.sliding_window(), hour.sliding_window(), "windows"),
            (log(10, 60), log(10, 61), "windows"),
        ] {
            let told = super::misfit(usual, other).expect("it does not fit");
            assert!(told.contains(misfit), "{usual} {other}: {told}");
        }
    }
}
