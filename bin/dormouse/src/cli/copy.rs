//! Streaming files to and from a sandbox.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use indicatif::ProgressBar;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{self, RequestBody};
use super::guest::Guest;
use super::progress;
use crate::command_error::{CommandError, CommandResult};

const CHUNK: usize = 256 << 10;

/// Copies a local file to `to` in the sandbox.
pub(super) async fn upload(guest: &Guest, from: &Path, to: &str, user: Option<&str>) -> CommandResult<()> {
    let open = || CommandError::io(format!("open {}", from.display()));
    let file = File::open(from).await.map_err(open())?;
    let about = file.metadata().await.map_err(open())?;
    let length = about.is_file().then_some(about.len());
    let bar = progress::bytes(length, &from.display().to_string());
    let body = body_of(file, length, bar.clone());
    guest.http(Method::POST, &path(to, user), length, body).await?;
    bar.finish_and_clear();
    Ok(())
}

/// Copies `from` in the sandbox to a local file, which appears when it is whole.
pub(super) async fn download(guest: &Guest, from: &str, to: &Path, user: Option<&str>) -> CommandResult<()> {
    let answer = guest.http(Method::GET, &path(from, user), None, connection::full(Bytes::new())).await?;
    let length = answer.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse().ok());
    let bar = progress::bytes(length, from);
    let part = Part::beside(to);
    let writing = || CommandError::io(format!("write {}", part.0.display()));
    let mut file = File::create_new(&part.0).await.map_err(writing())?;
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| CommandError::user(format!("the transfer broke off: {e}")))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).await.map_err(writing())?;
            bar.inc(data.len() as u64);
        }
    }
    file.flush().await.map_err(writing())?;
    drop(file);
    std::fs::rename(&part.0, to).map_err(CommandError::io(format!("write {}", to.display())))?;
    bar.finish_and_clear();
    Ok(())
}

/// A file that is not whole yet, and is removed if it never becomes so.
struct Part(PathBuf);

impl Part {
    fn beside(to: &Path) -> Self {
        let name = to.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self(to.with_file_name(format!(".{name}.{}.part", std::process::id())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn path(file: &str, user: Option<&str>) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let user = user.map(|user| format!("&username={}", encode(user))).unwrap_or_default();
    format!("/files?path={}{user}", encode(file))
}

/// A file as a body: exactly `length` bytes where that was promised, even if the file grows.
fn body_of(file: File, length: Option<u64>, bar: ProgressBar) -> RequestBody {
    let file = file.take(length.unwrap_or(u64::MAX));
    let frames = stream::unfold((file, bar), |(mut file, bar)| async {
        let mut buffer = vec![0u8; CHUNK];
        match file.read(&mut buffer).await {
            Ok(0) => None,
            Ok(read) => {
                buffer.truncate(read);
                bar.inc(read as u64);
                Some((Ok::<_, io::Error>(Frame::data(Bytes::from(buffer))), (file, bar)))
            }
            Err(error) => Some((Err(error), (file, bar))),
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}
