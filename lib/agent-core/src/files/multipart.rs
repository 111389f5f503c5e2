//! Multipart bodies, within bounds that their parser does not have.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use multer::{Field, Multipart};

/// Most that the parser may take without giving anything: what stands before the first part, or the head of one.
const MAX_WITHOUT_RESULT: usize = 256 * 1024;

/// Parts of a body, one after the other.
pub(super) struct Parts {
    parser: Multipart<'static>,
    taken: Taken,
}

/// Bytes that the parser took since it last gave something.
#[derive(Clone, Default)]
pub(super) struct Taken(Arc<AtomicUsize>);

impl Taken {
    /// To be called whenever the parser gave something.
    pub(super) fn given(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Parts {
    pub(super) fn new(
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
        content_type: &str,
    ) -> Result<Self, multer::Error> {
        let boundary = multer::parse_boundary(content_type)?;
        let taken = Taken::default();
        let paced = Paced { body, taken: taken.clone(), pause: false };
        Ok(Self { parser: Multipart::new(paced, boundary), taken })
    }

    /// The next part named `file`. The others are passed over.
    pub(super) async fn next_file(&mut self) -> Result<Option<(Field<'static>, Taken)>, multer::Error> {
        while let Some(mut field) = self.parser.next_field().await? {
            self.taken.given();
            if field.name() == Some("file") {
                return Ok(Some((field, self.taken.clone())));
            }
            while field.chunk().await?.is_some() {
                self.taken.given();
            }
        }
        Ok(None)
    }
}

/// The parser takes all that is there, and keeps it. So it is given one piece at a time, and not more than a part's head may have.
struct Paced<S> {
    body: S,
    taken: Taken,
    pause: bool,
}

impl<S: Stream<Item = std::io::Result<Bytes>> + Unpin> Stream for Paced<S> {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.pause = true;
            let before = self.taken.0.fetch_add(bytes.len(), Ordering::Relaxed);
            if before > MAX_WITHOUT_RESULT {
                return Poll::Ready(Some(Err(std::io::Error::other("the head of a part is too long"))));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use proptest::prelude::*;

    fn parts(pieces: impl Iterator<Item = Vec<u8>> + Send + Unpin + 'static) -> Parts {
        Parts::new(stream::iter(pieces.map(|piece| Ok(piece.into()))), "multipart/form-data; boundary=b").unwrap()
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused() {
        for begin in ["", "--b\r\ncontent-disposition: "] {
            let mut endless =
                parts(std::iter::once(begin.into()).chain(std::iter::repeat_n(vec![b'a'; 60_000], 10_000)));
            assert!(endless.next_file().await.is_err(), "{begin}");
            assert!(endless.taken.0.load(Ordering::Relaxed) < 2 * MAX_WITHOUT_RESULT, "it stopped early");
        }
    }

    #[tokio::test]
    async fn a_long_part_comes_in_the_pieces_it_was_sent_in() {
        let head = b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n".to_vec();
        let end = b"\r\n--b--\r\n".to_vec();
        let body = std::iter::once(head).chain(std::iter::repeat_n(vec![b'a'; 60_000], 500)).chain([end]);
        let mut parts = parts(body);
        let (mut field, taken) = parts.next_file().await.unwrap().unwrap();
        let mut total = 0;
        while let Some(chunk) = field.chunk().await.unwrap() {
            taken.given();
            assert!(chunk.len() <= 2 * 60_000, "{}", chunk.len());
            total += chunk.len();
        }
        assert_eq!(total, 60_000 * 500);
    }

    proptest! {
        #[test]
        fn any_body_ends_in_parts_or_an_error(
            tokens in proptest::collection::vec(prop_oneof![
                Just("--b".to_owned()), Just("--".to_owned()), Just("\r\n".to_owned()), Just("\r\n\r\n".to_owned()),
                Just("content-disposition: form-data; name=\"file\"; filename=\"".to_owned()), "[ -~]{0,8}",
            ], 0..20),
            size in 1usize..20,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let body = tokens.concat().into_bytes();
            let pieces: Vec<Vec<u8>> = body.chunks(size).map(<[u8]>::to_vec).collect();
            runtime.block_on(async {
                let mut parts = parts(pieces.into_iter());
                while let Ok(Some((mut field, taken))) = parts.next_file().await {
                    while let Ok(Some(_)) = field.chunk().await {
                        taken.given();
                    }
                }
            });
        }
    }
}
