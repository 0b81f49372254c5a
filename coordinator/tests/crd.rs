//! The definition that is installed is the one that the types make.

#[test]
fn deploy_has_the_definition_that_the_types_make() {
    let committed = include_str!("../../deploy/crd/podmigrations.yaml");
    let generated = transship_coordinator::crd().unwrap();
    assert!(
        committed == generated,
        "deploy/crd/podmigrations.yaml is old; write it anew: cargo run -p transship-coordinator -- crd > deploy/crd/podmigrations.yaml"
    );
}
