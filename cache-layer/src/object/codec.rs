use bytes::Bytes;
use layer_http::BoxError;

/// Turns values into the bytes of an object, and back. See [`ObjectCache::typed`](crate::ObjectCache::typed).
///
/// Processes of two versions read each other's objects. A change that the old or the new version cannot read needs another
/// [namespace](crate::ObjectCache::namespace), or a `decode` that fails.
///
/// ```
/// use bytes::Bytes;
/// use cache_layer::Codec;
///
/// /// Numbers, in eight bytes.
/// #[derive(Clone)]
/// struct Number;
///
/// impl Codec<u64> for Number {
///     type Error = std::array::TryFromSliceError;
///
///     fn encode(&self, value: &u64) -> Result<Bytes, Self::Error> {
///         Ok(Bytes::copy_from_slice(&value.to_be_bytes()))
///     }
///
///     fn decode(&self, object: &Bytes) -> Result<u64, Self::Error> {
///         object[..].try_into().map(u64::from_be_bytes)
///     }
/// }
///
/// let object = Number.encode(&7)?;
/// assert_eq!(Number.decode(&object)?, 7);
/// # Ok::<_, std::array::TryFromSliceError>(())
/// ```
pub trait Codec<T>: Clone + Send + Sync {
    /// The error of both ways.
    type Error: Into<BoxError>;

    /// Writes a value.
    ///
    /// # Errors
    ///
    /// The value cannot be written. It is not stored.
    fn encode(&self, value: &T) -> Result<Bytes, Self::Error>;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// The object is not one of these values. It is taken for missing.
    fn decode(&self, object: &Bytes) -> Result<T, Self::Error>;
}

/// The codec of bytes, which are kept as they are. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    type Error = std::convert::Infallible;

    fn encode(&self, value: &Bytes) -> Result<Bytes, Self::Error> {
        Ok(value.clone())
    }

    fn decode(&self, object: &Bytes) -> Result<Bytes, Self::Error> {
        Ok(object.clone())
    }
}

/// The codec of values with `serde`, as JSON.
///
/// ```
/// use std::time::Duration;
///
/// use cache_layer::{Json, ResponseCache, store::{MemoryStore, SharedStore}};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Deserialize, Serialize)]
/// struct User {
///     name: String,
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cache = ResponseCache::new(SharedStore::new(MemoryStore::new()));
/// let users = cache.objects().namespace("users").typed::<User, _>(Json);
///
/// let load = || async { Ok::<_, std::io::Error>(User { name: "Ada".into() }) };
/// let ada = users.get_or_insert_with("7", Duration::from_secs(60), &[], load).await?;
/// assert_eq!(users.get("7").await, Some(ada));
/// # Ok::<_, std::io::Error>(())
/// # }).unwrap();
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    type Error = serde_json::Error;

    fn encode(&self, value: &T) -> Result<Bytes, Self::Error> {
        serde_json::to_vec(value).map(Bytes::from)
    }

    fn decode(&self, object: &Bytes) -> Result<T, Self::Error> {
        serde_json::from_slice(object)
    }
}
