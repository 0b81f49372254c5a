//! Seccomp filters as tasks have them, held against the profile that a bundle asks for.
//!
//! A filter is a classic BPF program, the profile a list of rules that the runtime made such a program of. Two
//! programs of the same profile differ with the runtime's version, so programs aren't compared: it is asked what they
//! allow. A call for which the profile has no rule that grants it must not be let through whatever its arguments; all
//! ways through the programs are walked for that. Where a rule grants a call under conditions, the programs are tried at
//! the points where those conditions or their own comparisons turn: that finds a condition left out or widened, but not
//! everything that one could hide in several arguments at once.

mod arch;
mod profile;
mod program;

use std::sync::Arc;

pub(super) use profile::{Profile, ProfileConfig, ProfileError};
pub use program::Program;

use arch::{Arch, NUMBERS};
use program::Call;

impl Profile {
    /// The system calls that all of a task's filters together let through and that this profile doesn't grant.
    pub(super) fn beyond(&self, programs: &[Arc<Program>]) -> Vec<String> {
        let mut beyond: Vec<String> = Vec::new();
        for arch in Arch::of_this_machine() {
            for number in NUMBERS {
                let name = arch.name(number);
                let call = Call { arch: arch.audit(), number: arch.number(number), arguments: None };
                let lets_through = |call: &Call| programs.iter().all(|program| program.may_allow(call));
                let granted = if self.may_allow(*arch, name) {
                    let points = || programs.iter().flat_map(|program| program.turning_points(&call));
                    samples(self.turning_points(name).chain(points().map(u64::from)), *arch).all(
                        |arguments| {
                            let call = Call { arguments: Some(arguments), ..call };
                            self.allows(*arch, name, &arguments) || !lets_through(&call)
                        },
                    )
                } else {
                    !lets_through(&call)
                };
                if !granted {
                    beyond.push(format!("{}{}", name.unwrap_or("one without a name"), arch.suffix()));
                }
            }
        }
        beyond.dedup();
        beyond
    }
}

/// No arguments, and each argument alone at, around and beyond each of the points.
fn samples(points: impl Iterator<Item = u64>, arch: Arch) -> impl Iterator<Item = [u64; 6]> {
    let alone = points.flat_map(move |point| {
        let values = [point, point.wrapping_add(1), point.wrapping_sub(1), !point, point << 32];
        values.into_iter().flat_map(move |value| {
            (0..6).map(move |which| {
                let mut arguments = [0; 6];
                arguments[which] = value & arch.argument_bits();
                arguments
            })
        })
    });
    std::iter::once([0; 6]).chain(alone)
}

#[cfg(test)]
mod tests {
    use super::program::tests::{allow_if_argument_is, filter};
    use super::*;

    fn profile(json: serde_json::Value) -> Profile {
        serde_json::from_value::<ProfileConfig>(json).unwrap().try_into().ok().unwrap()
    }

    fn beyond(profile: &Profile, programs: Vec<Program>) -> Vec<String> {
        let programs: Vec<_> = programs.into_iter().map(Arc::new).collect();
        let mut names = profile.beyond(&programs);
        names.retain(|name| !name.starts_with("one without"));
        names
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_filter_that_allows_more_is_told_by_the_calls() {
        let profile = profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}],
        }));
        assert_eq!(beyond(&profile, vec![filter(&[0, 1])]), Vec::<String>::new());
        assert_eq!(beyond(&profile, vec![filter(&[0])]), Vec::<String>::new());
        assert_eq!(beyond(&profile, vec![filter(&[0, 101, 165])]), ["ptrace", "mount"]);
        // Each filter of a chain must allow a call, or it isn't.
        assert_eq!(beyond(&profile, vec![filter(&[0, 101]), filter(&[0, 165])]), Vec::<String>::new());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_condition_on_arguments_hides_nothing() {
        let none = profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"}));
        assert_eq!(beyond(&none, vec![allow_if_argument_is(101, 0xdead)]), ["ptrace"]);

        let personality = |value: u32| {
            profile(serde_json::json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}],
            }))
        };
        assert_eq!(beyond(&personality(8), vec![allow_if_argument_is(135, 8)]), Vec::<String>::new());
        assert_eq!(beyond(&personality(8), vec![allow_if_argument_is(135, 9)]), ["personality"]);
        assert_eq!(beyond(&personality(8), vec![filter(&[135])]), ["personality"]);
    }
}
