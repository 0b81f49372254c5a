//! stand-in until checkpoint is whole
pub mod log { pub fn first_failure(text: &str) -> Option<String> { text.lines().find(|l| l.contains("Error (") && !l.contains("RLIMIT_NOFILE")).map(str::to_owned) } }
pub mod rootfs {
    use std::{fs::File, io, path::Path, process::Command};
    pub fn capture(folder: &Path, file: &File) -> io::Result<()> { Command::new("tar").arg("-C").arg(folder).args(["-cf", "-", "."]).stdout(file.try_clone()?).status().map(drop) }
    pub fn apply(file: File, folder: &Path) -> io::Result<()> { Command::new("tar").arg("-C").arg(folder).args(["-xf", "-"]).stdin(file).status().map(drop) }
}
pub mod archive {
    use std::{fs::File, io, path::Path};
    #[derive(Default)] pub struct Caps;
    pub fn unpack(file: File, folder: &Path, _: &Caps) -> io::Result<()> { super::rootfs::apply(file, folder) }
}
