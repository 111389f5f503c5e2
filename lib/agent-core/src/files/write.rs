//! Writing one uploaded file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::StatusCode;

use super::metadata::{self, Metadata};
use super::open::{Regular, is_link_loop};
use crate::identity::User;
use crate::server::HttpError;

/// What is collected before it is written, so that a large file takes few calls.
const BATCH: usize = 512 * 1024;
/// Pieces of one batch: tiny ones must not pile up.
const BATCH_PIECES: usize = 64;

/// Writes `content` to `path`, which then belongs to `user` and carries `metadata` alone, as do the parent directories that had to be
/// made belong. An existing file is overwritten in place. When the content breaks off, a file that was not there before is removed
/// again; of one that was, what came so far stays. Holds two batches at most.
pub(super) async fn write_file(
    path: &Path,
    user: &User,
    metadata: &Metadata,
    mut content: impl Stream<Item = io::Result<Bytes>> + Unpin,
) -> Result<(), HttpError> {
    let failed = |error: io::Error| cannot_write(path, &error);
    let (place, owner, metadata) = (path.to_owned(), (user.uid, user.gid), metadata.clone());
    let created = blocking(move || {
        let (file, unfinished) = create(&place, owner)?;
        metadata::replace(&file, &metadata)?;
        Ok((file, unfinished))
    });
    let (file, unfinished) = created.await.map_err(failed)?;
    let mut writing: Writing = Box::pin(std::future::ready(Ok(file)));
    loop {
        // Collected while the batch before is being written.
        let batch = collect(&mut content)
            .await
            .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("upload broke off: {error}")))?;
        let file = writing.await.map_err(failed)?;
        if batch.is_empty() {
            break;
        }
        // A task of its own runs without being polled.
        writing = Box::pin(blocking(move || write_batch(file, &batch)));
    }
    if let Some(unfinished) = unfinished {
        unfinished.keep();
    }
    Ok(())
}

type Writing = Pin<Box<dyn Future<Output = io::Result<std::fs::File>> + Send>>;

/// The next pieces of `content`; none at its end.
async fn collect(content: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin)) -> io::Result<Vec<Bytes>> {
    let (mut batch, mut size) = (Vec::new(), 0_usize);
    while size < BATCH && batch.len() < BATCH_PIECES {
        let Some(piece) = content.next().await.transpose()? else { break };
        if !piece.is_empty() {
            size = size.saturating_add(piece.len());
            batch.push(piece);
        }
    }
    Ok(batch)
}

fn write_batch(mut file: std::fs::File, batch: &[Bytes]) -> io::Result<std::fs::File> {
    batch.iter().try_for_each(|piece| file.write_all(piece))?;
    Ok(file)
}

/// Starts `work`, which blocks, off the agent's thread, at once.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send {
    let task = tokio::task::spawn_blocking(work);
    async move { task.await.map_err(io::Error::other)? }
}

/// A new file that is not whole yet. Dropped with the request when the client goes away, it takes the file with it.
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// Opens `path` for writing, empty. A file that was not there before is unfinished.
pub(super) fn create(path: &Path, (uid, gid): (u32, u32)) -> io::Result<(std::fs::File, Option<Unfinished>)> {
    if let Some(parent) = path.parent() {
        make_directories(parent, (uid, gid))?;
    }
    let (file, unfinished) = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => (file, Some(Unfinished(path.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (overwrite(path)?, None),
        Err(error) => return Err(error),
    };
    give_to(fchown(&file, Some(uid), Some(gid)))?;
    Ok((file, unfinished))
}

/// Also follows a link, as to a file that is not there yet.
fn overwrite(path: &Path) -> io::Result<std::fs::File> {
    match Regular::find(path) {
        Ok(file) => file.overwrite(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Not blocking: by now a pipe without a reader may be there.
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            Ok(file)
        }
        Err(error) => Err(error),
    }
}

/// Makes `directory` and those above it that are missing; the new ones belong to the owner.
pub(crate) fn make_directories(directory: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut at = Some(directory);
    while let Some(dir) = at.filter(|dir| !dir.exists()) {
        missing.push(dir.to_owned());
        at = dir.parent();
    }
    for dir in missing.iter().rev() {
        match std::fs::create_dir(dir) {
            Ok(()) => give_to(chown(dir, Some(uid), Some(gid)))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Only root gives files away. An unprivileged agent serves its own user alone, who then owns them anyway.
fn give_to(result: io::Result<()>) -> io::Result<()> {
    if rustix::process::geteuid().is_root() { result } else { Ok(()) }
}

/// Why the file at `path` is not written.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> HttpError {
    let status = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
            StatusCode::BAD_REQUEST
        }
        // In the place of a directory above it.
        io::ErrorKind::AlreadyExists => StatusCode::BAD_REQUEST,
        io::ErrorKind::InvalidFilename | io::ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        _ if is_link_loop(error) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    HttpError::new(status, format!("cannot write '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[test]
    fn no_space_and_no_such_place_are_told_apart() {
        for (errno, status) in [
            (rustix::io::Errno::NOSPC, 507),
            (rustix::io::Errno::DQUOT, 507),
            (rustix::io::Errno::ISDIR, 400),
            (rustix::io::Errno::NOTDIR, 400),
            (rustix::io::Errno::NAMETOOLONG, 400),
            (rustix::io::Errno::LOOP, 400),
            (rustix::io::Errno::IO, 500),
        ] {
            assert_eq!(cannot_write(Path::new("/a"), &errno.into()).into_response().status(), status, "{errno}");
        }
    }
}
