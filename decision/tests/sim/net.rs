//! The wire between the two agents: messages are lost, doubled, late and out of order.

use transship_decision::target::TargetPhase;
use transship_decision::{Root, SignedRecord};

use super::faults::FAULTS_END;
use super::world::{Event, World};

/// What the source asks of the target.
#[derive(Clone, Debug)]
pub enum Ask {
    Prepare,
    /// The whole tree, with the number that the workload will say next, or garbage.
    Tree {
        root: Root,
        number: Option<u64>,
    },
    Status,
    Record(Carried),
}

/// A record as it lies on the disk.
#[derive(Clone)]
pub struct Carried(pub Vec<u8>);

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let record = SignedRecord::decode(&self.0).unwrap();
        write!(f, "{}", record.record().verdict())
    }
}

/// What the target says to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub phase: Option<TargetPhase>,
    pub root: Option<Root>,
    pub troubled: bool,
}

/// A question that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub worker: u32,
    pub number: u32,
}

impl World {
    pub fn send(&mut self, call: Call, ask: &Ask) {
        for late in self.deliveries() {
            self.after(late, Event::Asked(call, ask.clone()));
        }
    }

    pub fn reply(&mut self, call: Call, said: Said) {
        for late in self.deliveries() {
            self.after(late, Event::Said(call, said));
        }
    }

    /// A target that waits for a word asks for it: `kept` is carried to it only for a while. Any agent of the
    /// source answers, from its disk.
    pub fn target_inquires(&mut self) {
        if !self.target.waits_for_a_word() {
            return;
        }
        self.after(1_000, Event::TargetInquires);
        let lost = self.deliveries().is_empty();
        if let (false, Some(carried)) = (lost, self.source.word()) {
            self.target_told(&carried);
        }
    }

    /// How late each copy of a message arrives.
    fn deliveries(&mut self) -> Vec<u64> {
        let loss = if self.now < FAULTS_END { self.loss } else { 0 };
        if self.rng.u32(0..100) < loss {
            return Vec::new();
        }
        let copies = if self.rng.u32(0..100) < loss { 2 } else { 1 };
        (0..copies)
            .map(|_| if self.rng.u32(0..100) < loss { self.rng.u64(0..3_000) } else { self.rng.u64(0..5) })
            .collect()
    }
}
