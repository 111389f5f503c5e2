//! Writing one uploaded file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use tokio::io::AsyncWriteExt;

use crate::identity::User;
use crate::server::HttpError;

/// Writes `content` to `path`, which then belongs to `user`, as do the parent directories that had to be made. An existing file is
/// overwritten in place. When the content breaks off, a file that was not there before is removed again; of one that was, what came
/// so far stays.
pub(super) async fn write_file<E: std::fmt::Display>(
    path: &Path,
    user: &User,
    mut content: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<(), HttpError> {
    let failed = |error: io::Error| cannot_write(path, &error);
    let owner = (user.uid, user.gid);
    let place = path.to_owned();
    let created =
        tokio::task::spawn_blocking(move || create(&place, owner)).await.map_err(io::Error::other).map_err(failed)?;
    let (file, unfinished) = created.map_err(failed)?;
    let mut file = tokio::fs::File::from_std(file);
    while let Some(chunk) = content.next().await {
        let chunk =
            chunk.map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("upload broke off: {error}")))?;
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    unfinished.map(Unfinished::keep);
    Ok(())
}

/// A new file that is not whole yet. Dropped with the request when the client goes away, it takes the file with it.
struct Unfinished(PathBuf);

impl Unfinished {
    fn keep(mut self) {
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
fn create(path: &Path, (uid, gid): (u32, u32)) -> io::Result<(std::fs::File, Option<Unfinished>)> {
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
    // Not blocking: a pipe without a reader must not hold a thread.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
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

fn cannot_write(path: &Path, error: &io::Error) -> HttpError {
    let status = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
            StatusCode::BAD_REQUEST
        }
        io::ErrorKind::InvalidFilename => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    HttpError::new(status, format!("cannot write '{}': {error}", path.display()))
}

/// The body of a request as content.
pub(super) fn whole_body(body: axum::body::Body) -> BodyDataStream {
    body.into_data_stream()
}
