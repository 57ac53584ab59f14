use crate::join::PendingFill;

/// The way in which an object is got.
pub(super) enum LoadPlan<T, E> {
    /// It is stored, or another call has just loaded it.
    Found(T),
    /// Another call has just failed to load it.
    Failed(E),
    /// It is loaded, and stored if there is a fill.
    Load(Option<PendingFill>),
}
