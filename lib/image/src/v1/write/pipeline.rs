//! Frames on their way from the scan to the file: compressed on several threads, written in order.
//!
//! Frame `n` goes through lane `n mod threads`, and the writer takes from the lanes in turn: so the order is kept without
//! buffering what came too early. Every channel is bounded, so a slow disk slows down the scan instead of filling memory.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::{io, iter};

use zerocopy::IntoBytes;

use super::WriteOptions;
use crate::codec::{Codec, CodedFrame, EncodedFrame, Encoder};
use crate::error::WriteError;
use crate::output::{Output, OutputFault};
use crate::v1::format::{FrameEntry, HEADER_LEN, Header};

/// Frames that may wait before and after each compressing thread.
const QUEUE: usize = 2;

/// What the writer thread achieved.
#[derive(Default)]
pub(super) struct Written {
    /// The frames that are in the file.
    pub(super) frames: Vec<FrameEntry>,
    /// Why there are not more of them.
    pub(super) fault: Option<OutputFault>,
}

type Outcome = Result<Written, io::Error>;

pub(super) struct Pipeline<'scope> {
    lanes: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    writer: Option<ScopedJoinHandle<'scope, Outcome>>,
    written: Written,
}

impl<'scope> Pipeline<'scope> {
    pub(super) fn start<'env, 'out: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        output: &'scope mut Output<'out>,
        header: &'scope Header,
        options: &WriteOptions,
    ) -> Self {
        let level = options.level;
        let (lanes, encoded) = iter::repeat_with(|| {
            let (lane, raw) = sync_channel(QUEUE);
            let (done, encoded) = sync_channel(QUEUE);
            scope.spawn(move || encode_all(level, &raw, &done));
            (lane, encoded)
        })
        .take(options.threads)
        .unzip::<_, _, Vec<_>, Vec<_>>();
        let writer = scope.spawn(move || write_all(output, header, &encoded));
        Self { lanes, next: 0, writer: Some(writer), written: Written::default() }
    }

    /// Hands over the pages of the next frame. After the file system ran full they are dropped, so that the caller can go
    /// on to count what else there is; any other fault is returned.
    pub(super) fn put(&mut self, pages: Vec<u8>) -> Result<(), WriteError> {
        let Some(lane) = self.lanes.get(self.next) else { return Ok(()) };
        self.next = (self.next + 1) % self.lanes.len();
        if lane.send(pages).is_ok() {
            return Ok(());
        }
        self.join()?;
        match self.written.fault.take_if(|fault| matches!(fault, OutputFault::Io(_))) {
            Some(OutputFault::Io(source)) => Err(WriteError::Output { source }),
            _ => Ok(()),
        }
    }

    /// Waits until everything is written, or the writer has given up.
    pub(super) fn finish(mut self) -> Result<Written, WriteError> {
        self.join()?;
        Ok(self.written)
    }

    fn join(&mut self) -> Result<(), WriteError> {
        self.lanes.clear();
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let died = |_| Err(io::Error::other("the writing thread died"));
        self.written = writer.join().unwrap_or_else(died).map_err(|source| WriteError::Compress { source })?;
        Ok(())
    }
}

fn encode_all(level: i32, raw: &Receiver<Vec<u8>>, done: &SyncSender<io::Result<EncodedFrame>>) {
    let mut encoder = Encoder::new(Codec::Zstd, level);
    for pages in raw {
        let frame = match &mut encoder {
            Ok(encoder) => encoder.encode(pages),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        if done.send(frame).is_err() {
            return;
        }
    }
}

fn write_all(output: &mut Output<'_>, header: &Header, lanes: &[Receiver<io::Result<EncodedFrame>>]) -> Outcome {
    let mut written = Written { frames: Vec::new(), fault: output.put(header.as_bytes()).err() };
    if written.fault.is_some() {
        return Ok(written);
    }
    let (mut offset, mut data_before) = (HEADER_LEN, 0);
    // The first closed lane is the end: frames are dealt out in turn, so no later lane can hold one more.
    for frame in lanes.iter().cycle().map_while(|lane| lane.recv().ok()) {
        let EncodedFrame { stored, pages, encoding, checksum } = frame?;
        if let Err(fault) = output.put(&stored) {
            written.fault = Some(fault);
            break;
        }
        let stored_len = u32::try_from(stored.len()).map_err(io::Error::other)?;
        let coded = CodedFrame { offset, stored_len, pages, encoding, checksum };
        written.frames.push(FrameEntry { coded, data_before });
        offset += u64::from(stored_len);
        data_before += u32::from(pages);
    }
    Ok(written)
}
