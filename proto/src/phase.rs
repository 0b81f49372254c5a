use crate::v1::Phase;

/// A phase's name as people, JSON and conditions have it, such as `transfer`.
pub fn phase_name(phase: Phase) -> String {
    phase.as_str_name().trim_start_matches("PHASE_").to_lowercase()
}
