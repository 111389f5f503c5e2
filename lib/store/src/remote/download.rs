//! Objects that come down into files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::RemoteError;
use super::objects::{Objects, Sink};
use super::retry::Fault;
use crate::{StoreError, room};

/// Chunks of an answer are gathered up to this size before they are written.
const GATHER: usize = 1 << 20;

/// The file that an object goes into.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<std::path::Path>,
}

impl Objects {
    /// Writes an object of `len` bytes into an empty file. After a failure it goes on where it was.
    pub(super) async fn get_file(&self, key: &Path, len: u64, target: &Target) -> Result<(), RemoteError> {
        let reserved = target.clone();
        blocking(move || room::reserve(&reserved.file, &reserved.path, len)).await?;
        let done = AtomicU64::new(0);
        let attempt = || async {
            let offset = done.load(Ordering::Relaxed);
            if offset >= len {
                return Ok(());
            }
            let mut gathered = Gathered { target, done: &done, bytes: BytesMut::new() };
            let read = self.read(key, offset, len, &mut gathered).await;
            // What came before a failure counts.
            gathered.write().await?;
            read?;
            let found = done.load(Ordering::Relaxed);
            if found == len {
                return Ok(());
            }
            // Either the answer was cut short, or there is no more.
            let there = self.within(self.limits.stall, key, self.store().head(key)).await?.size;
            if there == len {
                return Err(Fault::Passing(format!("its answer ended after {found} of {len} bytes")));
            }
            Err(self.damaged(key, format!("it has {there} of {len} bytes")).into())
        };
        self.again(&self.limits.fetch, key, attempt).await
    }
}

struct Gathered<'a> {
    target: &'a Target,
    /// How much of the object is in the file.
    done: &'a AtomicU64,
    bytes: BytesMut,
}

impl Sink for Gathered<'_> {
    async fn take(&mut self, chunk: Bytes) -> Result<(), RemoteError> {
        self.bytes.extend_from_slice(&chunk);
        if self.bytes.len() >= GATHER { self.write().await } else { Ok(()) }
    }
}

impl Gathered<'_> {
    async fn write(&mut self) -> Result<(), RemoteError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = self.bytes.split().freeze();
        let len = bytes.len() as u64;
        let at = self.done.load(Ordering::Relaxed);
        let target = self.target.clone();
        blocking(move || {
            target.file.write_all_at(&bytes, at).map_err(|error| room::failed(&target.path, "written", len, error))
        })
        .await?;
        self.done.store(at + len, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs blocking work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, RemoteError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(RemoteError::from),
        Err(error) => {
            let source = std::io::Error::other(error);
            Err(StoreError::Io { path: "work off the async threads".into(), doing: "done", source }.into())
        }
    }
}
