use std::{fmt, mem, sync::Arc};

use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use layer_http::{Body, Content, RequestHead, grpc::ClientProtocol};
use layer_store::{IdentityRef, SharedStore};

use crate::{
    Limiter, Policy, QuotaExceeded, RateLimitRefusal, Standing,
    check::{
        counted::Counted,
        decision::{Checked, Debt, Decision, Tell},
        partition::Partitions,
        unasked::Unasked,
    },
    metrics::Outcome,
    policy::{costs::Costs, limit::Limit, limit_set::LimitSet},
    provisional::{Provisional, response_head::ResponseHead},
    response::{
        headers::{self, RATE_LIMIT, RATE_LIMIT_POLICY},
        legacy,
        on_refused::OnRefused,
        refusal_fields::RefusalFields,
    },
    skip::SkipRules,
    tier::{of_request::Client, quotas::Quotas, variants::Variants},
    warnings::{ChargedTwice, Forwarding},
};

/// The settings and the limiter that all services of a layer share. axum calls `Layer::layer` anew for each connection.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) limiter: Limiter,
    cost: u64,
    enabled: bool,
    skip: SkipRules,
    /// True if every request is checked, and there is nothing more to do: one look on the fastest path.
    is_usual: bool,
    /// They know if headers are on, and the value of `RateLimit-Policy`.
    refusal_fields: RefusalFields,
    /// True if responses have `X-RateLimit-*`.
    legacy_headers: bool,
    /// True if requests get their standing.
    standing: bool,
    /// True if anything is written on an admitted request or its response: one look on the fastest path.
    annotates: bool,
    on_refused: Option<OnRefused>,
    /// True if a response decides about charges.
    commits: bool,
    /// True if an observer looks at admitted requests.
    tells_near_limits: bool,
    forwarding: Forwarding,
    charged_twice: ChargedTwice,
    /// The same for requests under other quotas.
    variants: Variants<Arc<Self>>,
}

/// The standing and the headers that an admitted request and its response are still to be given.
#[derive(Debug)]
pub(crate) struct Annotation {
    shared: Arc<Shared>,
    /// `None`: the store did not tell, and the client is told nothing.
    debt: Option<Debt>,
    counted: Option<Arc<Counted>>,
    /// The charges that the response decides about. Boxed, as few have any.
    provisional: Option<Box<Provisional>>,
}

impl Shared {
    #[track_caller]
    pub(crate) fn new(store: SharedStore, policy: Policy) -> Self {
        let shared = Self {
            limiter: Limiter::new(store, policy),
            cost: 1,
            enabled: true,
            skip: SkipRules::default(),
            is_usual: true,
            refusal_fields: RefusalFields::new(None),
            legacy_headers: false,
            standing: false,
            annotates: false,
            on_refused: None,
            commits: false,
            tells_near_limits: false,
            forwarding: Forwarding::default(),
            charged_twice: ChargedTwice::default(),
            variants: Variants::default(),
        };
        shared.headers(true)
    }

    #[track_caller]
    pub(crate) fn and(mut self, policy: Policy) -> Self {
        self.limiter = self.limiter.and(policy);
        let headers = self.policies().is_some();
        self.allowed().headers(headers)
    }

    #[track_caller]
    pub(crate) fn cost(self, cost: u64) -> Self {
        Self { cost, ..self }.allowed()
    }

    pub(crate) fn headers(mut self, headers: bool) -> Self {
        let limits = self.limiter.checker().limits();
        let policies = headers.then(|| headers::policy_field(limits));
        self.refusal_fields = RefusalFields::new(policies.as_ref());
        self.looked_at()
    }

    pub(crate) fn legacy_headers(self, legacy_headers: bool) -> Self {
        let this = Self {
            legacy_headers,
            ..self
        };
        this.looked_at()
    }

    pub(crate) fn standing(self, standing: bool) -> Self {
        Self { standing, ..self }.looked_at()
    }

    pub(crate) fn skip(
        mut self,
        rule: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.skip.push(rule);
        self.looked_at()
    }

    pub(crate) fn on_refused(self, on_refused: OnRefused) -> Self {
        Self {
            on_refused: Some(on_refused),
            ..self
        }
    }

    /// Changes the limiter.
    #[track_caller]
    pub(crate) fn with_limiter(self, change: impl FnOnce(Limiter) -> Limiter) -> Self {
        let limiter = change(self.limiter);
        Self { limiter, ..self }.looked_at()
    }

    pub(crate) fn enabled(self, enabled: bool) -> Self {
        Self { enabled, ..self }.looked_at()
    }

    /// Sums up what the fastest path looks at.
    fn looked_at(mut self) -> Self {
        let limits = self.limiter.checker().limits();
        self.commits = limits.iter().any(|limit| limit.commit_by.is_some());
        let has_costs = limits.iter().any(|limit| limit.cost_of.is_some());
        self.tells_near_limits = self.limiter.observers().near_limit.is_some();
        let has_more = self.commits
            || has_costs
            || self.tells_near_limits
            || !self.limiter.shadows().is_empty();
        self.is_usual = self.enabled && self.skip.is_empty() && !has_more;
        self.annotates = self.policies().is_some() || self.legacy_headers || self.standing;
        self
    }

    /// Returns the peer of a request of the usual layer: one policy, by the peer's address, over a store that needs no waiting. `None`:
    /// ask [`check_peer_now`](Self::check_peer_now).
    ///
    /// Nothing here may look at the request that is not inlined, or it is copied on its way to the inner service.
    #[inline(always)]
    pub(crate) fn served_peer<B>(&self, req: &Request<B>) -> Option<IdentityRef<'static>> {
        match self.is_usual && self.forwarding.is_done() {
            true => self.limiter.checker().served_peer(&RequestHead::of(req)),
            false => None,
        }
    }

    /// Charges a [peer](Self::served_peer) in this process's memory. `None`: nothing was charged, ask
    /// [`charge_peer_now`](Self::charge_peer_now).
    #[inline(always)]
    pub(crate) fn charge_peer_in_place(&self, peer: IdentityRef<'_>) -> Option<i64> {
        self.limiter.checker().charge_peer_in_place(peer, self.cost)
    }

    /// Charges a [peer](Self::served_peer). `None`: nothing was charged, ask [`check_now`](Self::check_now).
    #[inline]
    pub(crate) fn charge_peer_now(&self, peer: IdentityRef<'_>) -> Option<Decision> {
        self.limiter.checker().charge_peer_now(peer, self.cost)
    }

    /// Decides by a reply of [`charge_peer_in_place`](Self::charge_peer_in_place).
    pub(crate) fn read_reply(&self, reply: i64) -> Decision {
        self.limiter.checker().read_reply(reply, self.cost)
    }

    /// Returns the value of `RateLimit-Policy`. `None`: headers are off.
    #[inline]
    const fn policies(&self) -> Option<&HeaderValue> {
        self.refusal_fields.policies()
    }

    /// Returns true if anything is written on an admitted request or its response.
    #[inline]
    pub(crate) const fn annotates(&self) -> bool {
        self.annotates
    }

    /// Decides on a request of the usual layer: one policy, by the peer's address, over a store that needs no waiting. `None`:
    /// nothing was charged, ask [`lets_pass`](Self::lets_pass) and [`check_now`](Self::check_now).
    #[inline]
    pub(crate) fn check_peer_now<B>(&self, req: &Request<B>) -> Option<Decision> {
        if !self.is_usual {
            return None;
        }
        let checker = self.limiter.checker();
        if !self.forwarding.is_done() {
            self.look_at_forwarding(req.headers());
        }
        checker.check_peer_now(&RequestHead::of(req), self.cost)
    }

    /// Returns true if the quotas of a request have to be found before it is checked.
    #[inline]
    pub(crate) fn varies(&self) -> bool {
        self.limiter.checker().live().varies()
    }

    /// Returns what decides on a request, under its quotas. `None`: they have to be waited for.
    #[inline(never)]
    pub(crate) fn under_quotas_now(self: &Arc<Self>, head: &RequestHead<'_>) -> Option<Arc<Self>> {
        let quotas = self.limiter.checker().quotas_now(Client::Request(head))?;
        Some(self.under(&quotas))
    }

    /// Returns what decides on a request, under its quotas.
    pub(crate) async fn under_quotas(self: &Arc<Self>, head: &RequestHead<'_>) -> Arc<Self> {
        let quotas = self.limiter.checker().quotas(Client::Request(head)).await;
        self.under(&quotas)
    }

    fn under(self: &Arc<Self>, quotas: &Quotas) -> Arc<Self> {
        if quotas == self.limiter.checker().live().made() {
            return self.clone();
        }
        self.variants.get_or_make(quotas, || {
            let this = Self {
                limiter: self.limiter.under(quotas).into_owned(),
                ..Self::clone(self)
            };
            Arc::new(this.headers(self.policies().is_some()))
        })
    }

    /// Returns true if a request is not to be checked.
    #[inline]
    pub(crate) fn lets_pass(&self, head: &RequestHead<'_>) -> bool {
        // Here and not in the layer: a switch must not change the service's type.
        !self.is_usual && (!self.enabled || self.skip.skip(head))
    }

    fn look_at_forwarding(&self, fields: &HeaderMap) {
        let mut limits = self.limiter.checker().limits().iter();
        let by_peer = limits.find(|limit| limit.by.is_by_peer());
        self.forwarding
            .look(fields, by_peer.map(|limit| &*limit.name));
    }

    /// Returns the time before a check, in Unix microseconds, for charges that may be given back. Zero if there are none.
    #[inline]
    pub(crate) fn begun_at(&self) -> u64 {
        match self.commits {
            true => self.limiter.checker().now(),
            false => 0,
        }
    }

    /// Decides on a request, if the store needs no waiting. `None`: nothing was charged, ask [`check`](Self::check).
    #[inline]
    pub(crate) fn check_now(&self, head: &RequestHead<'_>) -> Option<Result<Checked, Unasked>> {
        if !self.is_usual && !self.forwarding.is_done() {
            self.look_at_forwarding(head.headers);
        }
        self.limiter
            .checker()
            .check_now(head, self.cost, self.tell())
    }

    /// Decides on a request, waiting for the store.
    pub(crate) async fn check(&self, head: &RequestHead<'_>) -> Result<Checked, Unasked> {
        self.limiter
            .checker()
            .check(head, self.cost, self.tell())
            .await
    }

    /// Charges an admitted request to the policies on trial.
    #[inline]
    pub(crate) fn charge_shadows(&self, head: &RequestHead<'_>) {
        if !self.is_usual {
            self.limiter.shadows().charge_request(head, self.cost);
        }
    }

    /// Makes what an admitted request is to be given. `None`: nothing.
    #[inline]
    pub(crate) fn annotation(
        self: &Arc<Self>,
        debt: Option<Debt>,
        counted: Option<Arc<Counted>>,
    ) -> Option<Annotation> {
        match (self.annotates, debt) {
            (true, Some(_)) => Some(Annotation {
                shared: self.clone(),
                debt,
                counted,
                provisional: None,
            }),
            _ => None,
        }
    }

    /// Makes what an admitted request is to be given, if it is not by the fastest path.
    pub(crate) fn annotation_of(
        self: &Arc<Self>,
        checked: Checked,
        head: &RequestHead<'_>,
        begun_at: u64,
    ) -> Option<Annotation> {
        let limits = self.limiter.checker().limits();
        let partitions = || Partitions::of(limits, head).ok();
        if self.tells_near_limits {
            self.limiter.observe(&checked, partitions);
        }
        let (counted, charged) = (checked.counted, checked.charged);
        let Decision::Admit(debt) = checked.decision else {
            return None;
        };
        let annotation = self.annotation(debt, counted);
        if !self.commits {
            return annotation;
        }
        // They were found before, so they are found again.
        let partitions = partitions()?.to_owned();
        let provisional = Provisional {
            limiter: self.limiter.clone(),
            partitions,
            costs: Costs::of_request(limits, head, self.cost),
            charged_at: begun_at,
            charged,
        };
        let annotation = annotation.unwrap_or_else(|| Annotation {
            shared: self.clone(),
            debt: None,
            counted: None,
            provisional: None,
        });
        Some(Annotation {
            provisional: Some(Box::new(provisional)),
            ..annotation
        })
    }

    /// Makes the response to a request that is not admitted. It takes the request's extensions.
    pub(crate) fn refuse<B>(
        &self,
        checked: Result<Checked, Unasked>,
        req: &mut Request<B>,
    ) -> Response<Content> {
        let head = RequestHead::of(req);
        let (refusal, protocol) = self.refusal(checked, &head);
        match self.legacy_headers || self.on_refused.is_some() {
            true => self.refuse_changed(refusal, &head, &protocol),
            false => {
                let used = mem::take(req.extensions_mut());
                refusal.into_response_of(&self.refusal_fields, &protocol, used)
            }
        }
    }

    /// Tells why a request with this head is not admitted, and in which protocol to say so.
    #[inline(never)]
    fn refusal(
        &self,
        checked: Result<Checked, Unasked>,
        head: &RequestHead<'_>,
    ) -> (RateLimitRefusal, ClientProtocol) {
        if self.limiter.observers().top.is_some() {
            self.observe_refused(&checked, head);
        }
        let refusal = match checked {
            Ok(checked) => {
                let limits = self.limiter.checker().limits();
                match checked.decision {
                    Decision::Refuse(excess) => RateLimitRefusal::QuotaExceeded(
                        QuotaExceeded::new(limits.clone(), excess, checked.counted),
                    ),
                    Decision::Fail(unavailable) => RateLimitRefusal::Unavailable(unavailable),
                    Decision::Admit(_) => unreachable!("an admitted request is not refused"),
                }
            }
            Err(unasked) => self.refusal_of(unasked),
        };
        (refusal, ClientProtocol::of(head.headers))
    }

    #[cold]
    fn observe_refused(&self, checked: &Result<Checked, Unasked>, head: &RequestHead<'_>) {
        if let Ok(checked) = checked {
            let limits = self.limiter.checker().limits();
            let partitions = || Partitions::of(limits, head).ok();
            self.limiter.observe(checked, partitions);
        }
    }

    /// Tells why a request is refused without asking the store.
    #[cold]
    fn refusal_of(&self, unasked: Unasked) -> RateLimitRefusal {
        let limits = self.limiter.checker().limits();
        match unasked {
            Unasked::Unpartitioned(unpartitioned) => {
                tracing::debug!(reason = unasked.as_str(), "rate limit refused");
                unpartitioned.into()
            }
            Unasked::TooCostly { limit, cost } => {
                limits[limit].count(Outcome::Refused);
                tracing::debug!(
                    policy = &*limits[limit].name,
                    limit = %limits[limit].quota,
                    cost,
                    reason = unasked.as_str(),
                    "rate limit refused"
                );
                RateLimitRefusal::TooCostly(Unasked::invalid_cost(limits, limit, cost))
            }
        }
    }

    #[cold]
    fn refuse_changed(
        &self,
        refusal: RateLimitRefusal,
        head: &RequestHead<'_>,
        protocol: &ClientProtocol,
    ) -> Response<Content> {
        let (kept, none) = (refusal.clone(), Extensions::new());
        let mut response = kept.into_response_of(&self.refusal_fields, &ClientProtocol::HTTP, none);
        if let (true, RateLimitRefusal::QuotaExceeded(exceeded)) = (self.legacy_headers, &refusal) {
            legacy::refused(response.headers_mut(), exceeded);
        }
        if let Some(on_refused) = &self.on_refused {
            on_refused.change(&refusal, head, &mut response);
        }
        // Last: gRPC has a status and a body of its own.
        protocol.answer(response, || refusal.grpc_status())
    }

    const fn tell(&self) -> Tell {
        match self.policies().is_some() || self.legacy_headers || self.tells_near_limits {
            true => Tell::All,
            false => Tell::Refusals,
        }
    }

    /// # Panics
    ///
    /// If no request could ever pass.
    #[track_caller]
    fn allowed(self) -> Self {
        if let Err(error) = self.limiter.checker().allows(self.cost) {
            panic!("{error}");
        }
        self
    }
}

impl Annotation {
    /// Returns true if the request gets something, and not its response alone.
    pub(crate) fn is_for_request(&self) -> bool {
        self.shared.standing
    }

    /// Puts the standing into a request's extensions, if that is on.
    pub(crate) fn on_request<B>(&self, req: &mut Request<B>) {
        if self.shared.standing
            && let Some(debt) = self.debt
        {
            let limits = self.shared.limiter.checker().limits().clone();
            let standing = Standing::new(limits, debt);
            req.extensions_mut().insert(standing);
        }
    }

    /// Gives back what the request did not use, and tells the client what remains then.
    #[cold]
    fn commit(&mut self, provisional: Provisional, head: &ResponseHead<'_>) {
        let limits = self.shared.limiter.checker().limits();
        let (debt, counted) = (&mut self.debt, &mut self.counted);
        provisional.commit(head, |limit, unused| {
            if let Some(counted) = counted {
                Arc::make_mut(counted).give_back(limits, limit, unused);
            }
            if let Some(debt) = debt
                && debt.limit == limit
            {
                debt.usage = debt.usage.without(limits[limit].rate, unused);
            }
        });
    }

    /// Adds the header fields to a response that are on. Another limiter's `RateLimit` stays, as an item before ours.
    #[inline(always)]
    pub(crate) fn on_response<B>(&mut self, response: Response<B>) -> Response<Body<B>> {
        let mut response = response.map(Body::inner);
        if let Some(provisional) = self.provisional.take() {
            self.commit(*provisional, &ResponseHead::of(&response));
        }
        let Some(debt) = self.debt else {
            return response;
        };
        let limits = self.shared.limiter.checker().limits();
        let store = self.shared.limiter.store_id();
        self.shared.charged_twice.look(&mut response, store, limits);
        if self.shared.legacy_headers {
            legacy::admitted(
                response.headers_mut(),
                limits,
                debt,
                self.counted.as_deref(),
            );
        }
        if let Some(policies) = self.shared.policies() {
            let fields = response.headers_mut();
            if let Some(counted) = &self.counted {
                append_counted(fields, limits, policies, counted);
                return response;
            }
            let limit = &limits[debt.limit];
            let (rate, usage) = (limit.rate, debt.usage);
            let seconds = headers::seconds_left(rate, usage);
            let field = headers::limit_field(&limit.quoted, usage.remaining(rate), seconds);
            // Appended: a limiter further in may have written its own.
            fields.append(RATE_LIMIT_POLICY.clone(), policies.clone());
            fields.append(RATE_LIMIT.clone(), field);
        }
        response
    }
}

/// Adds the two headers for several limits. Apart from the usual case of one, which stays short for it.
#[inline(never)]
fn append_counted(
    fields: &mut HeaderMap,
    limits: &[Limit],
    policies: &HeaderValue,
    counted: &Counted,
) {
    let none = LimitSet::default();
    let (policies, standings) = headers::counted_fields(limits, policies, counted, none);
    fields.append(RATE_LIMIT_POLICY.clone(), policies);
    fields.append(RATE_LIMIT.clone(), standings);
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limiter", &self.limiter)
            .field("cost", &self.cost)
            .field("enabled", &self.enabled)
            .field("skip", &self.skip)
            .field("headers", &self.policies().is_some())
            .field("standing", &self.standing)
            .field("legacy_headers", &self.legacy_headers)
            .finish()
    }
}
