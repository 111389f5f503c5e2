//! Answers that tell line by line how something long goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderName, header};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;

/// The answer.
pub(super) type Lines = ([(HeaderName, &'static str); 1], Body);

/// How often the position within a step is told at most. This bounds what piles up for a client that does not read.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Tells each event as a line. When the client goes away, `unwanted` is set.
pub(super) fn answer<T: Serialize + Send + 'static>(events: UnboundedReceiver<T>, unwanted: Arc<AtomicBool>) -> Lines {
    let lines = futures_util::stream::unfold((events, Listener(unwanted)), |(mut events, listener)| async {
        let event = events.recv().await?;
        let line = serde_json::to_vec(&event).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, (events, listener)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines))
}

/// Lives as long as the answer's body: when the client goes away, the work is not wanted any more.
struct Listener(Arc<AtomicBool>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets a position through now and then.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether to tell it now; the last one always is.
    pub(super) fn is_due(&self, last: bool) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last || told.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}
