//! ext4 images made by mke2fs(8), without mounting anything.
//!
//! Features are named one by one, so that images do not depend on the host's `mke2fs.conf` and any kernel from 5.x on
//! mounts them. There is no journal: the base is mounted read-only, and an overlay lives in a VM whose mounted
//! filesystem is saved with its RAM, so it is never mounted again after a crash.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dormouse_guest_mem::Bytes;

use crate::command::Tool;
use crate::digest::Key;
use crate::error::AtPath;
use crate::{BuildError, Progress};

const FEATURES: &str = "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,\
                        large_file,metadata_csum,sparse_super2";
const BLOCK: u64 = 4096;
/// Room for bitmaps, directories' hash trees and a few files that a later version may add. Costs nothing: the image is
/// sparse.
const SLACK: u64 = 32 << 20;

/// What a directory tree needs.
struct Content {
    blocks: u64,
    inodes: u64,
}

/// Makes an image at `image` with the files of `root`, just large enough for them. The UUID follows from `key`.
pub(crate) fn make_full(
    root: &Path,
    image: &Path,
    key: &Key,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<(), BuildError> {
    let mut content = Content { blocks: 0, inodes: 0 };
    measure(root, &mut content, progress)?;
    let inodes = content.inodes + content.inodes / 16 + 256;
    let size = content.blocks * BLOCK + content.blocks * BLOCK / 16 + inodes * 256 + SLACK;
    let size = size.next_multiple_of(1 << 20);
    progress.advance(0, Some(size));
    mke2fs(image, Bytes(size), key, scratch)?
        .args(["-N", &inodes.to_string(), "-d"])
        .args([root, image])
        .run(progress)?;
    progress.advance(size, Some(size));
    Ok(())
}

/// Makes an empty image of `size` bytes at `image`, of which less than 1 MiB is allocated. Inode tables count as zeroed,
/// so that the guest does not fill them in the background.
pub(crate) fn make_empty(
    image: &Path,
    size: Bytes,
    key: &Key,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<(), BuildError> {
    mke2fs(image, size, key, scratch)?.args(["-i", "32768"]).args([image]).run(progress)?;
    Ok(())
}

fn mke2fs<'a>(image: &Path, size: Bytes, key: &Key, scratch: &'a Path) -> Result<Tool<'a>, BuildError> {
    File::create_new(image).and_then(|file| file.set_len(size.0)).at(image)?;
    let uuid = key.as_uuid();
    Ok(Tool::new("mke2fs", "e2fsprogs", scratch)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O", FEATURES, "-U", &uuid])
        .args(["-E", &format!("lazy_itable_init=0,packed_meta_blocks=1,root_owner=0:0,hash_seed={uuid}")]))
}

fn measure(path: &Path, content: &mut Content, progress: &dyn Progress) -> Result<(), BuildError> {
    progress.go_on()?;
    let meta = fs::symlink_metadata(path).at(path)?;
    content.inodes += 1;
    // One block more for what goes beside the content: attributes, a long link, an extent tree, a directory.
    content.blocks += 1 + if meta.is_file() { meta.len().div_ceil(BLOCK) } else { meta.size().div_ceil(BLOCK) };
    if meta.is_dir() {
        for entry in fs::read_dir(path).at(path)? {
            measure(&entry.at(path)?.path(), content, progress)?;
        }
    }
    Ok(())
}
