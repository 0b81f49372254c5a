//! How many migrations may be under way, and whose turn is next.
//!
//! Permits are exact: the one coordinator that leads counts them itself, from the objects when it begins to lead and from
//! then on by what it grants and takes back.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// From which node to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The source's node.
    pub from: String,
    /// The target's node.
    pub to: String,
}

/// How many may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In the whole cluster.
    pub cluster: usize,
    /// Out of one node.
    pub out: usize,
    /// Into one node.
    pub into: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cluster: 5, out: 2, into: 2 }
    }
}

/// Which limit it is that one waits for. The name of a variant is the reason of the condition `Queued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::AsRefStr)]
pub enum Limit {
    /// Of the whole cluster.
    ClusterLimit,
    /// Of what leaves the source's node.
    SourceNodeLimit,
    /// Of what comes to the target's node.
    TargetNodeLimit,
}

/// What one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// The limit that is reached.
    pub limit: Limit,
    /// Its node, where it is a node's.
    pub node: Option<String>,
    /// How many are under way within it.
    pub used: usize,
    /// How many may be.
    pub of: usize,
    /// One's place among all that wait, from 1.
    pub place: usize,
    /// How many wait.
    pub waiting: usize,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_deref().unwrap_or_default();
        let what = match self.limit {
            Limit::ClusterLimit => "are under way in the cluster".to_owned(),
            Limit::SourceNodeLimit => format!("leave {node}"),
            Limit::TargetNodeLimit => format!("come to {node}"),
        };
        write!(
            f,
            "{} of {} migrations {what}; it is number {} of {} that wait",
            self.used, self.of, self.place, self.waiting
        )
    }
}

/// Whether it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It may, until it [leaves](Queue::leave).
    Granted,
    /// Not yet.
    Waits(Waits),
}

/// Permits, and those who wait for one. Migrations go by their UIDs.
#[derive(Debug, Default)]
pub struct Queue {
    limits: Limits,
    held: BTreeMap<String, Route>,
    waiting: BTreeMap<String, (Route, Time)>,
}

impl Queue {
    /// With those limits, and nobody in it.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// `id` has a permit by its own status, whatever the limits say.
    pub fn hold(&mut self, id: &str, route: Route) {
        self.waiting.remove(id);
        self.held.insert(id.to_owned(), route);
    }

    /// Asks for a permit; `since` is when the migration was made. Gives the others that have got one by this, too.
    pub fn ask(&mut self, id: &str, route: Route, since: Time) -> (Turn, Vec<String>) {
        if self.held.contains_key(id) {
            return (Turn::Granted, Vec::new());
        }
        self.waiting.insert(id.to_owned(), (route, since));
        let mut granted = self.grant();
        granted.retain(|other| other != id);
        (self.waits(id).map_or(Turn::Granted, Turn::Waits), granted)
    }

    /// `id` needs no permit, or not any more. Gives those that have got one by this.
    pub fn leave(&mut self, id: &str) -> Vec<String> {
        let waited = self.waiting.remove(id).is_some();
        let held = self.held.remove(id).is_some();
        if held || waited { self.grant() } else { Vec::new() }
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.held.len()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn grant(&mut self) -> Vec<String> {
        let mut granted = Vec::new();
        // After each grant the order is another one, since its nodes have more to do now.
        while let Some(id) = self.order().into_iter().find(|id| self.full(&self.waiting[id].0).is_none()) {
            if let Some((route, _)) = self.waiting.remove(&id) {
                self.held.insert(id.clone(), route);
                granted.push(id);
            }
        }
        granted
    }

    /// Those who wait, the next one first: nodes that are busy already come later, so that none keeps the others out.
    fn order(&self) -> Vec<String> {
        let mut order: Vec<_> = self
            .waiting
            .iter()
            .map(|(id, (route, since))| (self.leaving(&route.from) + self.coming(&route.to), since.0, id))
            .collect();
        order.sort();
        order.into_iter().map(|(_, _, id)| id.clone()).collect()
    }

    fn leaving(&self, node: &str) -> usize {
        self.held.values().filter(|route| route.from == node).count()
    }

    fn coming(&self, node: &str) -> usize {
        self.held.values().filter(|route| route.to == node).count()
    }

    /// The limit that keeps such a migration waiting: which, of which node, how many there are and may be.
    fn full(&self, route: &Route) -> Option<(Limit, Option<String>, usize, usize)> {
        let limits = [
            (Limit::ClusterLimit, None, self.held.len(), self.limits.cluster),
            (Limit::SourceNodeLimit, Some(&route.from), self.leaving(&route.from), self.limits.out),
            (Limit::TargetNodeLimit, Some(&route.to), self.coming(&route.to), self.limits.into),
        ];
        let full = limits.into_iter().find(|(_, _, used, of)| used >= of)?;
        Some((full.0, full.1.cloned(), full.2, full.3))
    }

    fn waits(&self, id: &str) -> Option<Waits> {
        let (route, _) = self.waiting.get(id)?;
        let (limit, node, used, of) = self.full(route)?;
        let place = self.order().iter().position(|other| other == id)? + 1;
        Some(Waits { limit, node, used, of, place, waiting: self.waiting.len() })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn route(from: &str, to: &str) -> Route {
        Route { from: from.into(), to: to.into() }
    }

    fn asked(queue: &mut Queue, id: &str, from: &str, to: &str, second: i64) -> Turn {
        queue.ask(id, route(from, to), at(second)).0
    }

    #[test]
    fn two_leave_a_node_and_the_third_is_told_what_it_waits_for() {
        let mut queue = Queue::new(Limits::default());
        assert_eq!(asked(&mut queue, "1", "a", "b", 1), Turn::Granted);
        assert_eq!(asked(&mut queue, "2", "a", "c", 2), Turn::Granted);
        let Turn::Waits(waits) = asked(&mut queue, "3", "a", "d", 3) else { panic!("granted") };
        assert_eq!(waits.to_string(), "2 of 2 migrations leave a; it is number 1 of 1 that wait");
        assert_eq!(waits.limit.as_ref(), "SourceNodeLimit");
        assert_eq!(queue.leave("1"), ["3"]);
        assert_eq!(asked(&mut queue, "3", "a", "d", 3), Turn::Granted);
        assert_eq!(queue.under_way(), 2);
    }

    #[test]
    fn two_come_to_a_node_and_five_are_under_way_in_all() {
        let mut queue = Queue::new(Limits::default());
        for (id, from) in [("1", "a"), ("2", "b")] {
            assert_eq!(asked(&mut queue, id, from, "z", 1), Turn::Granted);
        }
        let Turn::Waits(waits) = asked(&mut queue, "3", "c", "z", 1) else { panic!("granted") };
        assert_eq!(waits.limit, Limit::TargetNodeLimit);
        for (id, from) in [("4", "d"), ("5", "e"), ("6", "f")] {
            assert_eq!(asked(&mut queue, id, from, &format!("{from}-target"), 1), Turn::Granted);
        }
        let Turn::Waits(waits) = asked(&mut queue, "7", "g", "h", 1) else { panic!("granted") };
        assert_eq!((waits.limit, waits.place, waits.waiting), (Limit::ClusterLimit, 1, 2));
    }

    #[test]
    fn a_node_with_many_does_not_keep_another_waiting() {
        let mut queue = Queue::new(Limits { cluster: 2, ..Limits::default() });
        assert_eq!(asked(&mut queue, "a1", "a", "x", 1), Turn::Granted);
        assert_eq!(asked(&mut queue, "a2", "a", "y", 2), Turn::Granted);
        for (id, from, second) in [("a3", "a", 3), ("a4", "a", 4), ("b1", "b", 5)] {
            assert!(matches!(asked(&mut queue, id, from, "z", second), Turn::Waits(_)));
        }
        assert_eq!(queue.leave("a1"), ["b1"], "the youngest, but its node has nothing under way");
        assert_eq!(queue.leave("a2"), ["a3"]);
    }

    #[test]
    fn one_that_is_full_does_not_hold_up_those_behind_it() {
        let mut queue = Queue::new(Limits { cluster: 9, out: 1, into: 1 });
        assert_eq!(asked(&mut queue, "1", "a", "b", 1), Turn::Granted);
        assert!(matches!(asked(&mut queue, "2", "a", "c", 2), Turn::Waits(_)));
        assert_eq!(asked(&mut queue, "3", "d", "e", 3), Turn::Granted);
    }

    #[test]
    fn a_permit_that_is_known_by_its_object_counts() {
        let mut queue = Queue::new(Limits { cluster: 1, ..Limits::default() });
        queue.hold("old", route("a", "b"));
        assert!(matches!(asked(&mut queue, "new", "c", "d", 1), Turn::Waits(_)));
        assert_eq!(queue.leave("old"), ["new"]);
        assert!(queue.leave("old").is_empty());
        assert_eq!((queue.under_way(), queue.waiting()), (1, 0));
    }
}
