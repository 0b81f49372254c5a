//! One coordinator of several leads: the one that holds the Lease `transship-coordinator`.
//!
//! Reads and writes of the Lease go by its `resourceVersion`, so that of two that want it one gets it. The leader's term
//! ends before its lease does, by more than a write may take: see [`Term`].

mod lease;
mod term;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use lease::{Claim, HOLDS, Observed};
pub use term::{Moment, NotLeading, Term};

/// How long a write may take. One that is asked for within the term so has ended, well or badly, before the lease does.
pub const WRITE: Duration = Duration::from_secs(4);
/// How long a term goes on without a renewal.
const TERM: Duration = HOLDS.saturating_sub(WRITE).saturating_sub(Duration::from_secs(1));
/// How often the lease is looked at.
const RETRY: Duration = Duration::from_secs(2);

/// One who wants to lead.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    observed: Observed,
    term: Term,
}

impl Candidate {
    /// For the Lease `name` in `namespace`; `me` must be no other's name.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            me: me.into(),
            observed: Observed::default(),
            term: Term::default(),
        }
    }

    /// The term, which is over until the lease is had.
    pub fn term(&self) -> Term {
        self.term.clone()
    }

    /// Returns when this process leads.
    pub async fn elected(&mut self) {
        while !self.turn().await {
            sleep(RETRY).await;
        }
        info!(lease = self.name, me = self.me, "leads");
    }

    /// Renews the lease; returns when the term is over.
    pub async fn lead(&mut self) {
        loop {
            let left = self.term.until().left();
            if left.is_zero() {
                break;
            }
            sleep(RETRY.min(left)).await;
            self.turn().await;
        }
        self.term.end();
        warn!(lease = self.name, me = self.me, "leads no more");
    }

    /// Gives the lease back, so that the next one needn't wait for its end.
    pub async fn give_back(&mut self) {
        self.term.end();
        let given = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() == Some(&self.me) {
                lease.spec = Some(lease::given_back(&spec));
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, Error>(())
        };
        match timeout(WRITE, given).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the lease could not be given back; it ends by itself"),
            Err(_) => warn!("the lease could not be given back in time; it ends by itself"),
        }
    }

    /// One look at the lease; whether it is ours after that.
    async fn turn(&mut self) -> bool {
        match timeout(WRITE, self.look()).await {
            Ok(Ok(leads)) => leads,
            Ok(Err(error)) => {
                warn!(%error, lease = self.name, "the lease can't be had");
                false
            }
            Err(_) => {
                warn!(lease = self.name, "the API server doesn't answer about the lease");
                false
            }
        }
    }

    async fn look(&mut self) -> Result<bool, Error> {
        let read = Moment::now();
        let now = MicroTime(Timestamp::now());
        let params = PostParams::default();
        let written = match self.api.get_opt(&self.name).await? {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(lease::first(&self.me, now)) };
                self.api.create(&params, &lease).await
            }
            Some(found) => {
                let spec = found.spec.clone().unwrap_or_default();
                match self.observed.claim(&spec, &self.me, read, now) {
                    Claim::Wait => {
                        self.term.end();
                        return Ok(false);
                    }
                    Claim::Write(spec) => {
                        let lease = Lease { spec: Some(*spec), ..found };
                        self.api.replace(&self.name, &params, &lease).await
                    }
                }
            }
        };
        match written {
            Ok(_) => {
                self.term.extend(read.after(TERM));
                Ok(true)
            }
            // Somebody else was faster: the next look tells.
            Err(Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}
