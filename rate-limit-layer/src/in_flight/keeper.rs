//! The task that renews all permits of one limiter in this process, and gives back what could not be given back at once.
//!
//! It runs while permits are held. It is begun again if its runtime has ended.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{held::Due, permits::Permits, token::Token};

/// Renews until nothing is held.
pub(crate) async fn keep(permits: Arc<Permits>) {
    loop {
        sleep(permits.tick()).await;
        let Some(mut due) = permits.held.lock().due(Instant::now()) else {
            return;
        };
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(AT_ONCE));
            let mut tasks = JoinSet::new();
            for due in due {
                tasks.spawn(renew(permits.clone(), due));
            }
            while tasks.join_next().await.is_some() {}
            due = rest;
        }
    }
}

/// Renews the permits of one key, and then gives back what has ended.
async fn renew(permits: Arc<Permits>, due: Due) {
    let mut returned = due.give_back;
    if !due.renew.is_empty() {
        let sent = Instant::now();
        let renewed = permits.renew(&due.partition, &due.renew).await;
        if let Err(error) = &renewed {
            tracing::debug!(
                kind = error.kind().as_str(),
                error = %error.report(),
                "permits not renewed"
            );
        }
        let renew_at = renewed.is_ok().then(|| permits.renew_at(sent));
        let mut held = permits.held.lock();
        returned.extend(held.renewed(due.bits, Instant::now(), renew_at));
    }
    if !returned.is_empty() {
        permits.give_back(&due.partition, &returned).await;
    }
}

/// Returns the tokens as the argument of a program.
pub(crate) fn joined(tokens: &[Token]) -> Vec<u8> {
    tokens.iter().flat_map(Token::as_bytes).copied().collect()
}

/// The time between two looks at what is due.
pub(crate) fn tick(lease: Duration) -> Duration {
    (lease / 12).min(LONGEST_TICK)
}

/// The age at which permits are due to be renewed. At most a tick later they are: at a third of the lease.
pub(crate) fn due_after(lease: Duration) -> Duration {
    lease / 3 - tick(lease)
}

/// The renewals that are under way at once.
const AT_ONCE: usize = 16;
const LONGEST_TICK: Duration = Duration::from_secs(5);
