/// Any error, boxed: what a body of unknown type may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
