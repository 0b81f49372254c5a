//! How long one may call oneself the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Until when this process leads, by a clock that goes on while it is stopped or the machine sleeps.
///
/// Every write asks [`check`](Term::check) right before it is sent. A process that was paused and has lost the lease in
/// the meantime so finds its term over, without having to hear of it.
#[derive(Debug, Clone, Default)]
pub struct Term(Arc<AtomicU64>);

/// This process doesn't lead, or can't be sure that it still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another coordinator may be leading by now, so nothing is written")]
pub struct NotLeading;

/// A moment on the clock of terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000)
    }

    /// So much later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long until then; nothing if it is past.
    pub fn left(self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(Self::now().0))
    }
}

impl Term {
    /// It goes on until then.
    pub fn extend(&self, until: Moment) {
        self.0.fetch_max(until.0, Ordering::SeqCst);
    }

    /// It is over, at once.
    pub fn end(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// When it ends unless it is extended.
    pub fn until(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    /// Whether one may write.
    ///
    /// # Errors
    /// When the term is over.
    pub fn check(&self) -> Result<(), NotLeading> {
        if self.until() > Moment::now() { Ok(()) } else { Err(NotLeading) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_by_itself() {
        let term = Term::default();
        assert_eq!(term.check(), Err(NotLeading), "before the first lease");
        term.extend(Moment::now().after(Duration::from_secs(60)));
        assert_eq!(term.check(), Ok(()));
        term.extend(Moment(1));
        assert_eq!(term.check(), Ok(()), "an older answer shortens nothing");
        term.end();
        term.extend(Moment::now());
        assert_eq!(term.check(), Err(NotLeading));
    }
}
