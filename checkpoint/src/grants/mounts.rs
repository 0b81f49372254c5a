//! Which mounts a bundle grants.

use std::path::Path;

use super::bundle::{Grant, Granted, Source};
use super::caps::CapSet;
use super::claim::{Claim, Mount, Origin, Restrictions};
use super::excess::Beyond;

/// What runtimes bind over files that a bundle masks.
const NULL_KEY: &str = "/dev/null";

/// Holds a mount namespace against the bundle. A container that may mount whatever it likes isn't held to anything.
pub(super) fn compare(grant: &Grant, claim: &Claim, beyond: &mut Vec<Beyond>) {
    if grant.capabilities.bounding.contains(CapSet::SYS_ADMIN) {
        return;
    }
    let any_on = |path: &Path, is: &dyn Fn(&Mount) -> bool| {
        claim.mounts.iter().any(|mount| mount.at == path && is(mount))
    };
    let unmasked = grant.masked.iter().filter(|path| !any_on(path, &|mount| is_mask(grant, mount)));
    // A mask of the same path lets nothing be written either.
    let harmless = |mount: &Mount| is_read_only_path(grant, mount) || is_mask(grant, mount);
    let writable = grant.read_only.iter().filter(|path| !any_on(path, &harmless));
    let open_paths: Vec<Beyond> = unmasked
        .map(|path| Beyond::Unmasked(path.clone()))
        .chain(writable.map(|path| Beyond::Writable(path.clone())))
        .collect();
    let told = |mount: &Mount| open_paths.iter().any(|open| is_about(open, &mount.at));

    let mut unused: Vec<&Granted> = grant.mounts.iter().collect();
    for mount in claim.mounts.iter() {
        let granted = unused.iter().position(|granted| granted.at == mount.at).map(|at| unused.remove(at));
        match granted {
            Some(granted) => beyond.extend(more_than(granted, mount)),
            None if harmless(mount) || told(mount) => {}
            None => match grant.mounts.iter().find(|granted| is_hierarchy_of(granted, mount)) {
                Some(granted) => beyond.extend(fewer_restrictions(granted.restrictions, mount)),
                None => beyond.push(Beyond::Mount { at: mount.at.clone(), kind: mount.kind.clone() }),
            },
        }
    }
    beyond.extend(open_paths);
}

fn is_about(open: &Beyond, at: &Path) -> bool {
    matches!(open, Beyond::Unmasked(path) | Beyond::Writable(path) if path == at)
}

/// What `mount` is, beyond the mount that is granted at its place.
fn more_than(granted: &Granted, mount: &Mount) -> Vec<Beyond> {
    let is_the_same = match (&granted.what, &mount.origin) {
        // Something else that is granted lies over it.
        (_, Origin::Covered) => true,
        // A restore takes its root file system from the bundle.
        (Source::Root(_), Origin::Made | Origin::External(_)) => true,
        (Source::Root(root), Origin::Seen { file, .. }) => file == root,
        (Source::Bind(_), Origin::External(key)) => granted.has_key(key),
        (Source::Bind(_), Origin::Made) => false,
        (Source::Bind(source), Origin::Seen { file, .. }) => Some(file) == source.as_ref(),
        (Source::Cgroup, Origin::External(key)) => granted.has_key(key),
        (Source::Cgroup, _) => matches!(mount.kind.as_str(), "cgroup" | "cgroup2" | "tmpfs"),
        (Source::New(kind), Origin::Made | Origin::Seen { .. }) => *kind == mount.kind,
        (Source::New(_), Origin::External(_)) => false,
    };
    if !is_the_same {
        let granted = match &granted.what {
            Source::Root(_) => "its root file system".to_owned(),
            Source::Bind(_) => "the file or directory of the node".to_owned(),
            Source::Cgroup => "a cgroup".to_owned(),
            Source::New(kind) => format!("a {kind}"),
        };
        return vec![Beyond::MountOfOther { at: mount.at.clone(), granted }];
    }
    let mut restrictions = granted.restrictions;
    if matches!(granted.what, Source::Cgroup) && mount.kind == "tmpfs" {
        // The directory of v1's hierarchies, which runc leaves writable: there is nothing in it but mount points.
        restrictions.read_only = false;
    }
    fewer_restrictions(restrictions, mount).into_iter().collect()
}

fn fewer_restrictions(granted: Restrictions, mount: &Mount) -> Option<Beyond> {
    let has = mount.restrictions;
    let missing: Vec<&'static str> = [
        ("ro", granted.read_only, has.read_only),
        ("nosuid", granted.nosuid, has.nosuid),
        ("nodev", granted.nodev, has.nodev),
        ("noexec", granted.noexec, has.noexec),
    ]
    .into_iter()
    .filter_map(|(name, asked, has)| (asked && !has).then_some(name))
    .collect();
    (!missing.is_empty()).then(|| Beyond::MountFlags { at: mount.at.clone(), missing })
}

/// On cgroup v1 the one mount of the bundle is a directory of a mount for each hierarchy.
fn is_hierarchy_of(granted: &Granted, mount: &Mount) -> bool {
    let below = matches!(granted.what, Source::Cgroup) && mount.at.parent() == Some(&granted.at);
    below
        && match &mount.origin {
            Origin::External(key) => Path::new(key) == mount.at,
            Origin::Made => false,
            Origin::Seen { .. } | Origin::Covered => mount.kind == "cgroup",
        }
}

/// A masked path shows the null device or an empty directory that can't be written to.
fn is_mask(grant: &Grant, mount: &Mount) -> bool {
    let empty = mount.kind == "tmpfs" && mount.restrictions.read_only;
    let shows_nothing = match &mount.origin {
        Origin::External(key) => key == NULL_KEY,
        Origin::Made => empty,
        Origin::Seen { null, .. } => *null || empty,
        Origin::Covered => false,
    };
    shows_nothing && grant.masked.contains(&mount.at)
}

/// A read-only path is the path itself, bound to itself.
fn is_read_only_path(grant: &Grant, mount: &Mount) -> bool {
    let covered = mount.origin == Origin::Covered;
    mount.restrictions.read_only && !covered && grant.read_only.contains(&mount.at)
}
