//! Reading one frame, checked.

use std::os::unix::fs::FileExt;

use dormouse_guest_mem::Bytes;

use super::ImageReader;
use crate::codec::{Decoder, FrameFault};
use crate::error::{Damage, ReadError};
use crate::v1::format::FrameEntry;

/// Reads frames of one image; one for each thread.
pub(super) struct FrameReader<'a> {
    image: &'a ImageReader,
    decoder: Decoder,
    stored: Vec<u8>,
}

impl<'a> FrameReader<'a> {
    pub(super) fn new(image: &'a ImageReader) -> Result<Self, ReadError> {
        let decoder = Decoder::new().map_err(|source| ReadError::Io { path: image.path.clone(), source })?;
        Ok(Self { image, decoder, stored: Vec::new() })
    }

    /// Reads frame `number` of the frame table into `raw`, which is only of use if this succeeds.
    pub(super) fn read(&mut self, number: usize, frame: &FrameEntry, raw: &mut Vec<u8>) -> Result<(), ReadError> {
        let path = || self.image.path.clone();
        self.stored.resize(frame.coded.stored_len as usize, 0);
        let read = self.image.file.read_exact_at(&mut self.stored, frame.coded.offset);
        read.map_err(|source| ReadError::Io { path: path(), source })?;
        raw.resize(frame.coded.raw_len(), 0);
        self.decoder.decode(&frame.coded, &self.stored, raw).map_err(|fault| {
            let (offset, len) = (frame.coded.offset, Bytes(u64::from(frame.coded.stored_len)));
            let damage = match fault {
                FrameFault::Checksum => Damage::FrameChecksum { frame: number, offset, len },
                FrameFault::Undecodable => Damage::FrameContent { frame: number, offset },
            };
            ReadError::Damaged { path: path(), damage }
        })
    }
}
