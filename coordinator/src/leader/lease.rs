//! What to do about the lease as it was read.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::term::Moment;

/// How long a lease holds after its last renewal.
pub const HOLDS: Duration = Duration::from_secs(15);

/// The lease as it was seen to change. Only when it was *seen* counts: other machines' clocks aren't believed.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    seen: Option<(LeaseSpec, Moment)>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// Write this: it is ours, or nobody's.
    Write(Box<LeaseSpec>),
    /// It is somebody else's, and holds.
    Wait,
}

impl Observed {
    /// What `me` does about the lease that was read at `read`.
    pub fn claim(&mut self, lease: &LeaseSpec, me: &str, read: Moment, now: MicroTime) -> Claim {
        let holder = lease.holder_identity.as_deref().unwrap_or_default();
        if holder == me {
            return Claim::Write(Box::new(LeaseSpec { renew_time: Some(now), ..ours(lease, me) }));
        }
        let changed = self.seen.as_ref().is_none_or(|(seen, _)| seen != lease);
        if changed {
            self.seen = Some((lease.clone(), read));
        }
        let since = self.seen.as_ref().map_or(read, |(_, since)| *since);
        let held = lease.lease_duration_seconds.and_then(|held| u64::try_from(held).ok());
        let until = since.after(held.map_or(HOLDS, Duration::from_secs));
        if !holder.is_empty() && read < until {
            return Claim::Wait;
        }
        Claim::Write(Box::new(LeaseSpec {
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(lease.lease_transitions.unwrap_or(0) + 1),
            ..ours(lease, me)
        }))
    }
}

/// A lease that nobody has held yet.
pub fn first(me: &str, now: MicroTime) -> LeaseSpec {
    LeaseSpec {
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(0),
        ..ours(&LeaseSpec::default(), me)
    }
}

/// The lease as it is given back.
pub fn given_back(lease: &LeaseSpec) -> LeaseSpec {
    LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..lease.clone() }
}

fn ours(lease: &LeaseSpec, me: &str) -> LeaseSpec {
    let holds = i32::try_from(HOLDS.as_secs()).unwrap_or(i32::MAX);
    LeaseSpec { holder_identity: Some(me.to_owned()), lease_duration_seconds: Some(holds), ..lease.clone() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn now(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn writes(claim: Claim) -> LeaseSpec {
        match claim {
            Claim::Write(lease) => *lease,
            Claim::Wait => panic!("waits"),
        }
    }

    #[test]
    fn ones_own_lease_is_renewed() {
        let lease = first("me", now(1));
        let renewed = writes(Observed::default().claim(&lease, "me", Moment::now(), now(2)));
        assert_eq!(renewed, LeaseSpec { renew_time: Some(now(2)), ..lease });
    }

    #[test]
    fn anothers_is_taken_only_when_it_was_seen_unchanged_for_its_time() {
        let (mut seen, start) = (Observed::default(), Moment::now());
        let at = |seconds| start.after(Duration::from_secs(seconds));
        // However old its own clock says it is.
        let lease = first("other", now(1));
        assert_eq!(seen.claim(&lease, "me", at(0), now(1_000_000)), Claim::Wait);
        assert_eq!(seen.claim(&lease, "me", at(14), now(1_000_014)), Claim::Wait);
        let renewed = LeaseSpec { renew_time: Some(now(2)), ..lease };
        assert_eq!(seen.claim(&renewed, "me", at(15), now(1_000_015)), Claim::Wait);
        assert_eq!(seen.claim(&renewed, "me", at(29), now(1_000_029)), Claim::Wait);
        let taken = writes(seen.claim(&renewed, "me", at(30), now(1_000_030)));
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("me"), Some(1)));
    }

    #[test]
    fn one_that_was_given_back_is_taken_at_once() {
        let lease = given_back(&first("other", now(1)));
        let taken = writes(Observed::default().claim(&lease, "me", Moment::now(), now(2)));
        assert_eq!(taken.holder_identity.as_deref(), Some("me"));
    }
}
