//! Memory whose every page says what it ought to hold.

/// Bytes of a page.
pub const PAGE: usize = 4096;
const WORDS: usize = PAGE / size_of::<u64>();

/// One page of memory, aligned as the kernel's pages are.
#[derive(Clone)]
#[repr(align(4096))]
pub struct Page([u64; WORDS]);

/// What a page holds is a function of its index and its version: the two of them, pseudo-random words up to the
/// page's middle, zeros after it. So a page compresses to half, and a page at a wrong place, an old one and a torn
/// one are all found out.
fn content(index: u64, version: u64) -> impl Iterator<Item = u64> {
    // splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators)
    // The start isn't a multiple of the generator's own step, or a page would be its neighbour, one word further on.
    let mut state = index.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ version.rotate_left(32);
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    [index, version].into_iter().chain(noise.take(WORDS / 2 - 2)).chain(std::iter::repeat_n(0, WORDS / 2))
}

impl Page {
    fn write(&mut self, index: u64, version: u64) {
        for (word, value) in self.0.iter_mut().zip(content(index, version)) {
            *word = value;
        }
    }

    fn holds(&self, index: u64, version: u64) -> bool {
        self.0.iter().copied().eq(content(index, version))
    }
}

/// A block of pages, and beside it the version that each page ought to have.
pub struct Memory {
    pages: Vec<Page>,
    versions: Vec<u64>,
}

impl Memory {
    /// `mib` MiB of pages, all of version 0, all present.
    pub fn new(mib: usize) -> Self {
        let count = mib * (1 << 20) / PAGE;
        let mut pages = vec![Page([0; WORDS]); count];
        for (index, page) in (0..).zip(&mut pages) {
            page.write(index, 0);
        }
        Self { pages, versions: vec![0; count] }
    }

    /// How many pages there are.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there is no page at all.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Gives the page its next version, if it holds what it ought to. A bad page is left as it is, to be found by
    /// [`bad`](Self::bad) ever after.
    pub fn touch(&mut self, index: usize) {
        let (page, version) = (&mut self.pages[index], &mut self.versions[index]);
        if page.holds(index as u64, *version) {
            *version += 1;
            page.write(index as u64, *version);
        }
    }

    /// How many pages don't hold what they ought to.
    pub fn bad(&self) -> usize {
        let pages = (0..).zip(self.pages.iter().zip(&self.versions));
        pages.filter(|(index, (page, version))| !page.holds(*index, **version)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_bit_anywhere_makes_one_bad_page() {
        let mut memory = Memory::new(1);
        memory.touch(3);
        assert_eq!(memory.bad(), 0);
        for word in [0, 1, 2, WORDS / 2, WORDS - 1] {
            memory.pages[3].0[word] ^= 1;
            assert_eq!(memory.bad(), 1, "word {word}");
            memory.pages[3].0[word] ^= 1;
        }
    }

    #[test]
    fn pages_share_no_words_so_that_they_compress_to_half_and_no_further() {
        let memory = Memory::new(4);
        let mut words: Vec<u64> =
            memory.pages.iter().flat_map(|page| &page.0[2..WORDS / 2]).copied().collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
    }

    #[test]
    fn a_bad_page_stays_bad_though_it_is_touched() {
        let mut memory = Memory::new(1);
        memory.pages[7].0[100] += 1;
        memory.touch(7);
        assert_eq!(memory.bad(), 1);
    }

    #[test]
    fn pages_that_changed_places_or_went_back_are_bad() {
        let mut memory = Memory::new(1);
        let old = memory.pages[5].clone();
        memory.touch(5);
        memory.pages[5] = old;
        memory.pages.swap(8, 9);
        assert_eq!(memory.bad(), 3);
    }
}
