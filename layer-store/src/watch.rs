use std::future::pending;

/// Hints that a key changed, from [`Store::watch`](crate::Store::watch).
///
/// No store of this version sends any: [`changed`](Self::changed) stays pending, and a user's timer decides.
#[derive(Debug)]
#[must_use = "a watch does nothing until `changed` is awaited"]
pub struct Watch(());

impl Watch {
    /// A watch that never fires.
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
