use std::fs::OpenOptions;
use std::io::Write;

use serde::Serialize;
use transship_decision::Failure;

use super::command_line::{CommandLine, LogFormat};

/// A line as runc's logger writes it; containerd shows the last error of the log, conmon what is on stderr.
#[derive(Serialize)]
struct Entry<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

/// Says why, on stderr and in the runtime's log. There is nobody left to tell where that fails.
pub(super) fn report(line: &CommandLine, failure: &Failure) {
    let msg = format!("transship: {failure}");
    drop(writeln!(std::io::stderr(), "{msg}"));
    let Some(path) = &line.log else { return };
    let time = jiff::Timestamp::now().to_string();
    let text = match line.log_format {
        LogFormat::Json => serde_json::to_string(&Entry { level: "error", msg: &msg, time: &time }).ok(),
        LogFormat::Text => Some(format!("time={time:?} level=error msg={msg:?}")),
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    if let (Some(text), Ok(mut file)) = (text, file) {
        drop(writeln!(file, "{text}"));
    }
}
