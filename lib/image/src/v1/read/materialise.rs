//! Making RAM from an image, on several threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use dormouse_guest_mem::{Bytes, PageIndex};

use super::ImageReader;
use super::frames::FrameReader;
use crate::error::{MaterialiseError, ReadError};
use crate::output::{is_full, room};
use crate::progress::Progress;
use crate::v1::format::FrameEntry;

/// What the threads share: the next frame to do, and whether to stop.
struct Job<'a> {
    image: &'a ImageReader,
    out: &'a File,
    progress: &'a dyn Progress,
    next: AtomicUsize,
    done: AtomicU64,
    stop: AtomicBool,
    fault: Mutex<Option<MaterialiseError>>,
}

pub(super) fn materialise(
    image: &ImageReader,
    out: &File,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(), MaterialiseError> {
    let output = |source| MaterialiseError::Output { source };
    let len = out.metadata().map_err(output)?.len();
    if len != 0 {
        return Err(MaterialiseError::NotEmpty { len: Bytes(len) });
    }
    out.set_len(image.layout().len().0).map_err(|error| output_fault(image, out, error))?;
    let job = Job {
        image,
        out,
        progress,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
    };
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, 64) {
            scope.spawn(|| job.work());
        }
    });
    let Some(fault) = job.fault.into_inner().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
    // The fault is what matters to the caller; a file that can not even be emptied is their rubbish to remove.
    let _ = out.set_len(0);
    Err(fault)
}

impl Job<'_> {
    fn work(&self) {
        if let Err(fault) = self.frames() {
            self.stop.store(true, Ordering::Relaxed);
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        }
    }

    fn frames(&self) -> Result<(), MaterialiseError> {
        let mut reader = FrameReader::new(self.image)?;
        let mut raw = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            if self.progress.cancelled() {
                return Err(ReadError::Cancelled { path: self.image.path.clone() }.into());
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(frame) = self.image.index.frames().get(number) else { break };
            reader.read(number, frame, &mut raw)?;
            self.place(frame, &raw).map_err(|error| output_fault(self.image, self.out, error))?;
            let done = self.done.fetch_add(raw.len() as u64, Ordering::Relaxed) + raw.len() as u64;
            self.progress.advance(Bytes(done), self.image.summary.data());
        }
        Ok(())
    }

    /// Writes the checked pages of a frame to where they belong.
    fn place(&self, frame: &FrameEntry, raw: &[u8]) -> io::Result<()> {
        let mut rest = raw;
        for pages in self.image.index.pages_of(frame) {
            let len = usize::try_from(Bytes::of_pages(pages.len() as u64).0).map_err(io::Error::other)?;
            let (now, later) = rest.split_at_checked(len).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.out.write_all_at(now, PageIndex(pages.start).offset())?;
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

fn output_fault(image: &ImageReader, out: &File, error: io::Error) -> MaterialiseError {
    if is_full(&error) {
        MaterialiseError::NoSpace { needed: image.summary.data(), available: room(out) }
    } else {
        MaterialiseError::Output { source: error }
    }
}
