//! What becomes of a request that can be answered from the cache, or whose answer can be stored.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response, StatusCode, header, response};
use layer_http::{Body, Content};
use layer_store::{KeySpace, StoreError};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    body::Tee,
    flight::{Entrance, Follower, Lead, Outcome, flight_key},
    http::cache_status::{Detail, Forward, Status},
    http::freshness::Decision,
    http::request::Question,
    http::storable::{Terms, is_lasting, strip_hop_by_hop, terms},
    http::vary::{self, Names},
    purge::Invalidate,
    purge::scope::Scope,
    purge::snapshot::{Fence, plant},
    settings::Rule,
    shared::{Core, Detached, detach},
    stats::count,
    stored::entry::{Entry, EntryHead},
    stored::fill::{Fill, Variant},
    stored::lookup::{Found, Missing},
};

/// What all services of one layer share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) rule: Rule,
}

pub(crate) type Answer<ResBody> = Response<Body<Tee<ResBody>>>;

/// As a request extension: a service of this cache is at work on the request. One further in would wait for it.
#[derive(Clone)]
pub(crate) struct Inside {
    core: Arc<Core>,
    space: Arc<KeySpace>,
}

/// How a request is to be answered.
pub(crate) enum Way {
    /// With what is stored.
    Serve(Servable, Status),
    /// Not at all: it wants nothing but what is stored.
    Nothing,
    /// By the handler, whose answer may be stored.
    Fill(Forward, Filling),
    /// By the handler, whose answer may not.
    Pass(Forward, Option<Detail>),
}

/// A stored answer that may be sent.
pub(crate) struct Servable {
    entry: Arc<Entry>,
    left: Duration,
    resident: Duration,
}

/// What is known, before the handler runs, of an answer that may be stored.
pub(crate) struct Filling {
    fence: Arc<Fence>,
    lead: Option<Lead>,
    names: Names,
    rule_stands: bool,
}

enum Entered {
    Fill(Filling),
    Follow(Follower),
    /// An answer was stored since the lookup was sent.
    LookAgain,
    /// The stamps could not be planted.
    Unfenced,
}

impl Shared {
    /// Looks at what the store answered without waiting: the hit, or what is to be done next.
    pub(crate) fn serve_now(
        &self,
        question: &Question,
        found: &Result<Found, StoreError>,
    ) -> Option<Way> {
        let servable = self.judge(question, found.as_ref().ok()?).ok()?;
        Some(self.hit(servable))
    }

    /// What a stored answer looks like to the client.
    pub(crate) fn respond<B>(
        &self,
        question: &Question,
        servable: &Servable,
        status: Status,
    ) -> Option<Answer<B>> {
        let entry = &servable.entry;
        let mut headers = entry.headers()?;
        let age = (entry.head.freshness.age + servable.resident).as_secs();
        headers.insert(header::AGE, age.into());
        self.rule.member.append(&mut headers, status);
        let content = match question.is_head {
            true => {
                let length = entry.body.len();
                headers
                    .entry(header::CONTENT_LENGTH)
                    .or_insert_with(|| length.into());
                Content::default()
            }
            false => Content::new(entry.body.clone()).with_trailers(entry.trailers()?),
        };
        let mut response = Response::new(Body::own(content));
        *response.status_mut() = StatusCode::from_u16(entry.head.status).ok()?;
        *response.headers_mut() = headers;
        Some(response)
    }

    /// Whether an outer service of this cache is at work on the request.
    pub(crate) fn is_inside(&self, extensions: &Extensions) -> bool {
        let same = |outer: &Inside| {
            Arc::ptr_eq(&outer.core, &self.core) && outer.space.name() == self.rule.space.name()
        };
        extensions.get().is_some_and(same)
    }

    fn hit(&self, servable: Servable) -> Way {
        count(&self.core.stats.hits);
        let left = servable.left;
        Way::Serve(servable, Status::Hit { left })
    }

    fn judge(&self, question: &Question, found: &Found) -> Result<Servable, Forward> {
        match &found.entry {
            Some(entry) => self.judge_entry(question, entry),
            None => Err(match found.missing {
                Missing::Address => Forward::UriMiss,
                Missing::Variant => Forward::VaryMiss,
                Missing::Purged => Forward::Purged,
            }),
        }
    }

    fn judge_entry(&self, question: &Question, entry: &Arc<Entry>) -> Result<Servable, Forward> {
        if self.rule.is_safe() && question.credentialed && !entry.head.public {
            return Err(Forward::Bypass);
        }
        let resident = entry.resident(self.now());
        match entry.head.freshness.decide(resident, &question.directives) {
            Decision::Serve(left) => Ok(Servable {
                entry: entry.clone(),
                left,
                resident,
            }),
            Decision::Stale => Err(Forward::Stale),
            Decision::Request => Err(Forward::Request),
        }
    }

    /// Finds the way, from `first` on if the store has answered already.
    async fn way(
        &self,
        question: &Question,
        request: &HeaderMap,
        mut first: Option<Result<Found, StoreError>>,
    ) -> Way {
        let mut why = Forward::Miss;
        for _ in 0..MOST_ROUNDS {
            if !self.core.settle_purges().await {
                return self.without_store();
            }
            let found = match first.take() {
                Some(found) => found,
                None => self.core.find(&question.address, request).await,
            };
            let Ok(mut found) = found else {
                return self.without_store();
            };
            why = match self.judge(question, &found) {
                Ok(servable) => return self.hit(servable),
                Err(why) => why,
            };
            if question.directives.only_if_cached {
                return Way::Nothing;
            }
            if let Some(detail) = never_stored(question, &found) {
                return Way::Pass(why, Some(detail));
            }
            let follower = match self.enter(question, request, &mut found, why).await {
                Entered::Fill(filling) => return Way::Fill(why, filling),
                Entered::Unfenced => return self.without_store(),
                Entered::LookAgain => continue,
                Entered::Follow(follower) => follower,
            };
            match follower.outcome().await {
                Outcome::Shared(entry) if entry.answers(request) => {
                    if let Ok(servable) = self.judge_entry(question, &entry) {
                        count(&self.core.stats.collapsed);
                        let left = servable.left;
                        return Way::Serve(servable, Status::Collapsed { left, why });
                    }
                }
                // Another variant, or a call that broke off: look again.
                Outcome::Shared(_) | Outcome::Abandoned => {}
                Outcome::Refused | Outcome::TooLong => {
                    return Way::Pass(why, Some(Detail::Uncacheable));
                }
            }
        }
        Way::Pass(why, None)
    }

    /// Makes the handler call that others may wait for, or waits for one.
    async fn enter(
        &self,
        question: &Question,
        request: &HeaderMap,
        found: &mut Found,
        why: Forward,
    ) -> Entered {
        let (core, address) = (&self.core, &question.address);
        let cx = core.context_until();
        let mut lead = None;
        // Who wants a fresher answer than the stored one wants no other's call either.
        while why != Forward::Request && lead.is_none() {
            let variant = found.names.variant(request);
            let key = flight_key(address, question.credentialed, &variant);
            match core.flights.enter(address, key, &found.seen, found.landed) {
                Entrance::Follow(follower) => return Entered::Follow(follower),
                Entrance::LookAgain => return Entered::LookAgain,
                Entrance::Lead(leading) => lead = Some(leading),
                Entrance::PlantFirst => {
                    if plant(&core.waiting, &cx, address, &mut found.seen)
                        .await
                        .is_none()
                    {
                        return Entered::Unfenced;
                    }
                }
            }
        }
        let Some(fence) = plant(&core.waiting, &cx, address, &mut found.seen).await else {
            if let Some(lead) = lead {
                lead.refuse();
            }
            return Entered::Unfenced;
        };
        let fence = Arc::new(fence);
        if let Some(lead) = &lead {
            lead.begin(fence.clone());
        }
        Entered::Fill(Filling {
            fence,
            lead,
            names: std::mem::take(&mut found.names),
            rule_stands: found.rule_stands,
        })
    }

    fn without_store(&self) -> Way {
        count(&self.core.stats.store_errors);
        Way::Pass(Forward::Miss, Some(Detail::StoreDown))
    }

    /// Unix milliseconds.
    fn now(&self) -> u64 {
        self.rule.clock.now() / 1_000
    }
}

/// Answers a request that a stored answer may satisfy.
pub(crate) async fn exchange<S, ReqBody, ResBody>(
    shared: Arc<Shared>,
    mut inner: S,
    mut request: Request<ReqBody>,
    question: Question,
    first: Option<Result<Found, StoreError>>,
) -> Result<Answer<ResBody>, S::Error>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: http_body::Body<Data = Bytes>,
    ResBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // The handler consumes the request, and only its answer says which fields chose it.
    let headers = request.headers().clone();
    let (why, filling, detail) = match shared.way(&question, &headers, first).await {
        Way::Serve(servable, status) => match shared.respond(&question, &servable, status) {
            Some(response) => return Ok(response),
            None => (Forward::Miss, None, None),
        },
        Way::Nothing => return Ok(shared.nothing()),
        Way::Fill(why, filling) => (why, Some(filling), None),
        Way::Pass(why, detail) => (why, None, detail),
    };
    count(&shared.core.stats.misses);
    request.extensions_mut().insert(Inside {
        core: shared.core.clone(),
        space: shared.rule.space.clone(),
    });
    let sent = Instant::now();
    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
    let (mut parts, body) = inner.call(request).await?.into_parts();
    let delay = sent.elapsed();
    purge_after(&shared.core, invalidated(&parts)).await;
    let Some(filling) = filling else {
        shared
            .rule
            .member
            .append(&mut parts.headers, Status::Forwarded { why, detail });
        return Ok(Response::from_parts(parts, Body::inner(Tee::through(body))));
    };
    Ok(shared.store(question, &headers, filling, why, (parts, body), delay))
}

impl Shared {
    /// Sends the handler's answer on, and stores it as it passes if that is allowed.
    fn store<ResBody>(
        &self,
        question: Question,
        request: &HeaderMap,
        filling: Filling,
        why: Forward,
        (mut parts, body): (response::Parts, ResBody),
        delay: Duration,
    ) -> Answer<ResBody>
    where
        ResBody: http_body::Body<Data = Bytes>,
    {
        let now = self.now();
        let wall = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(now);
        let length = body.size_hint().lower();
        let terms = terms(&self.rule, &question, request, &parts, wall, delay)
            .and_then(|terms| match length > self.rule.max_body as u64 {
                true => Err(Detail::TooLarge),
                false => Ok(terms),
            })
            .and_then(|terms| Ok((variant(&filling, &terms, request)?, terms)));
        let (variant, terms) = match terms {
            Ok(terms) => terms,
            Err(detail) => {
                if is_lasting(detail, &question, parts.status) {
                    self.core.refuse(&question.address, question.credentialed);
                }
                if let Some(lead) = filling.lead {
                    lead.refuse();
                }
                let status = Status::Forwarded {
                    why,
                    detail: Some(detail),
                };
                self.rule.member.append(&mut parts.headers, status);
                return Response::from_parts(parts, Body::inner(Tee::through(body)));
            }
        };
        let mut headers = parts.headers.clone();
        strip_hop_by_hop(&mut headers);
        let chosen_by = terms
            .names
            .iter()
            .map(|name| (name.clone(), vary::value(request, name)));
        let head = EntryHead {
            status: parts.status.as_u16(),
            public: terms.public,
            came: now,
            freshness: terms.freshness,
            chosen_by: chosen_by.collect(),
        };
        let fill = Fill {
            core: self.core.clone(),
            clock: self.rule.clock.clone(),
            address: question.address,
            credentialed: question.credentialed,
            fence: filling.fence,
            lead: filling.lead,
            head,
            headers,
            tags: terms.tags,
            variant,
        };
        let body = Tee::copying(body, fill, self.rule.max_body);
        self.rule
            .member
            .append(&mut parts.headers, Status::Stored { why });
        Response::from_parts(parts, Body::inner(body))
    }

    /// RFC 9111, section 5.2.1.7.
    fn nothing<B>(&self) -> Answer<B> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        self.rule
            .member
            .append(response.headers_mut(), Status::OnlyIfCached);
        response
    }
}

/// Destroys the stamps of `scopes` before the answer is released, and also if nobody waits for it any more. A failure is
/// remembered, and does not change the answer.
pub(crate) async fn purge_after(core: &Arc<Core>, scopes: Vec<Scope>) {
    if scopes.is_empty() {
        return;
    }
    let core = core.clone();
    if let Detached::Running(purge) = detach(async move { core.purge(&scopes).await }) {
        // What went wrong is remembered and logged where it did.
        let _ = purge.await;
    }
}

/// What a handler that succeeded says it has changed.
pub(crate) fn invalidated(response: &response::Parts) -> Vec<Scope> {
    match response.extensions.get::<Invalidate>() {
        Some(invalidate) if succeeded(response.status) => invalidate.scopes().to_vec(),
        _ => Vec::new(),
    }
}

pub(crate) fn succeeded(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// Why no answer to this request will be stored, whatever it is.
fn never_stored(question: &Question, found: &Found) -> Option<Detail> {
    if question.is_head {
        Some(Detail::Head)
    } else if question.directives.no_store {
        Some(Detail::NoStore)
    } else if found.seen.is_unreadable() {
        Some(Detail::Stamps)
    } else {
        None
    }
}

/// Where an answer with these terms goes among those of its address. None: it is the only one.
fn variant(
    filling: &Filling,
    terms: &Terms,
    request: &HeaderMap,
) -> Result<Option<Variant>, Detail> {
    let names = filling
        .names
        .union(&terms.names)
        .map_err(|_any| Detail::VaryAny)?;
    Ok((!names.is_empty()).then(|| Variant {
        rest: names.variant(request),
        rule_stands: filling.rule_stands && names == filling.names,
        names,
    }))
}

/// A request that finds the call it waited for broken off looks again so often, and then calls for itself.
const MOST_ROUNDS: usize = 8;
