//! A Pod's migration as its coordinator follows it: what has happened so far, and whether it can still be cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transship_decision::MigrationId;
use transship_proto::Fault;
use transship_proto::v1::migrate_event::Event;
use transship_proto::v1::{MigrateEvent, Outcome};

use super::outcome::fault_of;

/// One Pod's migration that leaves this node, from its beginning until it is forgotten.
#[derive(Debug, Default)]
pub struct Handover {
    /// Asks for its end.
    pub cancel: CancellationToken,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    events: Vec<MigrateEvent>,
    planned: bool,
    standing: Standing,
}

/// What a cancel can still do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is heard.
    #[default]
    Open,
    /// It is being undone, or has been.
    Undone,
    /// It is being decided, or has been released.
    Decided,
}

impl Progress {
    fn outcome(&self) -> Option<&Outcome> {
        match &self.events.last()?.event {
            Some(Event::Outcome(outcome)) => Some(outcome),
            _ => None,
        }
    }
}

impl Handover {
    /// One whose plan lies on the disk already.
    fn planned_before() -> Self {
        let handover = Self::default();
        handover.has_plan();
        handover
    }

    /// Something has happened.
    pub fn tell(&self, event: MigrateEvent) {
        self.progress.send_modify(|progress| progress.events.push(event));
    }

    /// Its plan lies on the disk: from here on it outlives this agent.
    pub fn has_plan(&self) {
        self.progress.send_modify(|progress| progress.planned = true);
    }

    /// How it stands now.
    pub fn stands(&self, standing: Standing) {
        self.progress
            .send_if_modified(|progress| std::mem::replace(&mut progress.standing, standing) != standing);
    }

    /// Whether it has come to its end.
    pub fn is_over(&self) -> bool {
        self.progress.borrow().outcome().is_some()
    }

    /// Waits until its plan lies on the disk.
    ///
    /// # Errors
    /// Why it ended before.
    pub async fn planned(&self) -> Result<(), Fault> {
        self.until(|progress| match progress.outcome() {
            _ if progress.planned => Some(Ok(())),
            outcome => outcome.map(|outcome| Err(fault_of(outcome))),
        })
        .await
    }

    /// Waits until it is known whether a cancel that was asked for has come in time.
    pub async fn heard(&self) -> bool {
        self.until(|progress| match progress.standing {
            Standing::Open => progress.outcome().map(|outcome| !outcome.migrated),
            Standing::Undone => Some(true),
            Standing::Decided => Some(false),
        })
        .await
    }

    async fn until<T>(&self, answer: impl Fn(&Progress) -> Option<T>) -> T {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(answer) = answer(&progress.borrow_and_update()) {
                return answer;
            }
            if progress.changed().await.is_err() {
                // The sender lives in `self`; it can't be gone.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Everything that has happened and that happens, up to the outcome; or up to its being forgotten.
    pub fn follow(&self) -> impl Stream<Item = MigrateEvent> + Send + use<> {
        stream::unfold((self.progress.subscribe(), 0), |(mut progress, next)| async move {
            loop {
                let (event, over) = {
                    let now = progress.borrow_and_update();
                    (now.events.get(next).cloned(), now.outcome().is_some())
                };
                match event {
                    Some(event) => return Some((event, (progress, next + 1))),
                    None if over => return None,
                    None => progress.changed().await.ok()?,
                }
            }
        })
    }
}

/// The Pods' migrations that this agent has begun or taken up.
#[derive(Debug, Default)]
pub struct Handovers(Mutex<HashMap<MigrationId, Arc<Handover>>>);

impl Handovers {
    /// The one of that name, made if there is none; and whether it was made.
    pub fn open(&self, migration: &MigrationId) -> (Arc<Handover>, bool) {
        let mut all = self.held();
        let there = all.contains_key(migration);
        (Arc::clone(all.entry(migration.clone()).or_default()), !there)
    }

    /// The one of that name, which was begun under another agent.
    pub fn take_up(&self, migration: &MigrationId) -> Arc<Handover> {
        let made = || Arc::new(Handover::planned_before());
        Arc::clone(self.held().entry(migration.clone()).or_insert_with(made))
    }

    /// The one of that name.
    pub fn get(&self, migration: &MigrationId) -> Option<Arc<Handover>> {
        self.held().get(migration).cloned()
    }

    /// Forgets one.
    pub fn remove(&self, migration: &MigrationId) {
        self.held().remove(migration);
    }

    /// A poisoned lock holds a map that is whole.
    fn held(&self) -> MutexGuard<'_, HashMap<MigrationId, Arc<Handover>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use transship_proto::Reason;
    use transship_proto::v1::migrate_event::{PhaseBegun, Prepared};

    use super::*;

    fn event(event: Event) -> MigrateEvent {
        MigrateEvent { event: Some(event) }
    }

    fn refused() -> MigrateEvent {
        let reason = Reason::Privileged.to_string();
        event(Event::Outcome(Outcome { reason, message: "why".into(), refused: true, ..Outcome::default() }))
    }

    #[tokio::test]
    async fn whoever_comes_late_hears_everything_and_then_what_comes() {
        let handover = Handover::default();
        handover.tell(event(Event::Phase(PhaseBegun::default())));
        let mut events = std::pin::pin!(handover.follow());
        assert!(matches!(events.next().await, Some(MigrateEvent { event: Some(Event::Phase(_)) })));
        let (next, ()) =
            tokio::join!(events.next(), async { handover.tell(event(Event::Prepared(Prepared {}))) });
        assert!(matches!(next, Some(MigrateEvent { event: Some(Event::Prepared(_)) })));
        handover.tell(refused());
        assert_eq!(events.next().await, Some(refused()));
        assert_eq!(events.next().await, None);
        assert_eq!(handover.follow().count().await, 3);
    }

    #[tokio::test]
    async fn what_was_refused_never_had_a_plan() {
        let handover = Handover::default();
        handover.tell(refused());
        assert_eq!(handover.planned().await, Err(Fault::new(Reason::Privileged, "why")));
        let other = Handover::default();
        other.has_plan();
        assert_eq!(other.planned().await, Ok(()));
    }

    #[tokio::test]
    async fn a_cancel_is_heard_until_the_decision() {
        for (standing, heard) in [(Standing::Undone, true), (Standing::Decided, false)] {
            let handover = Handover::default();
            let (told, ()) = tokio::join!(handover.heard(), async { handover.stands(standing) });
            assert_eq!(told, heard);
        }
        let over = Handover::default();
        over.tell(refused());
        assert!(over.heard().await);
    }

    #[test]
    fn a_migration_is_opened_once_and_forgotten() {
        let all = Handovers::default();
        let id: MigrationId = "m-1".parse().unwrap();
        let (first, made) = all.open(&id);
        assert!(made && Arc::ptr_eq(&first, &all.open(&id).0) && !all.open(&id).1);
        assert!(Arc::ptr_eq(&first, &all.take_up(&id)));
        all.remove(&id);
        assert!(all.get(&id).is_none());
    }
}
