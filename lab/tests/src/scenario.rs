//! A named sentence, and what proves it.

use anyhow::Result;
use transship_lab::Lab;

/// What proves a sentence, in any lab: fails with what was not as it should be.
pub type Play = Box<dyn Fn(&Lab) -> Result<()> + Send>;

/// One test, to be played in any lab.
pub struct Scenario {
    /// Module and sentence, such as `moves::a_counter_goes_there_and_back`.
    pub name: String,
    /// Its proof.
    pub play: Play,
}

impl Scenario {
    /// One that is played as it is.
    pub fn new(name: impl Into<String>, play: impl Fn(&Lab) -> Result<()> + Send + 'static) -> Self {
        Scenario { name: name.into(), play: Box::new(play) }
    }
}

/// The functions of a module as scenarios that bear their names.
macro_rules! scenarios {
    ($module:literal: $($function:ident),+ $(,)?) => {
        vec![$($crate::scenario::Scenario::new(concat!($module, "::", stringify!($function)), $function)),+]
    };
}
pub(crate) use scenarios;
