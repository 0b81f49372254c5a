//! The profile that a bundle asks for (OCI runtime specification 1.2, `linux.seccomp`).

use serde::Deserialize;

use super::arch::Arch;

/// `linux.seccomp` as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::grants) struct ProfileConfig {
    default_action: String,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    syscalls: Vec<RuleConfig>,
}

#[derive(Deserialize)]
struct RuleConfig {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    args: Vec<ConditionConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionConfig {
    index: usize,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Something in a profile that isn't known here.
pub(in crate::grants) struct ProfileError {
    pub what: &'static str,
    pub name: String,
}

/// A profile: what isn't said otherwise, and what is.
#[derive(Clone, Debug)]
pub(in crate::grants) struct Profile {
    allows_by_default: bool,
    architectures: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    names: Vec<String>,
    allows: bool,
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug)]
struct Condition {
    argument: usize,
    value: u64,
    comparison: Comparison,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Equal after masking the argument.
    Masked {
        mask: u64,
    },
}

impl TryFrom<ProfileConfig> for Profile {
    type Error = ProfileError;

    fn try_from(config: ProfileConfig) -> Result<Self, ProfileError> {
        Ok(Self {
            allows_by_default: allows(&config.default_action)?,
            architectures: config.architectures,
            rules: config.syscalls.into_iter().map(Rule::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<RuleConfig> for Rule {
    type Error = ProfileError;

    fn try_from(config: RuleConfig) -> Result<Self, ProfileError> {
        let conditions = config.args.into_iter().map(Condition::try_from).collect::<Result<_, _>>()?;
        Ok(Self { names: config.names, allows: allows(&config.action)?, conditions })
    }
}

impl TryFrom<ConditionConfig> for Condition {
    type Error = ProfileError;

    fn try_from(config: ConditionConfig) -> Result<Self, ProfileError> {
        let ConditionConfig { index: argument, value, value_two, op } = config;
        if argument > 5 {
            return Err(ProfileError { what: "system call argument", name: argument.to_string() });
        }
        let (value, comparison) = match op.as_str() {
            "SCMP_CMP_EQ" => (value, Comparison::Equal),
            "SCMP_CMP_NE" => (value, Comparison::NotEqual),
            "SCMP_CMP_LT" => (value, Comparison::Less),
            "SCMP_CMP_LE" => (value, Comparison::LessOrEqual),
            "SCMP_CMP_GT" => (value, Comparison::Greater),
            "SCMP_CMP_GE" => (value, Comparison::GreaterOrEqual),
            "SCMP_CMP_MASKED_EQ" => (value_two, Comparison::Masked { mask: value }),
            _ => return Err(ProfileError { what: "seccomp comparison", name: op }),
        };
        Ok(Self { argument, value, comparison })
    }
}

/// Whether an action lets the call through. A tracer or a listener that would decide isn't there after a restore.
fn allows(action: &str) -> Result<bool, ProfileError> {
    match action {
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => Ok(true),
        "SCMP_ACT_KILL"
        | "SCMP_ACT_KILL_PROCESS"
        | "SCMP_ACT_KILL_THREAD"
        | "SCMP_ACT_TRAP"
        | "SCMP_ACT_ERRNO"
        | "SCMP_ACT_TRACE"
        | "SCMP_ACT_NOTIFY" => Ok(false),
        _ => Err(ProfileError { what: "seccomp action", name: action.to_owned() }),
    }
}

impl Condition {
    /// Whether it holds as far as the bits reach that are looked at.
    fn holds(&self, arguments: &[u64; 6], bits: u64) -> bool {
        let argument = arguments[self.argument] & bits;
        let value = self.value & bits;
        match self.comparison {
            Comparison::Equal => argument == value,
            Comparison::NotEqual => argument != value,
            Comparison::Less => argument < value,
            Comparison::LessOrEqual => argument <= value,
            Comparison::Greater => argument > value,
            Comparison::GreaterOrEqual => argument >= value,
            Comparison::Masked { mask } => argument & mask == value,
        }
    }

    /// The numbers at which it turns.
    fn turning_points(&self) -> impl Iterator<Item = u64> {
        let mask = match self.comparison {
            Comparison::Masked { mask } => Some(mask),
            _ => None,
        };
        std::iter::once(self.value).chain(mask).chain(mask.map(|mask| self.value | mask))
    }
}

impl Profile {
    /// Whether there are arguments with which the call is granted.
    pub(super) fn may_allow(&self, arch: Arch, name: Option<&str>) -> bool {
        if !self.covers(arch) {
            return false;
        }
        let denied = self.rules_for(arch, name).any(|rule| !rule.allows && rule.conditions.is_empty());
        self.allows_by_default && !denied || self.rules_for(arch, name).any(|rule| rule.allows)
    }

    /// Whether the call is granted with these arguments. Where several rules match, the more permissive one is taken:
    /// runtimes differ there, and what none of them grants is what matters here.
    pub(super) fn allows(&self, arch: Arch, name: Option<&str>, arguments: &[u64; 6]) -> bool {
        let mut matching = self
            .rules_for(arch, name)
            .filter(|rule| rule.matches(arguments, arch.argument_bits()))
            .peekable();
        match matching.peek() {
            None => self.allows_by_default,
            Some(_) => matching.any(|rule| rule.allows),
        }
    }

    /// The numbers at which conditions on this call turn.
    pub(super) fn turning_points(&self, name: Option<&str>) -> impl Iterator<Item = u64> {
        let rules = self.rules.iter().filter(move |rule| name.is_some_and(|name| rule.names_call(name)));
        rules.flat_map(|rule| &rule.conditions).flat_map(Condition::turning_points)
    }

    fn covers(&self, arch: Arch) -> bool {
        arch.is_native() || self.architectures.iter().any(|name| name == arch.profile_name())
    }

    fn rules_for(&self, arch: Arch, name: Option<&str>) -> impl Iterator<Item = &Rule> {
        // On 32-bit x86, libseccomp lets the calls that stand for many through where it is asked for one of the many.
        let many: &[&str] = match (arch, name) {
            (Arch::X86, Some("socketcall")) => {
                &["socket", "connect", "bind", "sendto", "recvfrom", "shutdown"]
            }
            (Arch::X86, Some("ipc")) => &["semop", "semget", "msgget", "shmget", "shmat"],
            _ => &[],
        };
        self.rules.iter().filter(move |rule| {
            name.is_some_and(|name| rule.names_call(name)) || many.iter().any(|name| rule.names_call(name))
        })
    }
}

impl Rule {
    fn names_call(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// All conditions must hold; but of several on one argument runc makes as many rules.
    fn matches(&self, arguments: &[u64; 6], bits: u64) -> bool {
        let on = |argument| self.conditions.iter().filter(move |condition| condition.argument == argument);
        let several_on_one = (0..arguments.len()).any(|argument| on(argument).count() > 1);
        let mut held = self.conditions.iter().map(|condition| condition.holds(arguments, bits));
        if several_on_one { held.any(|held| held) } else { held.all(|held| held) }
    }
}
