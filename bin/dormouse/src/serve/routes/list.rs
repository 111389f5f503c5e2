//! Lists of sandboxes in E2B's shape.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderName;
use dormouse_api_types::{ListedSandbox, SandboxState};
use dormouse_lifecycle::{Phase, SandboxInfo};
use serde::Deserialize;

use super::metadata_filter::MetadataFilter;
use crate::serve::app::Backend;
use crate::serve::convert;
use crate::serve::failure::{Answer, Failure};

const TOTAL_RUNNING: HeaderName = HeaderName::from_static("x-total-running");

/// The query of both lists. `limit` and `nextToken` are not looked at: an answer is always whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    metadata: Option<String>,
    state: Option<String>,
    order: Option<String>,
    template: Option<String>,
}

/// A list and how many sandboxes run in all.
type List = ([(HeaderName, String); 1], Json<Vec<ListedSandbox>>);

/// `GET /v2/sandboxes`.
pub(crate) async fn all(State(backend): State<Backend>, filter: Result<Query<Filter>, Bad>) -> Answer<List> {
    let Query(filter) = filter.map_err(|e| Failure::bad_request(e.to_string()))?;
    list(&backend, &filter, &states(filter.state.as_deref())?)
}

/// `GET /sandboxes`: only those that run.
pub(crate) async fn running(State(backend): State<Backend>, filter: Result<Query<Filter>, Bad>) -> Answer<List> {
    let Query(filter) = filter.map_err(|e| Failure::bad_request(e.to_string()))?;
    list(&backend, &filter, &[SandboxState::Running])
}

type Bad = axum::extract::rejection::QueryRejection;

fn list(backend: &Backend, filter: &Filter, states: &[SandboxState]) -> Answer<List> {
    let metadata = filter.metadata.as_deref().map(MetadataFilter::parse).transpose()?.unwrap_or_default();
    let mut infos = backend.list();
    match filter.order.as_deref() {
        None | Some("desc") => {}
        Some("asc") => infos.reverse(),
        Some(other) => return Err(Failure::bad_request(format!("no order {other:?}: use asc or desc"))),
    }
    let running = infos.iter().filter(|i| i.phase == Phase::Running).count();
    let wanted = |info: &&SandboxInfo| {
        let template = filter.template.as_deref().is_none_or(|t| t == info.template.as_str());
        template && metadata.matches(&info.metadata)
    };
    let listed = infos.iter().filter(wanted).filter_map(convert::listed);
    let listed = listed.filter(|sandbox| states.contains(&sandbox.state)).collect();
    Ok(([(TOTAL_RUNNING, running.to_string())], Json(listed)))
}

/// The states that a comma-separated list names; all if there is none.
fn states(text: Option<&str>) -> Answer<Vec<SandboxState>> {
    let one = |word: &str| match word {
        "running" => Ok(SandboxState::Running),
        "paused" => Ok(SandboxState::Paused),
        other => Err(Failure::bad_request(format!("no state {other:?}: use running or paused"))),
    };
    match text {
        None | Some("") => Ok(vec![SandboxState::Running, SandboxState::Paused]),
        Some(text) => text.split(',').map(one).collect(),
    }
}
