//! workloads
fn main() {}
