//! The store as a whole: statistics, verification, collection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::State;
use dormouse_api_types::own::{CollectRequest, Garbage, StoreStats, VerifyEvent, VerifyRequest};
use dormouse_lifecycle::{DamagedObject, Verification, VerifyWatch};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::ndjson;
use super::own::snapshot_id;
use crate::serve::app::Backend;
use crate::serve::body::JsonBody;
use crate::serve::convert::store as convert;
use crate::serve::failure::{Answer, Failure};

/// `GET /dormouse/v1/store`.
pub(crate) async fn stats(State(backend): State<Backend>) -> Answer<Json<StoreStats>> {
    Ok(Json(convert::stats(backend.store_stats().await?)))
}

/// `POST /dormouse/v1/store/gc`.
pub(crate) async fn collect(
    State(backend): State<Backend>,
    JsonBody(body): JsonBody<CollectRequest>,
) -> Answer<Json<Garbage>> {
    let found = match body.remote {
        true => backend.collect_remote_garbage(body.dry_run).await?,
        false => backend.collect_garbage(body.dry_run).await?,
    };
    Ok(Json(convert::garbage(found)))
}

/// `POST /dormouse/v1/store/verify`: until done, or until the client goes away.
pub(crate) async fn verify(
    State(backend): State<Backend>,
    JsonBody(body): JsonBody<VerifyRequest>,
) -> Answer<ndjson::Lines> {
    let snapshots = body.snapshots.iter().map(|id| snapshot_id(id)).collect::<Answer<Vec<_>>>()?;
    let wanted = Verification { snapshots, fetch: body.fetch };
    let (events, lines) = unbounded_channel();
    let unwanted = Arc::new(AtomicBool::new(false));
    let watch =
        Arc::new(Watch { events: events.clone(), unwanted: Arc::clone(&unwanted), told: ndjson::Seldom::default() });
    tokio::spawn(async move {
        let last = match backend.verify_store(wanted, watch).await {
            Ok(report) => VerifyEvent::Done(convert::report(report)),
            Err(error) => VerifyEvent::Error(Failure::from(error).body()),
        };
        // The client may be gone; then nobody wants to know.
        let _ = events.send(last);
    });
    Ok(ndjson::answer(lines, unwanted))
}

struct Watch {
    events: UnboundedSender<VerifyEvent>,
    unwanted: Arc<AtomicBool>,
    told: ndjson::Seldom,
}

impl VerifyWatch for Watch {
    fn step(&self, text: &str) {
        let _ = self.events.send(VerifyEvent::Step(text.to_owned()));
    }

    fn advance(&self, done: u64, total: u64) {
        if self.told.is_due(total == done) {
            let _ = self.events.send(VerifyEvent::Advance { done, total });
        }
    }

    fn damaged(&self, object: &DamagedObject) {
        let _ = self.events.send(VerifyEvent::Damaged(convert::damaged(object.clone())));
    }

    fn cancelled(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}
