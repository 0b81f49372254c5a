//! Which Debian mirror this machine uses, so that the lab asks no other.

use std::fs;
use std::path::Path;

use crate::error::{At, Result};

/// The mirror that `TRANSSHIP_DEBIAN_MIRROR` names, else the one that this host, if it is a Debian, gets its
/// own release from. `None`: debootstrap's own default.
pub(super) fn of_this_host() -> Result<Option<String>> {
    if let Ok(mirror) = std::env::var("TRANSSHIP_DEBIAN_MIRROR") {
        return Ok(Some(mirror));
    }
    let release = fs::read_to_string("/etc/os-release").at("read", "/etc/os-release")?;
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    let (Some("debian"), Some(codename)) = (value("ID").as_deref(), value("VERSION_CODENAME")) else {
        return Ok(None);
    };
    for file in source_files()? {
        let text = fs::read_to_string(&file).at("read", &file)?;
        let found = match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => in_deb822(&text, &codename),
            _ => in_one_line(&text, &codename),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn source_files() -> Result<Vec<std::path::PathBuf>> {
    let mut files = vec![];
    let list = Path::new("/etc/apt/sources.list");
    if list.exists() {
        files.push(list.to_owned());
    }
    let folder = Path::new("/etc/apt/sources.list.d");
    if folder.exists() {
        for entry in fs::read_dir(folder).at("list", folder)? {
            let path = entry.at("list", folder)?.path();
            if matches!(path.extension().and_then(|e| e.to_str()), Some("sources" | "list")) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// One-line format of sources.list(5): `deb [options] URI SUITE COMPONENT…`.
fn in_one_line(text: &str, suite: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?;
        (words.next()? == suite).then(|| uri.to_owned())
    })
}

/// deb822 format: stanzas of `Field: values`.
fn in_deb822(text: &str, suite: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.split_whitespace().collect::<Vec<_>>())
        };
        let serves = field("Types")?.contains(&"deb") && field("Suites")?.contains(&suite);
        if serves { field("URIs")?.first().map(|uri| (*uri).to_owned()) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_the_hosts_own_release_is_taken() {
        let sources = "Types: deb\nURIs: http://other.example/tools\nSuites: nodistro\n\n\
                       Types: deb\n# a comment\nURIs: http://mirror.example/debian http://second.example\n\
                       Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(in_deb822(sources, "bookworm").as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(in_deb822(sources, "trixie"), None);
    }

    #[test]
    fn comments_options_and_other_suites_are_passed_over() {
        let list = "# deb http://old.example/debian bookworm main\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb http://security.example bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # ours\n";
        assert_eq!(in_one_line(list, "bookworm").as_deref(), Some("http://mirror.example/debian"));
    }
}
