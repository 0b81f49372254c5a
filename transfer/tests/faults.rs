//! Faults made on purpose.
