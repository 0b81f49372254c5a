//! Figures as people read them.

/// A size with two or three digits, such as `214 MiB` or `1.1 GiB`.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if size < 1000 {
        return format!("{size} B");
    }
    let mut value = size as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 999.5
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", unit.copied().unwrap_or_default())
}

/// A span of time, such as `312 ms` or `2.9 s`.
pub fn span(ms: f64) -> String {
    if ms < 999.5 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

/// Microseconds, as calls carry them, as the milliseconds that are shown.
pub fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (10 << 10, "10 KiB"),
            (1023 << 10, "1.0 MiB"),
            (214 << 20, "214 MiB"),
            (1181 << 20, "1.2 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn spans_are_short() {
        for (us, text) in [(0, "0 ms"), (311_700, "312 ms"), (999_700, "1.0 s"), (2_912_000, "2.9 s")] {
            assert_eq!(span(ms(us)), text);
        }
    }
}
