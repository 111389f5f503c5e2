//! `POST /dormouse/v1/templates/{name}/build`: a build, told line by line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use bytes::Bytes;
use dormouse_api_types::own::BuildEvent;
use dormouse_api_types::own::BuildRequest;
use dormouse_lifecycle::{BuildProgress, Built, TemplateInfo, TemplateName};
use futures_util::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::serve::app::Backend;
use crate::serve::body::JsonBody;
use crate::serve::failure::{Answer, Failure};
use crate::serve::{convert, recipe};

/// How often the position within a step is told at most. This bounds what piles up for a client that does not read.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Builds until done, or until the client goes away.
pub(crate) async fn build(
    State(backend): State<Backend>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<BuildRequest>,
) -> Answer<([(HeaderName, &'static str); 1], Body)> {
    let name: TemplateName = name.parse().map_err(|e| Failure::bad_request(format!("{e}")))?;
    let request = recipe::request(body)?;
    let (events, lines) = unbounded_channel();
    let unwanted = Arc::new(AtomicBool::new(false));
    let progress = Arc::new(Reporter {
        events: events.clone(),
        unwanted: Arc::clone(&unwanted),
        told: std::sync::Mutex::new(None),
    });
    tokio::spawn(async move {
        let built = backend.build_template(name, request, progress).await;
        // The client may be gone; then nobody wants to know.
        let _ = events.send(last_event(built));
    });
    let body = Body::from_stream(lines_of(lines, Listener(unwanted)));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body))
}

fn last_event(built: dormouse_lifecycle::Result<(TemplateInfo, Built)>) -> BuildEvent {
    match built {
        Ok((info, built)) => {
            BuildEvent::Done { template: convert::template_entry(&info), unchanged: built == Built::Unchanged }
        }
        Err(error) => BuildEvent::Error(Failure::from(error).body()),
    }
}

fn lines_of(
    events: UnboundedReceiver<BuildEvent>,
    listener: Listener,
) -> impl Stream<Item = serde_json::Result<Bytes>> + Send {
    futures_util::stream::unfold((events, listener), |(mut events, listener)| async {
        let event = events.recv().await?;
        let line = serde_json::to_vec(&event).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, (events, listener)))
    })
}

/// Lives as long as the answer's body: when the client goes away, the build is not wanted any more.
struct Listener(Arc<AtomicBool>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Reporter {
    events: UnboundedSender<BuildEvent>,
    unwanted: Arc<AtomicBool>,
    told: std::sync::Mutex<Option<Instant>>,
}

impl BuildProgress for Reporter {
    fn step(&self, text: &str) {
        let _ = self.events.send(BuildEvent::Step(text.to_owned()));
    }

    fn advance(&self, done: u64, total: Option<u64>) {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < TELL_EVERY) && total != Some(done) {
            return;
        }
        *told = Some(Instant::now());
        let _ = self.events.send(BuildEvent::Advance { done, total });
    }

    fn cancelled(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}
