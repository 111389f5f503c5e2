//! Asking the remote for one thing, patiently: every call ends in success or a clear error in bounded time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::time::{Instant, timeout};

use super::connect::{Connected, connect};
use super::limits::RetryPolicy;
use super::retry::{Fault, retry};
use super::{RemoteError, RemoteLimits, Target};

/// A remote that can be asked for objects. Clones share the connection.
#[derive(Clone)]
pub(super) struct Objects {
    pub(super) connected: Arc<Connected>,
    pub(super) limits: Arc<RemoteLimits>,
    /// The remote's name in errors.
    pub(super) shown: Arc<str>,
}

/// Whether an object was there already when it was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Stored,
    Existed,
}

/// Where the bytes of an answer go.
pub(super) trait Sink: Send {
    fn take(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), RemoteError>> + Send;
}

impl Sink for BytesMut {
    async fn take(&mut self, chunk: Bytes) -> Result<(), RemoteError> {
        self.extend_from_slice(&chunk);
        Ok(())
    }
}

impl Objects {
    pub(super) fn connect(target: &Target, limits: RemoteLimits) -> Result<Self, RemoteError> {
        let connected = Arc::new(connect(target, &limits)?);
        Ok(Self { connected, limits: Arc::new(limits), shown: target.to_string().into() })
    }

    /// Stores a small object; with [`PutMode::Create`], only if there is none of that key.
    pub(super) async fn put(&self, key: &Path, bytes: Bytes, mode: PutMode) -> Result<Put, RemoteError> {
        let bound = self.limits.attempt(bytes.len() as u64);
        self.again(&self.limits.upload, key, || async {
            let put = self.store().put_opts(key, PutPayload::from(bytes.clone()), mode.clone().into());
            match self.within(bound, key, put).await {
                Err(Fault::Lasting(RemoteError::Refused { .. })) if mode == PutMode::Create => {
                    // "Exists" is also what a server says while somebody else writes. It is true only if one can see it.
                    self.within(bound, key, self.store().head(key)).await?;
                    Ok(Put::Existed)
                }
                other => other.map(|_| Put::Stored),
            }
        })
        .await
    }

    /// Size of an object, or None if there is none.
    pub(super) async fn len(&self, key: &Path, policy: &RetryPolicy) -> Result<Option<u64>, RemoteError> {
        let head = || self.within(self.limits.stall, key, self.store().head(key));
        match self.again(policy, key, head).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(RemoteError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A small object, whole; one of more than `most` bytes is damaged.
    pub(super) async fn get(&self, key: &Path, most: u64) -> Result<Bytes, RemoteError> {
        let attempt = || async {
            let mut body = BytesMut::new();
            self.read(key, 0, most, &mut body).await?;
            Ok(body.freeze())
        };
        self.again(&self.limits.fetch, key, attempt).await
    }

    /// One attempt to read an object from `offset` to its end. `most` is the longest that it may be.
    pub(super) async fn read(&self, key: &Path, offset: u64, most: u64, sink: &mut impl Sink) -> Result<(), Fault> {
        let options = GetOptions { range: (offset > 0).then_some(GetRange::Offset(offset)), ..GetOptions::default() };
        let got = self.within(self.limits.stall, key, self.store().get_opts(key, options)).await?;
        let len = got.meta.size;
        if len > most {
            let reason = format!("it is {len} bytes long, which is more than it can be");
            return Err(self.damaged(key, reason).into());
        }
        let all = async {
            let mut at = got.range.start;
            if at != offset {
                return Err(Fault::Passing(format!("asked for bytes from {offset}, it answered from {at}")));
            }
            let mut body = got.into_stream();
            loop {
                let next = timeout(self.limits.stall, body.next()).await;
                let Some(chunk) = next.map_err(|_| self.stalled())? else { break };
                let chunk = chunk.map_err(|error| self.fault(key, error))?;
                at += chunk.len() as u64;
                if at > len {
                    return Err(Fault::Passing(format!("it sent more than the {len} bytes that it announced")));
                }
                sink.take(chunk).await?;
            }
            if at < len { Err(Fault::Passing(format!("its answer ended after {at} of {len} bytes"))) } else { Ok(()) }
        };
        let bound = self.limits.attempt(len.saturating_sub(offset));
        timeout(bound, all).await.unwrap_or_else(|_| Err(self.stalled()))
    }

    /// All objects whose keys lie below `prefix`.
    pub(super) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, RemoteError> {
        let attempt = || async {
            let mut found = Vec::new();
            let mut listed = self.store().list(Some(prefix));
            while let Some(next) = timeout(self.limits.stall, listed.next()).await.map_err(|_| self.stalled())? {
                found.push(next.map_err(|error| self.fault(prefix, error))?);
            }
            Ok(found)
        };
        match self.again(&self.limits.fetch, prefix, attempt).await {
            // A folder that nothing was ever put into.
            Err(RemoteError::Absent { .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Asks once for `key`, under which nothing is, to see whether the remote answers.
    pub(super) async fn probe(&self, key: &Path, patience: Duration) -> Result<(), RemoteError> {
        let begun = Instant::now();
        let fault = match timeout(patience, self.store().get_opts(key, GetOptions::default())).await {
            Ok(Err(Error::NotFound { source, .. })) if !with_causes(&*source).contains("NoSuchBucket") => return Ok(()),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => self.fault(key, error),
            Err(_) => self.stalled(),
        };
        let (key, remote) = (key.to_string(), self.shown.to_string());
        Err(match fault {
            Fault::Passing(last) => {
                RemoteError::Unavailable { key, remote, attempts: 1, elapsed: begun.elapsed(), last }
            }
            Fault::Lasting(RemoteError::Absent { .. }) => {
                RemoteError::Refused { key, remote, reason: "there is no such bucket".to_owned() }
            }
            Fault::Lasting(error) => error,
        })
    }

    /// Removes an object; that there is none is fine.
    pub(super) async fn delete(&self, key: &Path) -> Result<(), RemoteError> {
        let delete = || self.within(self.limits.stall, key, self.store().delete(key));
        match self.again(&self.limits.upload, key, delete).await {
            Err(RemoteError::Absent { .. }) => Ok(()),
            other => other,
        }
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.connected.objects
    }

    pub(super) fn damaged(&self, key: &Path, reason: String) -> RemoteError {
        RemoteError::Damaged { key: key.to_string(), remote: self.shown.to_string(), reason }
    }

    pub(super) async fn again<T, F>(
        &self,
        policy: &RetryPolicy,
        key: &Path,
        attempt: impl FnMut() -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        retry(policy, &self.shown, key.as_ref(), attempt).await
    }

    /// Waits for one answer, at most for `bound`.
    pub(super) async fn within<T>(
        &self,
        bound: Duration,
        key: &Path,
        answer: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Fault> {
        match timeout(bound, answer).await {
            Ok(answer) => answer.map_err(|error| self.fault(key, error)),
            Err(_) => Err(self.stalled()),
        }
    }

    pub(super) fn stalled(&self) -> Fault {
        Fault::Passing("it did not answer in time".into())
    }

    /// What an error means for whether to try again.
    pub(super) fn fault(&self, key: &Path, error: Error) -> Fault {
        let (key, remote) = (key.to_string(), self.shown.to_string());
        Fault::Lasting(match error {
            Error::NotFound { .. } => RemoteError::Absent { key, remote },
            Error::Generic { .. } | Error::JoinError { .. } => return Fault::Passing(with_causes(&error)),
            error => RemoteError::Refused { key, remote, reason: with_causes(&error) },
        })
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Objects({})", self.shown)
    }
}

/// An error and all that it says about its causes, each once.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
