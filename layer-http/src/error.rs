/// A boxed error of any type, such as that of a body of unknown type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
