//! Where in the hierarchies a bundle's cgroup is.

/// The path of a bundle's `cgroupsPath`: itself, or what systemd makes of `SLICE:PREFIX:NAME`.
pub(super) fn path(cgroups_path: &str) -> String {
    let mut parts = cgroups_path.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(name)) => {
            let scope = match (prefix, name) {
                (_, name) if name.ends_with(".slice") => name.to_owned(),
                ("", name) => format!("{name}.scope"),
                (prefix, name) => format!("{prefix}-{name}.scope"),
            };
            format!("{}/{scope}", expand_slice(if slice.is_empty() { "system.slice" } else { slice }))
        }
        _ => format!("/{}", cgroups_path.trim_matches('/')),
    }
}

/// `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn expand_slice(slice: &str) -> String {
    let name = slice.trim_end_matches(".slice");
    if name == "-" {
        return String::new();
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| format!("/{}.slice", &name[..end])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_the_drivers_make_them() {
        assert_eq!(path("/kubepods/burstable/pod1/abc"), "/kubepods/burstable/pod1/abc");
        assert_eq!(
            path("kubepods-burstable-pod1.slice:cri-containerd:abc"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope"
        );
        assert_eq!(path("-.slice::abc"), "/abc.scope");
    }
}
