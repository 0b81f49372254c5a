use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use transship_decision::{Files, Linked};

/// A disk that outlives crashes and reboots, and may fail for a while.
#[derive(Clone, Debug, Default)]
pub struct Disk(Rc<RefCell<Content>>);

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<PathBuf, Vec<u8>>,
    staged: u32,
    failing: bool,
    /// The mutant: a name that is taken is given away again.
    replaces: bool,
}

impl Disk {
    pub fn set_failing(&self, failing: bool) {
        self.0.borrow_mut().failing = failing;
    }

    pub fn set_replaces(&self) {
        self.0.borrow_mut().replaces = true;
    }

    fn write(&self) -> io::Result<std::cell::RefMut<'_, Content>> {
        let content = self.0.borrow_mut();
        if content.failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(content) }
    }
}

impl Files for Disk {
    fn stage(&self, folder: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let mut content = self.write()?;
        content.staged += 1;
        let path = folder.join(format!(".staged-{}", content.staged));
        content.files.insert(path.clone(), bytes.to_vec());
        Ok(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<Linked> {
        let mut content = self.write()?;
        if content.files.contains_key(to) && !content.replaces {
            return Ok(Linked::Taken);
        }
        let bytes = content.files.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        content.files.insert(to.to_owned(), bytes);
        Ok(Linked::New)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.write()?.files.remove(path);
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().files.get(path).cloned())
    }
}
