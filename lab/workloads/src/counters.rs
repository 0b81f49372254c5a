//! Counters in a file that several processes map and anyone may read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Each counter has a cache line to itself, so that no process slows another down.
const STRIDE: usize = 64;

/// A shared mapping of the file's counters.
pub struct Counters(MmapRaw);

impl Counters {
    /// Makes the file anew with `count` counters at zero.
    pub fn create(path: &Path, count: usize) -> io::Result<()> {
        File::create(path)?.set_len((count * STRIDE) as u64)
    }

    /// Maps the counters of a file that [`create`](Self::create) made.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self(MmapOptions::new().map_raw(&file)?))
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.0.len() / STRIDE
    }

    /// Whether there is no counter at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one to the counter `index`, seen at once by every process that maps the file.
    pub fn increment(&self, index: usize) {
        self.at(index).fetch_add(1, Ordering::Relaxed);
    }

    /// What all counters stand at.
    pub fn read(&self) -> Vec<u64> {
        (0..self.len()).map(|index| self.at(index).load(Ordering::Relaxed)).collect()
    }

    // A counter that other processes add to can only be a volatile or atomic access to mapped memory, and there is no
    // safe way to make one of a mapping.
    #[allow(unsafe_code)]
    fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len(), "counter {index} of {}", self.len());
        // SAFETY: the pointer is in bounds (just asserted), aligned (a mapping starts at a page, STRIDE is a multiple
        // of 8), and the mapping lives as long as `self`. All accesses in every process are atomic ones.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(index * STRIDE).cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_mapping_sees_what_the_first_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared");
        Counters::create(&path, 3).unwrap();
        let (writer, reader) = (Counters::map(&path).unwrap(), Counters::map(&path).unwrap());
        writer.increment(1);
        writer.increment(1);
        writer.increment(2);
        assert_eq!(reader.read(), [0, 2, 1]);
    }
}
