//! Colours of page classes: strong where bytes are stored, pale where they are not.

use dormouse_guest_mem::PageClass;

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// What lies outside of RAM.
pub(super) const PAPER: Rgb = [255, 255, 255];
/// Text and frames.
pub(super) const INK: Rgb = [40, 40, 40];

/// What a pixel shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shade {
    pub(super) class: PageClass,
    pub(super) stored: bool,
}

impl Shade {
    /// All of them, in the order of [`index`](Self::index).
    pub(super) fn all() -> impl Iterator<Item = Self> {
        PageClass::ALL.into_iter().flat_map(|class| [false, true].map(|stored| Self { class, stored }))
    }

    /// A number below [`COUNT`](Self::COUNT).
    pub(super) fn index(self) -> usize {
        usize::from(self.class.code()) * 2 + usize::from(self.stored)
    }

    /// How many there are.
    pub(super) const COUNT: usize = PageClass::ALL.len() * 2;

    /// Its colour.
    pub(super) fn colour(self) -> Rgb {
        let strong = strong(self.class);
        if self.stored { strong } else { strong.map(pale) }
    }
}

/// Chosen to be told apart by people with any kind of colour vision (after Okabe and Ito).
fn strong(class: PageClass) -> Rgb {
    match class {
        PageClass::Unknown => [120, 120, 120],
        PageClass::Free => [150, 170, 190],
        PageClass::Offline => [200, 190, 170],
        PageClass::PageCache => [0, 114, 178],
        PageClass::Anonymous => [213, 94, 0],
        PageClass::Shmem => [204, 121, 167],
        PageClass::Slab => [230, 159, 0],
        PageClass::PageTable => [0, 158, 115],
        PageClass::Kernel => [60, 60, 60],
    }
}

fn pale(part: u8) -> u8 {
    255 - (255 - part) / 4
}

/// The class's name for people.
pub(in crate::cli) fn name(class: PageClass) -> &'static str {
    match class {
        PageClass::Unknown => "unknown",
        PageClass::Free => "free",
        PageClass::Offline => "offline",
        PageClass::PageCache => "page cache",
        PageClass::Anonymous => "anonymous",
        PageClass::Shmem => "shared memory",
        PageClass::Slab => "slab",
        PageClass::PageTable => "page tables",
        PageClass::Kernel => "kernel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shade_has_a_colour_of_its_own() {
        let colours: std::collections::BTreeSet<Rgb> = Shade::all().map(Shade::colour).chain([PAPER]).collect();
        assert_eq!(colours.len(), Shade::COUNT + 1);
        assert!(Shade::all().enumerate().all(|(i, shade)| shade.index() == i));
    }
}
