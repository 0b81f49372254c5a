//! A cluster of two nodes with one Pod, and two agents that do what they are told.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use transship_proto::v1::migrate_event::{Event, PhaseBegun, Prepared};
use transship_proto::v1::{self, MigrateEvent, Outcome, PreflightResponse, State};

use crate::api::{
    FINALIZER, HANDOVER, Phase, PodMigration, PodMigrationSpec, PodMigrationStatus, RESUMED_GATE,
};
use crate::place::Choice;
use crate::plan::{Answer, Begun, Cancelled, Observed, Step, Told, Trouble, answered, plan};
use crate::queue::Turn;
use crate::target::Refusal;

/// How the source's agent ends what it has begun.
pub type Ending = fn(&World) -> Outcome;

pub struct World {
    pub migration: PodMigration,
    pub source: Option<Pod>,
    pub target: Option<Pod>,
    pub told: Told,
    pub clock: i64,
    /// Whether the source's agent has the migration, and how it ended.
    pub agent: Option<Option<Outcome>>,
    /// The outcome when nobody asks for the end.
    pub ending: Ending,
    /// Steps so far, by name.
    pub steps: Vec<String>,
    /// What the API server makes of the Pod that it is asked for.
    pub admit: fn(&mut Value),
    pub refuse_begin: Option<Refusal>,
    pub agent_answers: bool,
    pub target_state: Option<State>,
    /// The steps of which the answer is lost, by their number, and the coordinator begins anew.
    pub lost: Option<usize>,
    pub gone: bool,
}

pub fn migrated(_: &World) -> Outcome {
    Outcome { migrated: true, freeze_us: 300_000, ..Outcome::default() }
}

pub fn restore_failed(_: &World) -> Outcome {
    Outcome { reason: "RestoreFailed".into(), message: "no".into(), freeze_us: 900_000, ..Outcome::default() }
}

impl World {
    pub fn new() -> Self {
        let mut migration = PodMigration::new("move", PodMigrationSpec::of("web-1-abcde"));
        migration.metadata.uid = Some("m-uid".into());
        migration.metadata.namespace = Some("shop".into());
        migration.metadata.generation = Some(1);
        let source = json!({
            "metadata": {"name": "web-1-abcde", "generateName": "web-1-", "namespace": "shop", "uid": "s-uid",
                "labels": {"app": "web", "pod-template-hash": "1"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs", "controller": true}]},
            "spec": {"nodeName": "a", "containers": [{"name": "main", "image": "web:1"}]},
            "status": {"phase": "Running", "containerStatuses": [{"name": "main", "image": "web:1", "imageID": "sha256:1",
                "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
        Self {
            migration,
            source: Some(pod(source)),
            target: None,
            told: Told::default(),
            clock: 1_000_000,
            agent: None,
            ending: migrated,
            steps: Vec::new(),
            admit: |_| (),
            refuse_begin: None,
            agent_answers: true,
            target_state: None,
            lost: None,
            gone: false,
        }
    }

    pub fn now(&self) -> Time {
        Time(Timestamp::from_second(self.clock).unwrap())
    }

    pub fn status(&self) -> PodMigrationStatus {
        self.migration.status.clone().unwrap_or_default()
    }

    pub fn condition(&self, kind: &str) -> String {
        let conditions = self.status().conditions;
        conditions.into_iter().find(|one| one.type_ == kind).map(|one| one.status).unwrap_or_default()
    }

    /// Until it is over or nothing happens any more.
    pub fn run(&mut self) -> &mut Self {
        let mut idle = 0;
        for _ in 0..200 {
            if self.status().phase.is_final() && self.migration.metadata.finalizers.is_none() {
                return self;
            }
            idle = if self.step() { 0 } else { idle + 1 };
            if idle > 3 {
                return self;
            }
        }
        panic!("no end: {:?}", &self.steps[self.steps.len() - 20..]);
    }

    /// Until that step has been planned, which is done too.
    pub fn until(&mut self, step: &str) -> &mut Self {
        for _ in 0..100 {
            self.step();
            if self.steps.last().is_some_and(|last| last == step) {
                return self;
            }
        }
        panic!("{step} never came: {:?}", self.steps);
    }

    /// One step; whether there was anything to do.
    pub fn step(&mut self) -> bool {
        let now = self.now();
        let observed = Observed {
            migration: &self.migration,
            source: self.source.as_ref(),
            target: self.target.as_ref(),
            told: &self.told,
            now: &now,
        };
        let planned = plan(&observed);
        let again = plan(&observed);
        assert_eq!(planned, again, "the same is planned of the same");
        let recorded = self.migration.status.as_ref() != Some(&planned.status);
        self.migration.status = Some(planned.status);
        self.steps.push(planned.step.as_ref().to_owned());
        let before = (self.told.clone(), self.target.clone(), self.source.clone(), self.migration.clone());
        let answer = self.perform(planned.step);
        if self.lost == Some(self.steps.len()) {
            // The process ends here: what it knew by heart is gone, and listening begins anew.
            self.told = self.retold();
            return true;
        }
        let said = answer.is_some();
        if let Some(answer) = answer {
            self.migration.status = Some(answered(&self.migration, answer, &now));
        }
        let after = (self.told.clone(), self.target.clone(), self.source.clone(), self.migration.clone());
        self.clock += 1;
        said || recorded || before != after
    }

    fn perform(&mut self, step: Step) -> Option<Answer> {
        match step {
            Step::Record | Step::Wait(_) => {}
            Step::Hold => self.migration.metadata.finalizers = Some(vec![FINALIZER.into()]),
            Step::Free => self.migration.metadata.finalizers = None,
            Step::Expire => self.gone = true,
            Step::Survey => return Some(Answer::Surveyed(Ok("b".into()), Choice::default())),
            Step::Preflight(_) => {
                return Some(Answer::Preflight(Box::new(Ok(PreflightResponse::default()))));
            }
            Step::TakeTurn(_) => return Some(Answer::Turn(Turn::Granted)),
            Step::Mark => self.source = self.source.take().map(|pod| labelled(pod, Some("move"))),
            Step::Create(wanted) => {
                assert!(self.target.is_none(), "never two targets");
                let mut made = serde_json::to_value(&*wanted).unwrap();
                made["metadata"]["uid"] = json!("t-uid");
                (self.admit)(&mut made);
                self.target = Some(pod(made));
            }
            Step::Begin(asked) => {
                assert_eq!(asked.source.unwrap().uid, "s-uid");
                assert_eq!(asked.target_pod.unwrap().uid, "t-uid");
                if let Some(why) = self.refuse_begin.clone() {
                    return Some(Answer::Begun(Begun::Refused(why)));
                }
                if !self.agent_answers {
                    return Some(Answer::Begun(Begun::Unanswered(Refusal::new("SourceUnreachable", ""))));
                }
                self.agent.get_or_insert(None);
                self.told = self.retold();
                return Some(Answer::Begun(Begun::Acknowledged));
            }
            Step::Follow => self.advance(),
            Step::Cancel => {
                if !self.agent_answers {
                    return Some(Answer::Cancelled(Cancelled::Unanswered(Refusal::new(
                        "SourceUnreachable",
                        "",
                    ))));
                }
                let Some(ended) = &mut self.agent else { return Some(Answer::Cancelled(Cancelled::Unknown)) };
                ended.get_or_insert(Outcome { reason: "Cancelled".into(), ..Outcome::default() });
                self.told = self.retold();
                return Some(Answer::Cancelled(Cancelled::Known));
            }
            Step::AskTarget => return Some(Answer::Target(self.target_state)),
            Step::Ungate => {
                assert_eq!(self.condition("Begun"), "True", "the target's agent expects it");
                self.change_target(|target| {
                    target["spec"]["schedulingGates"] = json!([]);
                    target["spec"]["nodeName"] = json!("b");
                    target["status"] = json!({"phase": "Running",
                        "conditions": [{"type": "ContainersReady", "status": "True"}]});
                });
            }
            Step::MakeReady(patch) => self.change_target(|target| {
                target["status"]["conditions"] = patch["status"]["conditions"].clone();
            }),
            Step::Adopt(patch) => self.change_target(|target| {
                target["metadata"]["ownerReferences"] = patch["metadata"]["ownerReferences"].clone();
            }),
            Step::Release(_) => {}
            Step::DeleteSource => {
                assert_eq!(self.condition("Released"), "True", "only what was released");
                self.source = None;
            }
            Step::DeleteTarget => {
                assert_eq!(self.condition("Released"), "False", "never what may have been released");
                self.target = None;
            }
            Step::UnmarkSource => self.source = self.source.take().map(|pod| labelled(pod, None)),
            Step::UnmarkTarget => self.target = self.target.take().map(|pod| labelled(pod, None)),
            Step::Forget(nodes) => {
                if !self.agent_answers && !nodes.is_empty() {
                    return Some(Answer::Forgotten(Err(Refusal::new("AgentUnreachable", ""))));
                }
                self.agent = None;
                return Some(Answer::Forgotten(Ok(())));
            }
        }
        None
    }

    /// The agent goes on: it prepares, waits for the kubelet, and ends.
    fn advance(&mut self) {
        let Some(None) = self.agent else { return };
        if !self.told.prepared {
            self.told.hear(event(Event::Prepared(Prepared {})));
        } else if self.target.as_ref().is_some_and(|target| target.spec.as_ref().unwrap().node_name.is_some())
        {
            for phase in [v1::Phase::Freeze, v1::Phase::Restore] {
                self.told.hear(event(Event::Phase(PhaseBegun { phase: phase.into(), at_us: 0 })));
            }
            let outcome = (self.ending)(self);
            self.agent = Some(Some(outcome.clone()));
            self.told.hear(event(Event::Outcome(outcome)));
        }
    }

    /// What an agent tells one that has just begun to listen.
    fn retold(&self) -> Told {
        match &self.agent {
            None => Told { trouble: Some(Trouble::Unknown), ..Told::default() },
            Some(outcome) => Told { outcome: outcome.clone(), ..Told::default() },
        }
    }

    pub fn change_target(&mut self, change: impl FnOnce(&mut Value)) {
        self.target = self.target.take().map(|target| changed(target, change));
    }

    pub fn change_source(&mut self, change: impl FnOnce(&mut Value)) {
        self.source = self.source.take().map(|source| changed(source, change));
    }

    /// Whatever has happened, one Pod is left that nobody has a hand on, and nothing else.
    pub fn assert_settled(&self, on: Phase) {
        let status = self.status();
        assert_eq!(status.phase, on, "{:?}: {:?}; {:?}", status.reason, status.message, self.steps);
        assert_eq!(self.condition("Complete"), "True");
        let left: Vec<&Pod> = self.source.iter().chain(&self.target).collect();
        assert_eq!(left.len(), 1, "{:?}", self.steps);
        assert_eq!(left[0].labels().get(HANDOVER), None);
        let expected = if on == Phase::Succeeded { "t-uid" } else { "s-uid" };
        assert_eq!(left[0].metadata.uid.as_deref(), Some(expected));
        assert_eq!(self.agent, None, "the agents have forgotten it");
        if on == Phase::Succeeded {
            assert!(left[0].metadata.owner_references.is_some(), "adopted");
            let conditions = serde_json::to_value(&left[0].status).unwrap()["conditions"].clone();
            let types: Vec<_> =
                conditions.as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
            assert_eq!(types, [RESUMED_GATE, "Ready"]);
        }
    }

    pub fn wait(&mut self, span: Duration) {
        self.clock += i64::try_from(span.as_secs()).unwrap();
    }
}

pub fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn changed(before: Pod, change: impl FnOnce(&mut Value)) -> Pod {
    let mut value = serde_json::to_value(before).unwrap();
    change(&mut value);
    pod(value)
}

fn labelled(mut pod: Pod, migration: Option<&str>) -> Pod {
    match migration {
        Some(name) => pod.labels_mut().insert(HANDOVER.into(), name.into()),
        None => pod.labels_mut().remove(HANDOVER),
    };
    pod
}

fn event(event: Event) -> MigrateEvent {
    MigrateEvent { event: Some(event) }
}
