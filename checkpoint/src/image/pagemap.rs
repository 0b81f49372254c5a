//! Which pages of a task's memory lie where.

use std::path::Path;

use prost::Message;

use super::proto::{PagemapEntry, PagemapHead};
use super::{ImageError, Malformed, bodies, with_bytes};

/// Bytes of a page, on every architecture that transship runs on.
pub const PAGE_SIZE: u64 = 4096;

const MAGIC: u32 = 0x5608_4025;

// pagemap.h: PE_PARENT, PE_LAZY, PE_PRESENT.
const IN_PARENT: u32 = 1 << 0;
const LAZY: u32 = 1 << 1;
const PRESENT: u32 = 1 << 2;

/// Pages that follow each other in the address space and lie in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// Address of the first page.
    pub address: u64,
    /// How many pages.
    pub pages: u64,
    /// Where their contents are.
    pub place: Place,
}

/// Where the contents of pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `pages-ID.img`, from this byte on.
    Image {
        /// The ID in the file's name.
        id: u32,
        /// Byte offset in the file.
        offset: u64,
    },
    /// In the images of an earlier dump.
    Parent,
    /// Not dumped: whoever restores lazily brings them.
    Elsewhere,
    /// Nowhere: they read as zeros.
    Zero,
}

/// Reads `pagemap-PID.img` of the images' directory: the task's pages in the order of their addresses.
pub fn read_pagemap(dir: &Path, pid: u32) -> Result<Vec<PageRun>, ImageError> {
    with_bytes(dir, &format!("pagemap-{pid}.img"), decode)
}

fn decode(image: &[u8]) -> Result<Vec<PageRun>, Malformed> {
    let mut bodies = bodies(image, MAGIC, true)?.enumerate();
    let (_, head) = bodies.next().ok_or(Malformed::Truncated { entry: 0 })?;
    let head = PagemapHead::decode(head?).map_err(|source| Malformed::Entry { entry: 0, source })?;
    let mut offset = 0_u64;
    let mut end = 0_u64;
    let mut runs = Vec::new();
    for (entry, body) in bodies {
        let wrong = |what| Malformed::Value { entry, what };
        let run = PagemapEntry::decode(body?).map_err(|source| Malformed::Entry { entry, source })?;
        let pages = run.nr_pages.unwrap_or(run.compat_nr_pages.into());
        let bytes = pages.checked_mul(PAGE_SIZE).ok_or(wrong("more pages than fit an address space"))?;
        if run.vaddr % PAGE_SIZE != 0 || run.vaddr < end {
            return Err(wrong("an address that isn't a page's, or not behind the entry before it"));
        }
        end = run.vaddr.checked_add(bytes).ok_or(wrong("pages beyond the address space"))?;
        let flags = run.flags.unwrap_or(if run.in_parent == Some(true) { IN_PARENT } else { PRESENT });
        let place = if flags & PRESENT != 0 {
            let from = offset;
            offset = offset.checked_add(bytes).ok_or(wrong("more pages than fit a file"))?;
            Place::Image { id: head.pages_id, offset: from }
        } else if flags & IN_PARENT != 0 {
            Place::Parent
        } else if flags & LAZY != 0 {
            Place::Elsewhere
        } else {
            Place::Zero
        };
        runs.push(PageRun { address: run.vaddr, pages, place });
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::COMMON_MAGIC;
    use super::super::tests::image;
    use super::*;

    fn pagemap(entries: &[PagemapEntry]) -> Vec<u8> {
        let head = PagemapHead { pages_id: 3 }.encode_to_vec();
        let all: Vec<_> = std::iter::once(head).chain(entries.iter().map(Message::encode_to_vec)).collect();
        image(&[COMMON_MAGIC, MAGIC], &all)
    }

    fn entry(vaddr: u64, pages: u64, flags: u32) -> PagemapEntry {
        PagemapEntry { vaddr, nr_pages: Some(pages), flags: Some(flags), ..Default::default() }
    }

    #[test]
    fn only_pages_that_are_present_take_room_in_the_file() {
        let bytes = pagemap(&[
            entry(0x1000, 2, PRESENT),
            entry(0x8000, 4, IN_PARENT),
            entry(0x10000, 1, PRESENT | LAZY),
        ]);
        let places: Vec<Place> = decode(&bytes).unwrap().iter().map(|run| run.place).collect();
        let at = |offset| Place::Image { id: 3, offset };
        assert_eq!(places, [at(0), Place::Parent, at(2 * PAGE_SIZE)]);
    }

    #[test]
    fn runs_that_overlap_or_overflow_are_refused() {
        for bad in [
            pagemap(&[entry(0x1000, 2, PRESENT), entry(0x2000, 1, PRESENT)]),
            pagemap(&[entry(0x1001, 1, PRESENT)]),
            pagemap(&[entry(0x1000, u64::MAX, PRESENT)]),
            pagemap(&[entry(u64::MAX - 0xfff, 1, PRESENT)]),
        ] {
            assert!(matches!(decode(&bad), Err(Malformed::Value { .. })));
        }
    }

    proptest! {
        #[test]
        fn any_entries_are_read_or_refused(entries in proptest::collection::vec(any::<(u64, u64, u32)>(), 0..8)) {
            let entries: Vec<_> = entries.into_iter().map(|(vaddr, pages, flags)| entry(vaddr, pages, flags)).collect();
            let _ = decode(&pagemap(&entries));
        }
    }
}
