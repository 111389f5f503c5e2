//! One frame: pages to stored bytes and back.

use std::io;

use dormouse_guest_mem::PAGE_SIZE;
use zstd::bulk::{Compressor, Decompressor};

use crate::format::FrameEntry;

/// How a frame's pages are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoding {
    Raw = 1,
    Zstd = 2,
}

impl Encoding {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Raw, Self::Zstd].into_iter().find(|encoding| encoding.code() == code)
    }
}

/// A frame ready to be written.
pub(crate) struct EncodedFrame {
    pub(crate) stored: Vec<u8>,
    pub(crate) pages: u16,
    pub(crate) encoding: Encoding,
    pub(crate) checksum: [u8; 32],
}

/// Makes frames. The result depends on the pages and the level only, not on what was encoded before.
pub(crate) struct Encoder {
    zstd: Compressor<'static>,
    spare: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Self { zstd: Compressor::new(level)?, spare: Vec::new() })
    }

    /// Encodes whole pages, at most `MAX_FRAME_PAGES` of them. Pages that do not become smaller are kept as they are.
    pub(crate) fn encode(&mut self, mut raw: Vec<u8>) -> io::Result<EncodedFrame> {
        let pages = u16::try_from(raw.len() / PAGE_SIZE).map_err(io::Error::other)?;
        self.spare.clear();
        self.spare.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.zstd.compress_to_buffer(&raw, &mut self.spare)?;
        let encoding = if self.spare.len() < raw.len() { Encoding::Zstd } else { Encoding::Raw };
        if encoding == Encoding::Zstd {
            std::mem::swap(&mut raw, &mut self.spare);
        }
        let checksum = *blake3::hash(&raw).as_bytes();
        Ok(EncodedFrame { stored: raw, pages, encoding, checksum })
    }
}

/// Why stored bytes are not the frame that the index describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFault {
    Checksum,
    Undecodable,
}

/// Reads frames.
pub(crate) struct Decoder {
    zstd: Decompressor<'static>,
}

impl Decoder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()? })
    }

    /// Checks `stored` against the frame's checksum and only then decodes it into `raw`, which becomes exactly as long
    /// as the frame's pages. Never writes more than that, whatever the compressed stream claims.
    pub(crate) fn decode(&mut self, frame: &FrameEntry, stored: &[u8], raw: &mut Vec<u8>) -> Result<(), FrameFault> {
        if blake3::hash(stored) != frame.checksum {
            return Err(FrameFault::Checksum);
        }
        raw.resize(frame.raw_len(), 0);
        match frame.encoding {
            Encoding::Raw if stored.len() == raw.len() => raw.copy_from_slice(stored),
            Encoding::Raw => return Err(FrameFault::Undecodable),
            Encoding::Zstd => match self.zstd.decompress_to_buffer(stored, raw.as_mut_slice()) {
                Ok(len) if len == frame.raw_len() => {}
                _ => return Err(FrameFault::Undecodable),
            },
        }
        Ok(())
    }
}
