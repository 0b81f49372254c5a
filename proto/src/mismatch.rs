//! Whether one node can restore what another dumps.

use crate::v1::NodeFacts;
use crate::{Fault, Reason};

/// Why the target can't restore what the source dumps.
pub fn mismatches(source: &NodeFacts, target: &NodeFacts) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut refuse = |reason, what: String| found.push(Fault::new(reason, what));
    if source.architecture != target.architecture {
        let what =
            format!("{} is {}, {} is {}", source.node, source.architecture, target.node, target.architecture);
        refuse(Reason::ArchMismatch, what);
    }
    let lacking: Vec<&str> =
        source.cpu_flags.iter().filter(|flag| !target.cpu_flags.contains(flag)).map(String::as_str).collect();
    if source.architecture == target.architecture && !lacking.is_empty() {
        let what = format!(
            "the processor of {} lacks {}, which the workload may be using",
            target.node,
            lacking.join(", ")
        );
        refuse(Reason::CpuMismatch, what);
    }
    if source.cgroup_version != target.cgroup_version {
        let what = format!(
            "{} has cgroup v{}, {} has v{}; CRIU can't carry one to the other",
            source.node, source.cgroup_version, target.node, target.cgroup_version
        );
        refuse(Reason::CgroupMismatch, what);
    }
    if version_of(&target.criu_version) < version_of(&source.criu_version) {
        let what = format!(
            "{} has CRIU {}, older than {} on {}; update it",
            target.node, target.criu_version, source.criu_version, source.node
        );
        refuse(Reason::CriuMismatch, what);
    }
    if program_of(&source.runtime) != program_of(&target.runtime) {
        let what =
            format!("{} runs {}, {} runs {}", source.node, source.runtime, target.node, target.runtime);
        refuse(Reason::RuntimeMismatch, what);
    }
    found
}

fn version_of(text: &str) -> Vec<u64> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}

fn program_of(version: &str) -> &str {
    version.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(node: &str) -> NodeFacts {
        NodeFacts {
            node: node.into(),
            architecture: "x86_64".into(),
            criu_version: "4.2.1".into(),
            runtime: "runc 1.3.6".into(),
            cgroup_version: 2,
            cpu_flags: vec!["avx2".into(), "fpu".into()],
            ..NodeFacts::default()
        }
    }

    #[test]
    fn equal_nodes_match_and_a_better_target_does() {
        let better = NodeFacts {
            criu_version: "4.10".into(),
            cpu_flags: vec!["avx2".into(), "avx512f".into(), "fpu".into()],
            ..facts("b")
        };
        assert!(mismatches(&facts("a"), &facts("b")).is_empty());
        assert!(mismatches(&facts("a"), &better).is_empty());
    }

    #[test]
    fn what_the_target_lacks_is_named() {
        let older = NodeFacts {
            criu_version: "4.1".into(),
            runtime: "crun 1.28".into(),
            cgroup_version: 1,
            cpu_flags: vec!["fpu".into()],
            ..facts("b")
        };
        let found = mismatches(&facts("a"), &older);
        let reasons: Vec<Reason> = found.iter().map(|fault| fault.reason).collect();
        assert_eq!(
            reasons,
            [Reason::CpuMismatch, Reason::CgroupMismatch, Reason::CriuMismatch, Reason::RuntimeMismatch]
        );
        assert!(found[0].message.contains("avx2"));
    }
}
