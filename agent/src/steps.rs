//! What both ends' loops need: a name for a step, and patience after one that failed.

use std::fmt::Debug;
use std::time::Duration;

/// Waits longer after each failure in a row, up to 5 s; not at all after none.
pub async fn back_off(failures: u32) {
    if let Some(exponent) = failures.checked_sub(1) {
        tokio::time::sleep(Duration::from_millis(50 << exponent.min(7)).min(Duration::from_secs(5))).await;
    }
}

/// A step's name in lower case, without what it carries: `decide` for `Decide(Kept)`.
pub fn name(step: &impl Debug) -> String {
    let debug = format!("{step:?}");
    debug.split('(').next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use transship_decision::source::Step;
    use transship_decision::{Verdict, target::TargetStep};

    use super::*;

    #[test]
    fn a_step_is_named_without_what_it_carries() {
        assert_eq!(name(&Step::Decide(Verdict::Kept)), "decide");
        assert_eq!(name(&TargetStep::Remove("main".into())), "remove");
        assert_eq!(name(&Step::AwaitHeld), "awaitheld");
    }
}
