//! Files that go up in parts.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutPayload};

use super::RemoteError;
use super::objects::{Objects, Put};
use super::retry::Fault;
use crate::StoreError;

/// What a file that goes up holds. It must not change meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: Arc<File>,
    pub(super) len: u64,
}

impl Source {
    /// Reads the bytes from `offset`, at most `len`.
    async fn read(&self, offset: u64, len: u64) -> Result<Bytes, RemoteError> {
        let file = Arc::clone(&self.file);
        let len = len.min(self.len.saturating_sub(offset));
        let read = move || {
            let mut bytes = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(Bytes::from(bytes))
        };
        let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        read.map_err(|source| StoreError::Io { path: "a file to be uploaded".into(), doing: "read", source }.into())
    }
}

impl Objects {
    /// Stores a file; with [`PutMode::Create`], only if there is no object of that key.
    pub(super) async fn put_file(&self, key: &Path, source: &Source, mode: PutMode) -> Result<Put, RemoteError> {
        if source.len <= self.limits.part() {
            let bytes = source.read(0, source.len).await?;
            return self.put(key, bytes, mode).await;
        }
        // Parts cannot be put on condition. Whoever does the same at the same time puts the same bytes.
        if mode == PutMode::Create && self.len(key, &self.limits.upload).await?.is_some() {
            return Ok(Put::Existed);
        }
        match &self.connected.parts {
            Some(parts) => self.put_parts(&**parts, key, source).await?,
            None => self.put_stream(key, source).await?,
        }
        Ok(Put::Stored)
    }

    /// Each part is repeated by itself.
    async fn put_parts(&self, store: &dyn MultipartStore, key: &Path, source: &Source) -> Result<(), RemoteError> {
        let limits = &self.limits;
        let create = || self.within(limits.stall, key, store.create_multipart(key));
        let upload = self.again(&limits.upload, key, create).await?;
        let put_all = async {
            let count = usize::try_from(source.len.div_ceil(limits.part())).unwrap_or(usize::MAX);
            let put_one = |index: usize| {
                let upload = &upload;
                async move {
                    let bytes = source.read((index as u64).saturating_mul(limits.part()), limits.part()).await?;
                    let bound = limits.attempt(bytes.len() as u64);
                    let put = || {
                        let part = store.put_part(key, upload, index, PutPayload::from(bytes.clone()));
                        self.within(bound, key, part)
                    };
                    self.again(&limits.upload, key, put).await
                }
            };
            let parts: Vec<PartId> =
                stream::iter(0..count).map(put_one).buffered(limits.parts_at_once.max(1)).try_collect().await?;
            let complete = || async {
                match self
                    .within(limits.attempt(source.len), key, store.complete_multipart(key, &upload, parts.clone()))
                    .await
                {
                    // What was completed already, though the answer got lost, cannot be completed again.
                    Err(Fault::Lasting(error)) => {
                        let meta = self.within(limits.stall, key, self.store().head(key)).await;
                        let done = meta.is_ok_and(|meta| meta.size == source.len);
                        if done { Ok(()) } else { Err(Fault::Lasting(error)) }
                    }
                    other => other.map(|_| ()),
                }
            };
            self.again(&limits.upload, key, complete).await
        };
        let put = put_all.await;
        if put.is_err() {
            // Parts that stay cost room on the remote and nothing else.
            let _ = self.within(limits.stall, key, store.abort_multipart(key, &upload)).await;
        }
        put
    }

    /// For stores that take parts only one after the other: all of it is repeated.
    async fn put_stream(&self, key: &Path, source: &Source) -> Result<(), RemoteError> {
        let limits = &self.limits;
        let attempt = || async {
            let mut upload =
                self.within(limits.stall, key, self.store().put_multipart_opts(key, Default::default())).await?;
            let put = self.put_in_turn(key, source, &mut *upload).await;
            if put.is_err() {
                let _ = self.within(limits.stall, key, upload.abort()).await;
            }
            put
        };
        self.again(&limits.upload, key, attempt).await
    }

    async fn put_in_turn(&self, key: &Path, source: &Source, upload: &mut dyn MultipartUpload) -> Result<(), Fault> {
        let mut offset = 0;
        while offset < source.len {
            let bytes = source.read(offset, self.limits.part()).await?;
            offset += bytes.len() as u64;
            let bound = self.limits.attempt(bytes.len() as u64);
            self.within(bound, key, upload.put_part(PutPayload::from(bytes))).await?;
        }
        self.within(self.limits.attempt(source.len), key, upload.complete()).await.map(|_| ())
    }
}
