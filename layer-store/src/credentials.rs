use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

/// The name of a store's user when it connects, if the server knows users, and the password.
///
/// Neither is shown by [`Debug`](fmt::Debug).
///
/// ```
/// use layer_store::Credentials;
///
/// let credentials = Credentials::user("shop", "hunter2");
/// assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Option<String>,
    password: String,
}

impl Credentials {
    /// Makes the credentials of the server's default user.
    pub fn password(password: impl Into<String>) -> Self {
        Self {
            username: None,
            password: password.into(),
        }
    }

    /// Makes the credentials of a user. Redis knows users since version 6.
    pub fn user(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: Some(username.into()),
            password: password.into(),
        }
    }

    /// Returns the user. `None`: the server's default user.
    pub(crate) fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    pub(crate) fn secret(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Gives the credentials of a store each time it connects.
///
/// For passwords that change while a process runs, and for tokens that expire (IAM). A function that returns a future is a
/// provider; so is a type of your own, as below.
///
/// ```
/// use std::error::Error;
///
/// use layer_store::{Credentials, CredentialsProvider, Options};
///
/// struct MountedSecret;
///
/// impl CredentialsProvider for MountedSecret {
///     async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
///         let password = std::fs::read_to_string("/run/secrets/redis")?;
///         Ok(Credentials::user("shop", password.trim()))
///     }
/// }
///
/// let options = Options::new().credentials(MountedSecret);
/// let same = Options::new().credentials(async || Ok(Credentials::password("hunter2")));
/// # let _ = (options, same);
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// Returns the credentials for the connection that is about to be made.
    ///
    /// It may take as long as an attempt to connect may
    /// ([`Options::connect_timeout`](crate::Options::connect_timeout)), and its time is part of the attempt's. It is asked
    /// again by the next attempt.
    ///
    /// # Errors
    ///
    /// There are no credentials now. The attempt fails with this error as its source, and nothing was sent.
    fn credentials(
        &self,
    ) -> impl Future<Output = Result<Credentials, Box<dyn Error + Send + Sync>>> + Send;
}

impl<F, Fut> CredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Credentials, Box<dyn Error + Send + Sync>>> + Send,
{
    fn credentials(
        &self,
    ) -> impl Future<Output = Result<Credentials, Box<dyn Error + Send + Sync>>> + Send {
        self()
    }
}

/// A provider of any type, shared by the clones of the options and the settings.
#[derive(Clone)]
pub(crate) struct SharedProvider(Arc<dyn DynProvider>);

impl SharedProvider {
    pub(crate) fn new(provider: impl CredentialsProvider) -> Self {
        Self(Arc::new(provider))
    }

    /// Asks the provider. A panic of it is an error, so that the attempt to connect fails and the next waits for its time.
    pub(crate) async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        let mut asked = None;
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let asked = asked.get_or_insert_with(|| self.0.credentials_dyn());
                asked.as_mut().poll(cx)
            }));
            polled.unwrap_or_else(|_| Poll::Ready(Err("the provider panicked".into())))
        })
        .await
    }
}

impl fmt::Debug for SharedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedProvider")
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The twin of [`CredentialsProvider`] that can be a `dyn`.
trait DynProvider: Send + Sync {
    fn credentials_dyn(&self) -> BoxFuture<'_, Result<Credentials, Box<dyn Error + Send + Sync>>>;
}

impl<P: CredentialsProvider> DynProvider for P {
    fn credentials_dyn(&self) -> BoxFuture<'_, Result<Credentials, Box<dyn Error + Send + Sync>>> {
        Box::pin(self.credentials())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_function_and_a_type_of_ones_own_are_providers() {
        struct Own(&'static str);
        impl CredentialsProvider for Own {
            async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
                Ok(Credentials::user("ada", self.0))
            }
        }
        let own = SharedProvider::new(Own("hunter2"));
        let function = SharedProvider::new(|| async { Err("no token".into()) });
        assert_eq!(
            own.clone().credentials().await.unwrap(),
            Credentials::user("ada", "hunter2")
        );
        let error = function.credentials().await.unwrap_err();
        assert_eq!(error.to_string(), "no token");
        let shown = format!("{own:?} {:?}", Credentials::user("ada", "hunter2"));
        assert!(!shown.contains("ada") && !shown.contains("hunter2"));
    }

    #[tokio::test]
    async fn a_provider_that_panics_has_no_credentials() {
        async fn panics() -> Result<Credentials, Box<dyn Error + Send + Sync>> {
            panic!("no token")
        }
        let provider = SharedProvider::new(panics);
        let error = provider.credentials().await.unwrap_err();
        assert_eq!(error.to_string(), "the provider panicked");
    }
}
