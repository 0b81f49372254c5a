use std::fmt;
use std::fs;

/// A task that sleeps uninterruptibly, in a system call that waits for a disk, a dead mount, a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The thread's id.
    pub tid: u32,
    /// The thread's name.
    pub name: String,
    /// Where in the kernel it sleeps (`/proc/TID/wchan`), where the kernel says so.
    pub waits_in: Option<String>,
}

impl Stuck {
    /// Those of `tids` that are in state D.
    pub(crate) fn among(tids: &[u32]) -> Vec<Self> {
        tids.iter().filter_map(|tid| Self::of(*tid)).collect()
    }

    fn of(tid: u32) -> Option<Self> {
        // A task that has ended meanwhile isn't stuck.
        let stat = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
        let (name, state) = parse_stat(&stat)?;
        if state != 'D' {
            return None;
        }
        let waits_in = fs::read_to_string(format!("/proc/{tid}/wchan"))
            .ok()
            .filter(|symbol| !symbol.is_empty() && symbol != "0");
        Some(Self { tid, name: name.to_owned(), waits_in })
    }

    /// As the end of a sentence, the first few by name.
    pub(crate) fn list(stuck: &[Self]) -> String {
        const NAMED: usize = 3;
        if stuck.is_empty() {
            return "; no task was stuck: it forks, or the machine is overloaded".to_owned();
        }
        let names: Vec<String> = stuck.iter().take(NAMED).map(Self::to_string).collect();
        let more = stuck.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("; stuck: {}{more}: look at what they wait for (a dead mount?)", names.join(", "))
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} ({}) in state D", self.tid, self.name)?;
        match &self.waits_in {
            Some(symbol) => write!(f, " in {symbol}"),
            None => Ok(()),
        }
    }
}

/// The letter of a task's state; `None` if it has ended.
pub(crate) fn task_state(tid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    parse_stat(&stat).map(|(_, state)| state)
}

/// Name and state of `PID (NAME) STATE …`; the name may hold anything, a `)` too.
fn parse_stat(stat: &str) -> Option<(&str, char)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    Some((name, tail.trim_start().chars().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_a_state() {
        assert_eq!(parse_stat("7 (a) D (b) S 1 2"), Some(("a) D (b", 'S')));
        assert_eq!(parse_stat("7 (sleep) D 1"), Some(("sleep", 'D')));
        assert_eq!(parse_stat("7"), None);
    }

    #[test]
    fn many_are_told_by_the_first_few() {
        let task = |tid| Stuck { tid, name: "nfs".into(), waits_in: Some("rpc_wait".into()) };
        let text = Stuck::list(&[task(1), task(2), task(3), task(4)]);
        assert!(text.contains("task 1 (nfs) in state D in rpc_wait"), "{text}");
        assert!(text.contains("and 1 more"), "{text}");
    }
}
