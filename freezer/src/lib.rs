//! freezer
