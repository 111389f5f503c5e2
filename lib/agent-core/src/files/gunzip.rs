//! Bodies that come compressed.

use std::io::{self, BufRead, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use futures_util::Stream;

/// Most that is given out at once, whatever it came from.
const PIECE: usize = 64 * 1024;

/// The piece of compressed bytes at hand, as a reader that would block when it is used up.
#[derive(Default)]
struct AtHand {
    bytes: Bytes,
    ended: bool,
}

impl Read for AtHand {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for AtHand {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count.min(self.bytes.len()));
    }
}

/// `inner`, uncompressed. Holds one piece of each side, so that a little that becomes a lot costs no memory.
pub(super) struct Gunzip<S> {
    inner: S,
    decoder: MultiGzDecoder<AtHand>,
    over: bool,
}

impl<S> Gunzip<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, decoder: MultiGzDecoder::new(AtHand::default()), over: false }
    }
}

impl<S, E> Stream for Gunzip<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; PIECE];
        loop {
            match this.decoder.read(&mut piece) {
                Ok(0) => {
                    this.over = true;
                    return Poll::Ready(None);
                }
                Ok(count) => {
                    piece.truncate(count);
                    return Poll::Ready(Some(Ok(piece.into())));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            let at_hand = this.decoder.get_mut();
            match ready!(Pin::new(&mut this.inner).poll_next(context)) {
                Some(Ok(bytes)) => at_hand.bytes = bytes,
                Some(Err(error)) => {
                    this.over = true;
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                None => at_hand.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::{StreamExt, TryStreamExt, stream};
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    async fn gunzip(pieces: Vec<Vec<u8>>) -> io::Result<Vec<u8>> {
        let inner = stream::iter(pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece))));
        Gunzip::new(inner)
            .try_fold(Vec::new(), async |mut all, piece| {
                all.extend(piece);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn a_little_that_becomes_a_lot_comes_in_small_pieces() {
        let bomb = Bytes::from(gzip(&vec![0; 50 << 20]));
        let mut out = Gunzip::new(stream::iter([Ok::<_, io::Error>(bomb)]));
        let mut total = 0;
        while let Some(piece) = out.next().await {
            let piece = piece.unwrap();
            assert!(piece.len() <= PIECE);
            total += piece.len();
        }
        assert_eq!(total, 50 << 20);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
        #[test]
        fn however_it_is_cut_it_comes_out_whole_and_half_of_it_is_an_error(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4),
            size in 1usize..50,
            cut in any::<prop::sample::Index>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let one = gzip(&parts[0]);
            let whole: Vec<u8> = parts.iter().flat_map(|part| gzip(part)).collect();
            let pieces = |bytes: &[u8]| bytes.chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>();
            prop_assert_eq!(runtime.block_on(gunzip(pieces(&whole))).unwrap(), parts.concat());
            let half = &one[..cut.index(one.len())];
            prop_assert!(runtime.block_on(gunzip(pieces(half))).is_err());
        }

        #[test]
        fn rubbish_is_an_error_or_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(gunzip(vec![[&[0x1f, 0x8b, 8][..], &bytes].concat()]));
        }
    }
}
