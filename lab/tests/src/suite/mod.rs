//! The scenarios, a file for what they have in common.

mod deaths;
mod failures;
mod files;
mod moves;
mod refusals;

use crate::scenario::Scenario;

/// All of them, in the order in which they are played.
pub fn all() -> Vec<Scenario> {
    [moves::all(), files::all(), refusals::all(), failures::all(), deaths::all()]
        .into_iter()
        .flatten()
        .collect()
}
