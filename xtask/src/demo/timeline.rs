//! The phases of a migration as bars over one time axis.

use serde::Deserialize;

/// When a phase was, in milliseconds since the call.
#[derive(Debug, Deserialize)]
pub struct Phase {
    name: String,
    begin_ms: f64,
    end_ms: f64,
}

/// Of the longest bar, in characters.
const WIDTH: usize = 56;

/// A line for each phase, as long as it took and where it was.
pub fn draw(phases: &[Phase]) -> String {
    let end = phases.iter().map(|phase| phase.end_ms).fold(0.0, f64::max);
    let names = phases.iter().map(|phase| phase.name.chars().count()).max().unwrap_or(0);
    let column = |ms: f64| if end > 0.0 { (ms / end * WIDTH as f64).round() as usize } else { 0 };
    let mut picture = String::new();
    for Phase { name, begin_ms, end_ms } in phases {
        let from = column(*begin_ms).min(WIDTH - 1);
        // However short it was, it was there.
        let length = column(*end_ms).clamp(from + 1, WIDTH) - from;
        let rest = WIDTH - from - length;
        let bar = format!("{}{}{}", " ".repeat(from), "█".repeat(length), " ".repeat(rest));
        picture += &format!("  {name:<names$} ▏{bar}▕ {:>8.1} ms\n", end_ms - begin_ms);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_lie_where_the_phases_were() {
        let phase = |name: &str, begin_ms, end_ms| Phase { name: name.into(), begin_ms, end_ms };
        let picture = draw(&[
            phase("prepare", 0.0, 500.0),
            phase("freeze", 500.0, 500.1),
            phase("restore", 750.0, 1000.0),
        ]);
        let lines: Vec<Vec<char>> = picture.lines().map(|line| line.chars().collect()).collect();
        let bar =
            |line: &[char]| (line.iter().position(|c| *c == '█'), line.iter().filter(|c| **c == '█').count());
        // The bars begin behind two spaces, seven letters, a space and the frame.
        assert_eq!(bar(&lines[0]), (Some(11), 28));
        assert_eq!(bar(&lines[1]), (Some(11 + 28), 1));
        assert_eq!(bar(&lines[2]), (Some(11 + 42), 14));
        assert!(picture.contains(" 500.0 ms"));
        assert_eq!(draw(&[]), "");
    }
}
