//! The scenarios, a file for what they have in common.

mod deaths;
mod equal;
mod failures;
mod files;
mod grants;
mod host;
mod kills;
mod moves;
mod pods;
mod refusals;
mod retirement;

use crate::scenario::Scenario;

/// All of them, in the order in which they are played.
pub fn all() -> Vec<Scenario> {
    let all = [
        host::all(),
        refusals::all(),
        moves::all(),
        pods::all(),
        files::all(),
        equal::all(),
        failures::all(),
        grants::all(),
        retirement::all(),
        kills::all(),
        deaths::all(),
    ];
    all.into_iter().flatten().collect()
}
