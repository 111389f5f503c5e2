//! Writing an image in one pass over the paused RAM.

mod page_map;
mod pipeline;
mod scan;

use std::fs::File;
use std::thread;

use dormouse_guest_mem::{Bytes, PAGE_SIZE, PageClass, PageIndex, PageSet, RamLayout, RamSource};
use zerocopy::IntoBytes;

use self::page_map::PageMap;
use self::pipeline::Pipeline;
use self::scan::Scan;
use super::format::{self, FOOTER_MAGIC, Footer, HEADER_MAGIC, Header, Index, root_of};
use crate::digest::ImageRoot;
use crate::error::WriteError;
use crate::output::{Output, OutputFault};
use crate::progress::Progress;
use crate::summary::ImageSummary;

/// Which pages need not be read, and what pages are used for.
pub struct Omit<'a> {
    /// Pages that the guest does not use. They are not read, and read as zero from the image. `None` when nothing is
    /// known. A page that is wrongly in this set is lost.
    pub free: Option<&'a PageSet>,
    /// The guest's use of a page. Only reported: content never depends on it.
    pub class_of: &'a (dyn Fn(PageIndex) -> PageClass + Sync),
}

/// How to write. Within one version of the zstd library, `level` and `frame_pages` alone decide the bytes of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// zstd level.
    pub level: i32,
    /// Threads that compress, 1 to 64; reading and writing take one thread each besides.
    pub threads: usize,
    /// Pages per frame, 1 to [`format::MAX_FRAME_PAGES`]. A reader decodes a whole frame to get at one page.
    pub frame_pages: u32,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { level: 1, threads: 2, frame_pages: 64 }
    }
}

/// Writes the image of `ram` into `out`, which must be an empty file.
///
/// Reads every page at most once; free pages and pages outside [`RamSource::populated`] not at all. Memory: a few
/// frames per thread, and 8 bytes per run of equal pages. The same RAM, free set and classes give the same bytes for any
/// number of threads. Nothing is made durable: that is [`crate::publish`]'s part. After an error `out` holds rubbish that
/// no reader accepts.
///
/// # Errors
/// [`WriteError`]; on [`WriteError::NoSpace`] the rest of RAM has been scanned to say how much room is needed.
pub fn write(
    ram: &dyn RamSource,
    layout: &RamLayout,
    omit: &Omit<'_>,
    out: &File,
    options: WriteOptions,
    progress: &dyn Progress,
) -> Result<ImageSummary, WriteError> {
    check(ram, layout, omit, &options)?;
    let header = header(layout, options.frame_pages);
    let mut output = Output::new(out)?;
    let mut map = PageMap::default();
    let written = thread::scope(|scope| {
        let mut pipeline = Pipeline::start(scope, &mut output, &header, &options);
        Scan::new(ram, omit, &options, progress).run(&mut map, &mut |pages| pipeline.put(pages))?;
        pipeline.finish()
    })?;
    let data_pages = map.data_pages();
    let index = Index::from_parts(layout.clone(), map.into_runs(), written.frames);
    let mut tail = index.encode().ok_or(WriteError::TooFragmented)?;
    let root = root_of(&header, &tail);
    tail.extend_from_slice(footer(output.position(), tail.len() as u64, root).as_bytes());
    match written.fault.map_or_else(|| output.put(&tail), Err) {
        Ok(()) => Ok(index.summary(root, output.position())),
        Err(OutputFault::Io(source)) => Err(WriteError::Output { source }),
        Err(OutputFault::Full) => {
            let held: u32 = index.frames().iter().map(|frame| u32::from(frame.coded.pages)).sum();
            let left = u64::from(data_pages - held);
            let frames = Index::encoded_len(0, 0, left.div_ceil(u64::from(options.frame_pages)));
            Err(output.no_space(output.position() + left * PAGE_SIZE as u64 + frames + tail.len() as u64))
        }
    }
}

fn check(ram: &dyn RamSource, layout: &RamLayout, omit: &Omit<'_>, options: &WriteOptions) -> Result<(), WriteError> {
    let expected = layout.len();
    let others = [Some(ram.len()), omit.free.map(|set| u64::from(set.capacity()) * PAGE_SIZE as u64)];
    if let Some(found) = others.into_iter().flatten().find(|len| *len != expected.0) {
        return Err(WriteError::LengthMismatch { expected, found: Bytes(found) });
    }
    let in_range = (1..=format::MAX_FRAME_PAGES).contains(&options.frame_pages) && (1..=64).contains(&options.threads);
    if in_range {
        Ok(())
    } else {
        Err(WriteError::BadOptions { frame_pages: options.frame_pages, threads: options.threads })
    }
}

fn header(layout: &RamLayout, frame_pages: u32) -> Header {
    Header {
        magic: HEADER_MAGIC,
        version: format::VERSION.into(),
        flags: 0.into(),
        ram_len: layout.len().0.into(),
        page_size: (PAGE_SIZE as u32).into(),
        frame_pages: frame_pages.into(),
        reserved: [0; 32],
    }
}

fn footer(index_offset: u64, index_len: u64, root: ImageRoot) -> Footer {
    Footer {
        index_offset: index_offset.into(),
        index_len: index_len.into(),
        root: root.0.0,
        reserved: [0; 8],
        magic: FOOTER_MAGIC,
    }
}
