//! What the target Pod is called.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

/// Characters that Kubernetes itself takes for generated names: none that make words or are mistaken for others.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many of them are at a name's end.
const SUFFIX: usize = 5;
/// A longer name would be cut off where it becomes the Pod's host name.
const LONGEST: usize = 63;

/// The target's name and the `generateName` it is recorded with.
///
/// As a controller would call a new Pod of its own: the source's `generateName`, or its name and a hyphen where it has
/// none, and five characters made from the migration's UID, so that a second try finds the Pod of the first. Since the
/// `generateName` is kept, a Pod's name doesn't grow when it moves again.
pub fn name(source: &Pod, migration_uid: &str) -> (String, String) {
    let stem = match &source.metadata.generate_name {
        Some(stem) if !stem.is_empty() => stem.clone(),
        _ => format!("{}-", source.name_any()),
    };
    let suffix: String = Sha256::digest(migration_uid)
        .iter()
        .take(SUFFIX)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect();
    let kept: String = stem.chars().take(LONGEST - SUFFIX).collect();
    (format!("{kept}{suffix}"), stem)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn pod(name: &str, generate_name: Option<&str>) -> Pod {
        let generate_name = generate_name.map(Into::into);
        Pod {
            metadata: ObjectMeta { name: Some(name.into()), generate_name, ..ObjectMeta::default() },
            ..Pod::default()
        }
    }

    #[test]
    fn a_pod_that_moves_again_keeps_its_stem() {
        let (first, stem) = name(&pod("db", None), "one");
        assert_eq!(stem, "db-");
        let (second, again) = name(&pod(&first, Some(&stem)), "two");
        assert_eq!(again, stem);
        assert_ne!(first, second);
        assert_eq!((first.len(), second.len()), (8, 8));
    }

    #[test]
    fn a_second_try_has_the_same_name() {
        let source = pod("web-7d9f-x2x4x", Some("web-7d9f-"));
        assert_eq!(name(&source, "one"), name(&source, "one"));
        assert!(name(&source, "one").0.starts_with("web-7d9f-"));
    }

    #[test]
    fn a_long_name_is_cut_to_a_host_name() {
        assert_eq!(name(&pod(&"a".repeat(200), None), "one").0.len(), LONGEST);
    }
}
