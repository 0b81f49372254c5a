//! What is seen of the workload, and what must never be seen.

/// One life of the container's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    Source,
    Target,
}

/// Collects the numbers that the workload says: one a millisecond, each once, in order, by one copy.
#[derive(Debug, Default)]
pub struct Judge {
    /// The number that comes next.
    pub next: u64,
    running: Option<(Copy, u64)>,
    pub violation: Option<String>,
}

impl Judge {
    pub fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    pub fn running(&self) -> Option<Copy> {
        self.running.map(|(copy, _)| copy)
    }

    /// `copy` runs from `now` on, and will say `number` first.
    pub fn runs(&mut self, copy: Copy, number: u64, now: u64) {
        let (running, next) = (self.running, self.next);
        self.must(running.is_none(), || format!("{copy:?} runs beside {running:?}"));
        self.must(number >= next, || format!("{copy:?} says {number}..{next} again"));
        self.must(number <= next, || {
            format!("{next}..{number} were never said: {copy:?} goes on after them")
        });
        self.running = Some((copy, now));
    }

    /// A new life that starts from nothing, which only an ordinary restart may.
    pub fn starts_anew(&mut self, copy: Copy, now: u64) {
        self.next = 0;
        self.runs(copy, 0, now);
    }

    /// Returns the number that it would say next.
    pub fn stands(&mut self, now: u64) -> u64 {
        if let Some((_, since)) = self.running.take() {
            self.next += now - since;
        }
        self.next
    }
}
