//! `POST /dormouse/v1/templates/{name}/build`: a build, told line by line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Path, State};
use dormouse_api_types::own::BuildEvent;
use dormouse_api_types::own::BuildRequest;
use dormouse_lifecycle::{BuildProgress, Built, TemplateInfo, TemplateName};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::ndjson;
use crate::serve::app::Backend;
use crate::serve::body::JsonBody;
use crate::serve::failure::{Answer, Failure};
use crate::serve::{convert, recipe};

/// Builds until done, or until the client goes away.
pub(crate) async fn build(
    State(backend): State<Backend>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<BuildRequest>,
) -> Answer<ndjson::Lines> {
    let name: TemplateName = name.parse().map_err(|e| Failure::bad_request(format!("{e}")))?;
    let request = recipe::request(body)?;
    let (events, lines) = unbounded_channel();
    let unwanted = Arc::new(AtomicBool::new(false));
    let progress =
        Arc::new(Reporter { events: events.clone(), unwanted: Arc::clone(&unwanted), told: ndjson::Seldom::default() });
    tokio::spawn(async move {
        let built = backend.build_template(name, request, progress).await;
        // The client may be gone; then nobody wants to know.
        let _ = events.send(last_event(built));
    });
    Ok(ndjson::answer(lines, unwanted))
}

fn last_event(built: dormouse_lifecycle::Result<(TemplateInfo, Built)>) -> BuildEvent {
    match built {
        Ok((info, built)) => {
            BuildEvent::Done { template: convert::template_entry(&info), unchanged: built == Built::Unchanged }
        }
        Err(error) => BuildEvent::Error(Failure::from(error).body()),
    }
}

struct Reporter {
    events: UnboundedSender<BuildEvent>,
    unwanted: Arc<AtomicBool>,
    told: ndjson::Seldom,
}

impl BuildProgress for Reporter {
    fn step(&self, text: &str) {
        let _ = self.events.send(BuildEvent::Step(text.to_owned()));
    }

    fn advance(&self, done: u64, total: Option<u64>) {
        if self.told.is_due(total == Some(done)) {
            let _ = self.events.send(BuildEvent::Advance { done, total });
        }
    }

    fn cancelled(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}
