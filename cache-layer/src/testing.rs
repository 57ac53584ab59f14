//! The parts that several unit tests make: a cache in memory, an address, a fill.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Request, StatusCode};
use layer_http::RequestHead;
use layer_store::{
    Clock, KeySpace, ManualClock, MemoryStore, SharedStore, conformance::FaultInjector,
};

use crate::{
    fill::commit::Fill,
    flight::flight_key,
    http::{
        freshness::Freshness,
        request::{Bypass, CacheRequest, KeyedRequest},
        reuse::StaleTerms,
        vary::VaryFields,
    },
    join::{PendingFill, Turn, join_flight},
    purge::scope::EntryScopes,
    route::Route,
    settings::CacheSettings,
    shared::Shared,
    stored::{
        address::Address,
        entry::{EntryHead, EntryKind},
    },
};

/// Unix microseconds.
pub(crate) const NOW: u64 = 1_800_000_000_000_000;

/// A cache on a store that fails on demand, at a time that a test sets.
pub(crate) struct World {
    pub(crate) route: Route,
    pub(crate) store: FaultInjector<MemoryStore>,
    pub(crate) clock: ManualClock,
}

impl World {
    pub(crate) fn new() -> Self {
        let store = FaultInjector::new(MemoryStore::new());
        let (clock, hand) = Clock::manual(NOW);
        let shared = Shared::new(SharedStore::new(store.clone()));
        Self {
            route: Route {
                shared: Arc::new(shared),
                settings: CacheSettings::new(clock),
            },
            store,
            clock: hand,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.route.shared
    }

    /// Reads a request as this cache does.
    pub(crate) fn request(&self, lines: &[(&str, &str)]) -> (CacheRequest, HeaderMap) {
        let mut request = Request::get("/cars");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        match read_request(&self.route.settings, &RequestHead::of(&request)) {
            Ok(cacheable) => (cacheable, request.headers().clone()),
            Err(bypass) => panic!("it passes by: {bypass:?}"),
        }
    }

    /// Leads a flight for an address, and has its stamps planted.
    pub(crate) async fn lead(&self, address: &Address) -> PendingFill {
        let fields = HeaderMap::new();
        let mut found = self.shared().look_up(address, &fields).await.unwrap();
        let key = flight_key(address, false, &[]);
        match join_flight(self.shared(), address, key, false, &mut found).await {
            Turn::Fill(fill) => fill,
            other => panic!("it leads: {other:?}"),
        }
    }

    /// A fill of an address with a response that is fresh for a minute.
    pub(crate) async fn fill(&self, address: Arc<Address>) -> Fill {
        let PendingFill {
            key,
            snapshot,
            leader,
            lease,
            ..
        } = self.lead(&address).await;
        Fill {
            shared: self.shared().clone(),
            clock: self.route.settings.clock.clone(),
            address,
            key,
            snapshot,
            leader,
            lease,
            head: head(Duration::from_secs(60)),
            headers: HeaderMap::new(),
            makes_etag: false,
            tags: Vec::new(),
            variant: None,
        }
    }
}

/// Names and values of fields.
pub(crate) type Lines<'a> = &'a [(&'static str, &'a str)];

/// Makes a map of fields.
pub(crate) fn fields(lines: Lines<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(*name, value.parse().unwrap());
    }
    fields
}

/// Reads a request as a layer with these settings does.
pub(crate) fn read_request(
    settings: &CacheSettings,
    head: &RequestHead<'_>,
) -> Result<CacheRequest, Bypass> {
    let keyed = KeyedRequest::of(settings, head)?;
    Ok(keyed.with_scopes(settings, head))
}

/// The address of `/cars`, or of another text under the same scopes.
pub(crate) fn address(text: &str) -> Address {
    Address {
        space: Arc::new(KeySpace::new("entry", "2/cache")),
        text: text.as_bytes().into(),
        scopes: EntryScopes::of_path("/cars").into_owned(),
        tags: Vec::new(),
    }
}

/// A response that came now.
pub(crate) fn head(lifetime: Duration) -> EntryHead {
    EntryHead {
        kind: EntryKind::Http {
            status: StatusCode::OK,
            public: false,
            vary_values: Vec::new(),
        },
        received_at: NOW / 1_000,
        freshness: Freshness::given(lifetime),
        terms: StaleTerms::default(),
    }
}

pub(crate) fn vary(name: &'static str) -> VaryFields {
    VaryFields::from_vec(vec![http::HeaderName::from_static(name)])
}
