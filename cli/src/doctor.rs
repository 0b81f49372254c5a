//! `transship doctor`.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use transship_agent::Config;
use transship_agent::doctor::{self, Finding, Status};

use transship_terminal::Exit;

/// What `transship doctor` is told. Give it what the agent is given: it looks at what that agent would use.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    config: Config,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: &'a [Finding],
}

/// Prints what was found; fails if anything is broken.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let findings = doctor::examine(&arguments.config).await;
    let ok = findings.iter().all(|finding| finding.status != Status::Fail);
    if arguments.json {
        println!("{}", serde_json::to_string(&Report { ok, findings: &findings })?);
    } else {
        println!("{}", table(&findings).trim_fmt());
        println!("{}", summary(&findings));
    }
    Ok(if ok { Exit::Done } else { Exit::Failed })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for Finding { name, status, detail, mend } in findings {
        let (word, color) = match status {
            Status::Ok => ("ok", Color::Green),
            Status::Warn => ("warn", Color::Yellow),
            Status::Fail => ("FAIL", Color::Red),
        };
        let text = match mend {
            Some(mend) => format!("{detail}\n→ {mend}"),
            None => detail.clone(),
        };
        table.add_row([Cell::new(word).fg(color), Cell::new(name), Cell::new(text)]);
    }
    table
}

fn summary(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => "Containers can be moved to and from this node.".into(),
        (0, warnings) => format!("Containers can be moved to and from this node; warnings: {warnings}."),
        (failures, _) => format!("Containers can't be moved to or from this node; to mend: {failures}."),
    }
}
