//! Holding what tasks have against what is granted.

use std::sync::Arc;

use super::bundle::Grant;
use super::caps::CapSet;
use super::claim::{Claim, Label, Seccomp, Whose};
use super::excess::{Beyond, Excess};
use super::limits::Resource;
use super::mounts;
use super::reference::Reference;

/// The AppArmor profile that confines nothing.
const UNCONFINED: &str = "unconfined";

/// All that the tasks of a container have and its bundle doesn't grant; nothing if all is well.
///
/// `claims` are all tasks of the container, told by its images or by `/proc`. What the bundle doesn't name, such as
/// limits that it leaves to the node, is held against `reference`. What a task may change without any privilege, its
/// umask, soft limits and niceness upwards, isn't looked at.
pub fn excess(grant: &Grant, claims: &[Claim], reference: &Reference) -> Vec<Excess> {
    let mut all = Vec::new();
    let mut profile = SeccompJudge::default();
    for (index, claim) in claims.iter().enumerate() {
        let mut beyond = Vec::new();
        capabilities(grant, claim, &mut beyond);
        profile.judge(grant, claim, &mut beyond);
        identities(grant, claim, &mut beyond);
        limits(grant, claim, reference, &mut beyond);
        places(grant, claim, reference, &mut beyond);
        let told_already = claims[..index].iter().any(|earlier| Arc::ptr_eq(&earlier.mounts, &claim.mounts));
        if !told_already {
            mounts::compare(grant, claim, &mut beyond);
        }
        all.extend(beyond.into_iter().map(|what| Excess { task: claim.task.clone(), what }));
    }
    all
}

fn capabilities(grant: &Grant, claim: &Claim, beyond: &mut Vec<Beyond>) {
    let granted = &grant.capabilities;
    let ever = granted.bounding;
    // A process that can't gain privileges has at most what it was started with.
    let at_most = match grant.no_new_privileges {
        true => granted.permitted | granted.inheritable | granted.ambient,
        false => ever,
    };
    let has = &claim.capabilities;
    let sets = [
        ("bounding", has.bounding, ever),
        ("permitted", has.permitted, at_most),
        ("effective", has.effective, at_most),
        ("inheritable", has.inheritable, at_most),
        ("ambient", has.ambient, at_most),
    ];
    for (set, has, granted) in sets {
        let more = has.without(granted);
        if !more.is_empty() {
            beyond.push(Beyond::Capabilities { set, beyond: more });
        }
    }
    if grant.no_new_privileges && !claim.no_new_privileges {
        beyond.push(Beyond::NewPrivileges);
    }
}

/// Holds filters against the profile. Most tasks share them, so the last ones are remembered.
#[derive(Default)]
struct SeccompJudge {
    last: Option<(Seccomp, Vec<String>)>,
}

impl SeccompJudge {
    fn judge(&mut self, grant: &Grant, claim: &Claim, beyond: &mut Vec<Beyond>) {
        let Some(profile) = &grant.seccomp else { return };
        let programs = match &claim.seccomp {
            Seccomp::Strict => return,
            Seccomp::Off | Seccomp::Filter { count: 0, .. } => return beyond.push(Beyond::NoSeccomp),
            // Not told what they say, only that they are there.
            Seccomp::Filter { programs, .. } if programs.is_empty() => return,
            Seccomp::Filter { programs, .. } => programs,
        };
        let calls = match self.last.take() {
            Some((last, calls)) if last == claim.seccomp => calls,
            _ => profile.beyond(programs),
        };
        if !calls.is_empty() {
            beyond.push(Beyond::SystemCalls(calls.clone()));
        }
        self.last = Some((claim.seccomp.clone(), calls));
    }
}

fn identities(grant: &Grant, claim: &Claim, beyond: &mut Vec<Beyond>) {
    let may = |capability| grant.capabilities.bounding.contains(capability);
    if !may(CapSet::SETUID)
        && let Some(&has) = claim.users.iter().find(|user| **user != grant.user)
    {
        beyond.push(Beyond::User { has, granted: grant.user });
    }
    if !may(CapSet::SETGID) {
        let groups = claim.primary_groups.iter().chain(&claim.groups);
        let mut others: Vec<u32> =
            groups.copied().filter(|group| *group != grant.group && !grant.groups.contains(group)).collect();
        others.sort_unstable();
        others.dedup();
        beyond.extend(others.into_iter().map(|has| Beyond::Group { has }));
    }
}

fn limits(grant: &Grant, claim: &Claim, reference: &Reference, beyond: &mut Vec<Beyond>) {
    if grant.capabilities.bounding.contains(CapSet::SYS_RESOURCE) {
        return;
    }
    for resource in Resource::all() {
        let granted = grant.limits.get(resource).or(reference.limits.get(resource));
        if let Some((has, granted)) = claim.limits.get(resource).zip(granted)
            && has > granted
        {
            beyond.push(Beyond::Limit { resource, has, granted });
        }
    }
    let granted = grant.oom_score_adj.unwrap_or(reference.oom_score_adj);
    if let Some(has) = claim.oom_score_adj.filter(|has| *has < granted) {
        beyond.push(Beyond::OomScoreAdj { has, granted });
    }
}

/// Cgroups, namespaces and label.
fn places(grant: &Grant, claim: &Claim, reference: &Reference, beyond: &mut Vec<Beyond>) {
    let granted = grant.cgroup();
    for membership in claim.cgroups.iter().filter(|one| reference.holds_cgroup(&one.hierarchy)) {
        if membership.path != granted {
            beyond.push(Beyond::Cgroup {
                hierarchy: membership.hierarchy.clone(),
                has: membership.path.clone(),
                granted: granted.clone(),
            });
        }
    }
    for &(kind, has) in &claim.namespaces {
        let is_granted = match (grant.namespaces.get(&kind), has) {
            (Some(_), Whose::Node) => false,
            (Some(Some(given)), Whose::This(has)) => has == *given,
            (Some(None), Whose::This(has)) => !reference.namespaces.contains(&(kind, has)),
            (Some(_), Whose::Another) | (None, _) => true,
        };
        if !is_granted {
            beyond.push(Beyond::Namespace(kind));
        }
    }
    if let Some(granted) = &grant.label {
        let is_granted = match &claim.label {
            Label::Untold => true,
            Label::None => granted == UNCONFINED,
            // AppArmor tells its mode behind the name: `profile (enforce)`.
            Label::Is(label) => label.strip_suffix(" (enforce)").unwrap_or(label) == granted,
        };
        if !is_granted {
            beyond.push(Beyond::Label { has: claim.label.clone(), granted: granted.clone() });
        }
    }
}
