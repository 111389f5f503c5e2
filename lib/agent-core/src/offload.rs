//! System calls that may never come back, each on a thread of its own.
//!
//! The pool of blocking threads is small and serves requests, so a call that hangs (a stuck disk, a dead server) must not sit there.
//! At most one call of a name is under way: one that was given up on may still do its work, and two of them could undo each other.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The calls under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offload(Arc<Mutex<HashSet<String>>>);

/// A name in use.
struct Claim {
    offload: Offload,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.offload.with(|names| names.remove(&self.name));
    }
}

impl Offload {
    fn with<T>(&self, f: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn claim(&self, name: &str) -> Option<Claim> {
        let free = self.with(|names| names.insert(name.to_owned()));
        free.then(|| Claim { offload: self.clone(), name: name.to_owned() })
    }

    /// Runs `call` and waits for it. A caller that stops waiting leaves it running, and until it has ended calls of the same name fail.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Some(claim) = self.claim(name) else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "an earlier one has not ended yet"));
        };
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = call();
            // The name is free again before the caller can use it.
            drop(claim);
            // A caller that has gone does not want to know.
            let _ = sender.send(result);
        })?;
        receiver.await.map_err(|_| io::Error::other("the thread of the call died"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[tokio::test]
    async fn a_call_that_was_given_up_on_blocks_only_its_own_name_and_only_until_it_ends() {
        let offload = Offload::default();
        let (release, released) = channel::<()>();
        let hanging = offload.call("sync", move || Ok(released.recv().is_ok()));
        assert!(tokio::time::timeout(Duration::from_millis(50), hanging).await.is_err(), "it hangs");
        let refused = offload.call("sync", || Ok(())).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(offload.call("trim", || Ok(7)).await.unwrap(), 7);
        release.send(()).unwrap();
        while offload.call("sync", || Ok(())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_call_that_panics_is_an_error_and_frees_its_name() {
        let offload = Offload::default();
        let died = offload.call("trim", || -> io::Result<()> { panic!("on purpose") }).await;
        assert!(died.is_err());
        offload.call("trim", || Ok(())).await.unwrap();
    }
}
