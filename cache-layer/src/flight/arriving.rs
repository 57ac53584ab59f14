use std::sync::Arc;

use http::HeaderMap;

use crate::{body::buffer::FillBuffer, stored::entry::EntryHead};

/// An entry that requests share while its body arrives.
#[derive(Debug)]
pub(crate) struct ArrivingEntry {
    pub(crate) head: EntryHead,
    /// Those that will be stored. Empty for an object.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Arc<FillBuffer>,
    /// True if it is a stored response that is sent because the handler has failed.
    pub(crate) handler_failed: bool,
}
