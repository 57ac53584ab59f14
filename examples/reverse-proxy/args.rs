use std::{net::SocketAddr, time::Duration};

use cache_layer::CacheLayer;
use clap::{Parser, ValueEnum};
use http::Uri;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "reverse-proxy",
    about = "A caching reverse proxy in front of an HTTP/1.1 origin"
)]
pub(crate) struct Args {
    /// The address to listen on. Port 0 takes a free port and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8100")]
    pub(crate) listen: SocketAddr,

    /// The origin, such as http://127.0.0.1:8000
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Uri,

    /// The store: memory://, redis://host:6379 or rediss://.. [default: REDIS_URL or REDIS_HOST, else memory]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,

    /// The longest time of a call to the store of `--store`, such as 250ms
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = examples::time)]
    pub(crate) deadline: Duration,

    /// The rules for storing responses: `safe` for ordinary applications, `rfc` for RFC 9111 alone
    #[arg(long, value_enum, value_name = "PROFILE", default_value = "safe")]
    pub(crate) profile: Profile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Profile {
    Safe,
    Rfc,
}

impl Profile {
    pub(crate) fn apply(self, cache: CacheLayer) -> CacheLayer {
        match self {
            Self::Safe => cache,
            Self::Rfc => cache.profile(cache_layer::Profile::Rfc),
        }
    }
}
