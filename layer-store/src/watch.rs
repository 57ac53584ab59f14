use std::future::pending;

/// A source of hints that a key changed, made by [`Store::watch`](crate::Store::watch).
///
/// No store of this version sends hints: [`changed`](Self::changed) stays pending, and the user's timer decides.
#[derive(Debug)]
#[must_use = "a watch does nothing until `changed` is awaited"]
pub struct Watch(());

impl Watch {
    /// Makes a watch without hints.
    pub const fn never() -> Self {
        Self(())
    }

    /// Waits for the next hint.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no hint.
    pub async fn changed(&mut self) {
        pending().await
    }
}
