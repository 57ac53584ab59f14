use std::sync::{
    Arc, Once,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use http::Response;

use super::warn_of;
use crate::policy::limit::Limit;

/// What a layer does to see if one of its requests was charged by one of its policies further in: the inner layer marks some
/// responses, the outer one reads the marks.
#[derive(Debug)]
pub(crate) struct ChargedTwice {
    /// How many responses there were, while some are still marked.
    responses: AtomicU32,
    told: Once,
}

/// The mark on a response: the stores and limits that charged its request.
#[derive(Clone)]
struct ChargedBy(Vec<(usize, Arc<[Limit]>)>);

impl Default for ChargedTwice {
    fn default() -> Self {
        Self {
            responses: AtomicU32::new(0),
            told: Once::new(),
        }
    }
}

impl Clone for ChargedTwice {
    /// Begins anew: a layer is cloned before it has seen a response.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl ChargedTwice {
    /// Looks at the response to a request that `limits` have charged, and marks it if it is its turn.
    #[inline]
    pub(crate) fn look<B>(&self, response: &mut Response<B>, store: usize, limits: &Arc<[Limit]>) {
        if !response.extensions().is_empty() {
            self.read(response, store, limits);
        }
        if self.responses.load(Relaxed) < LAST_MARKED {
            self.mark(response, store, limits);
        }
    }

    #[inline(never)]
    fn read<B>(&self, response: &Response<B>, store: usize, limits: &[Limit]) {
        let Some(ChargedBy(others)) = response.extensions().get() else {
            return;
        };
        let others = others.iter().filter(|(other, _)| *other == store);
        let mut names = others.flat_map(|(_, others)| others.iter().map(|limit| &limit.name));
        if let Some(name) = names.find(|name| limits.iter().any(|limit| limit.name == **name)) {
            self.told.call_once(|| {
                warn_of!(
                    "charged-twice",
                    policy = &**name,
                    "one request was charged twice by one policy, in two layers: remove one of them, or name the policies apart"
                );
            });
        }
    }

    #[cold]
    fn mark<B>(&self, response: &mut Response<B>, store: usize, limits: &Arc<[Limit]>) {
        // A mark allocates. So there are few: at the first response, the second, the fourth, ..
        let count = self.responses.fetch_add(1, Relaxed) + 1;
        if !count.is_power_of_two() {
            return;
        }
        let extensions = response.extensions_mut();
        let mark = extensions.get_or_insert_with(|| ChargedBy(Vec::new()));
        mark.0.push((store, limits.clone()));
    }
}

const LAST_MARKED: u32 = 1_024;

#[cfg(test)]
mod tests {
    use layer_store::conformance::Logs;

    use super::*;
    use crate::{IntoPolicy, Quota};

    fn limits(name: &str) -> Arc<[Limit]> {
        let policy = Quota::per_hour(9).fail_open().name(name);
        [Limit::new(policy.into_policy())].into()
    }

    #[test]
    fn a_policy_of_one_name_on_one_store_is_told_of_once_also_through_another_layer() {
        let logs = Logs::debug("rate_limit_layer");
        let [outer, between, inner] = [(); 3].map(|()| ChargedTwice::default());
        for _ in 0..4 {
            let mut response = Response::new(());
            inner.look(&mut response, 1, &limits("a"));
            between.look(&mut response, 1, &limits("b"));
            outer.look(&mut response, 1, &limits("a"));
        }
        let lines = logs.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("code=charged-twice"), "{lines:?}");
        assert!(lines[0].contains("policy=a"), "{lines:?}");
    }

    #[test]
    fn another_name_or_another_store_is_another_bucket() {
        let logs = Logs::debug("rate_limit_layer");
        for (store, name) in [(1, "b"), (2, "a")] {
            let mut response = Response::new(());
            ChargedTwice::default().look(&mut response, 1, &limits("a"));
            ChargedTwice::default().look(&mut response, store, &limits(name));
        }
        assert_eq!(logs.take(), [""; 0]);
    }

    #[test]
    fn few_responses_are_marked() {
        let layer = ChargedTwice::default();
        let limits = limits("a");
        let marked = (0..5_000).filter(|_| {
            let mut response = Response::new(());
            layer.look(&mut response, 1, &limits);
            !response.extensions().is_empty()
        });
        assert_eq!(marked.count(), 11);
    }
}
