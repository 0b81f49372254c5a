use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use transship_decision::watchdog::{Budgets, Guard};
use transship_decision::{MigrationId, PodUid, StateDir};

/// What is said of a command line that isn't understood.
pub(super) const USAGE: &str = "\
usage: transship-watchdog --state DIR --migration ID --pod-uid UID --agent-pid PID [OPTION…] [--recover CMD ARG…]
  --side source|target       what is guarded (source)
  --budget-ms N              the freeze budget, counted from `ready` (source: needed)
  --cgroup PATH              a cgroup that will be frozen; once for each container
  --capture-cgroup PATH      where the runtime and CRIU capture; must be empty, or is emptied, before a thaw
  --capture-grace-ms N       how long they are left alone after the budget (1000)
  --agent-grace-ms N         from the agent's death to the recovery (1000)
  --recover CMD ARG…         what takes the migration up then; everything after it is its own";

/// The command line.
#[derive(Debug)]
pub(super) struct Options {
    pub state: StateDir,
    pub migration: MigrationId,
    pub pod: PodUid,
    pub agent_pid: i32,
    pub guard: Guard,
    pub budgets: Budgets,
    pub cgroups: Vec<PathBuf>,
    pub capture: Option<PathBuf>,
    /// Program and arguments.
    pub recover: Option<(OsString, Vec<OsString>)>,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum OptionsError {
    #[error("{0:?} is not an option")]
    Unknown(OsString),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("{option}: {value:?} is not usable")]
    Unusable { option: &'static str, value: OsString },
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut arguments = arguments;
        let (mut state, mut migration, mut pod, mut agent_pid) = (None, None, None, None);
        let (mut guard, mut budget, mut agent_grace, mut capture_grace) = (Guard::Source, None, 1000, 1000);
        let (mut cgroups, mut capture, mut recover) = (Vec::new(), None, None);
        while let Some(argument) = arguments.next() {
            let mut value = |option| arguments.next().ok_or(OptionsError::NoValue(option));
            match argument.to_str() {
                Some("--state") => state = Some(StateDir::new(value("--state")?)),
                Some("--migration") => migration = Some(parse("--migration", &value("--migration")?)?),
                Some("--pod-uid") => pod = Some(parse("--pod-uid", &value("--pod-uid")?)?),
                Some("--agent-pid") => agent_pid = Some(parse("--agent-pid", &value("--agent-pid")?)?),
                Some("--budget-ms") => budget = Some(parse("--budget-ms", &value("--budget-ms")?)?),
                Some("--agent-grace-ms") => {
                    agent_grace = parse("--agent-grace-ms", &value("--agent-grace-ms")?)?;
                }
                Some("--capture-grace-ms") => {
                    capture_grace = parse("--capture-grace-ms", &value("--capture-grace-ms")?)?;
                }
                Some("--cgroup") => cgroups.push(value("--cgroup")?.into()),
                Some("--capture-cgroup") => capture = Some(value("--capture-cgroup")?.into()),
                Some("--side") => guard = side(value("--side")?)?,
                Some("--recover") => {
                    let program = value("--recover")?;
                    recover = Some((program, arguments.by_ref().collect()));
                }
                _ => return Err(OptionsError::Unknown(argument)),
            }
        }
        let freeze_ms = match (guard, budget) {
            (Guard::Source, None) => return Err(OptionsError::Missing("--budget-ms")),
            (Guard::Source, Some(budget)) => budget,
            // Time decides nothing there.
            (Guard::Target, _) => u64::MAX,
        };
        Ok(Self {
            state: state.ok_or(OptionsError::Missing("--state"))?,
            migration: migration.ok_or(OptionsError::Missing("--migration"))?,
            pod: pod.ok_or(OptionsError::Missing("--pod-uid"))?,
            agent_pid: agent_pid.ok_or(OptionsError::Missing("--agent-pid"))?,
            guard,
            budgets: Budgets { freeze_ms, agent_grace_ms: agent_grace, capture_grace_ms: capture_grace },
            cgroups,
            capture,
            recover,
        })
    }
}

fn side(value: OsString) -> Result<Guard, OptionsError> {
    match value.to_str() {
        Some("source") => Ok(Guard::Source),
        Some("target") => Ok(Guard::Target),
        _ => Err(OptionsError::Unusable { option: "--side", value }),
    }
}

fn parse<T: std::str::FromStr>(option: &'static str, value: &OsStr) -> Result<T, OptionsError> {
    let unusable = || OptionsError::Unusable { option, value: value.to_owned() };
    value.to_str().and_then(|text| text.parse().ok()).ok_or_else(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &str = "--state /s --migration m --pod-uid p --agent-pid 7";

    fn parse(line: &str) -> Result<Options, OptionsError> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn all_options() {
        let line = format!(
            "{NEEDED} --budget-ms 10 --agent-grace-ms 11 --capture-grace-ms 12 --cgroup /a --cgroup /b \
             --capture-cgroup /c --recover transship recover --migration m"
        );
        let options = parse(&line).unwrap();
        assert_eq!(options.cgroups, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(options.capture, Some(PathBuf::from("/c")));
        let budgets = Budgets { freeze_ms: 10, agent_grace_ms: 11, capture_grace_ms: 12 };
        assert_eq!((options.budgets, options.guard, options.agent_pid), (budgets, Guard::Source, 7));
        let (program, arguments) = options.recover.unwrap();
        assert_eq!((program, arguments.len()), ("transship".into(), 3));
    }

    #[test]
    fn what_is_needed_and_what_is_not_understood_is_said() {
        assert!(parse(&format!("{NEEDED} --side target")).is_ok());
        for (line, said) in [
            (NEEDED.to_owned(), "--budget-ms is missing"),
            ("--budget-ms 1".to_owned(), "--state is missing"),
            (format!("{NEEDED} --budget-ms soon"), "--budget-ms: \"soon\" is not usable"),
            (format!("{NEEDED} --side both"), "--side: \"both\" is not usable"),
            (format!("{NEEDED} --migration ../x"), "--migration: \"../x\" is not usable"),
            (format!("{NEEDED} --cgroup"), "--cgroup needs a value"),
            (format!("{NEEDED} --what"), "\"--what\" is not an option"),
        ] {
            assert_eq!(parse(&line).unwrap_err().to_string(), said, "{line}");
        }
    }
}
