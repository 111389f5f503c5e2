//! What is done to one sandbox.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use dormouse_api_types::{
    Connect, ConnectV2, Fork, ForkResult, Pause, Refresh, Resume, Sandbox, SandboxDetail, SetTimeout,
};
use dormouse_lifecycle::{Connected, PauseOptions, Phase};

use super::{sandbox_id, seconds};
use crate::serve::app::Backend;
use crate::serve::body::JsonBody;
use crate::serve::convert;
use crate::serve::failure::{Answer, Failure};

/// `GET /sandboxes/{id}`.
pub(crate) async fn get(State(backend): State<Backend>, Path(id): Path<String>) -> Answer<Json<SandboxDetail>> {
    let info = backend.get(&sandbox_id(&id)?)?;
    let lost =
        || Failure::not_found(format!("sandbox {id} is lost: {}", info.reason.as_deref().unwrap_or("no reason")));
    convert::detail(&info).map(Json).ok_or_else(lost)
}

/// `DELETE /sandboxes/{id}`.
pub(crate) async fn kill(State(backend): State<Backend>, Path(id): Path<String>) -> Answer<StatusCode> {
    backend.kill(&sandbox_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /sandboxes/{id}/pause`. When this answers, the snapshot is durable.
pub(crate) async fn pause(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Pause>,
) -> Answer<StatusCode> {
    with_memory(body.memory)?;
    let cache = convert::cache(body.extra.cache.unwrap_or_default());
    backend.pause(&sandbox_id(&id)?, PauseOptions { cache, measure: body.extra.measure }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /sandboxes/{id}/resume`: as connect, but refuses one that runs.
pub(crate) async fn resume(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Resume>,
) -> Answer<(StatusCode, Json<Sandbox>)> {
    with_memory(body.memory)?;
    let parsed = sandbox_id(&id)?;
    if backend.get(&parsed)?.phase == Phase::Running {
        return Err(Failure::new(StatusCode::CONFLICT, format!("sandbox {id} is running already")));
    }
    let (info, _) = backend.connect(&parsed, seconds(body.timeout)?).await?;
    Ok((StatusCode::CREATED, Json(convert::sandbox(&info))))
}

/// `POST /sandboxes/{id}/connect`.
pub(crate) async fn connect_v1(
    backend: State<Backend>,
    id: Path<String>,
    JsonBody(body): JsonBody<Connect>,
) -> Answer<(StatusCode, Json<Sandbox>)> {
    connect_v2(backend, id, JsonBody(body.into())).await
}

/// `POST /v2/sandboxes/{id}/connect`: 200 if it ran, 201 if it was resumed.
pub(crate) async fn connect_v2(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<ConnectV2>,
) -> Answer<(StatusCode, Json<Sandbox>)> {
    with_memory(body.memory)?;
    let (info, connected) = backend.connect(&sandbox_id(&id)?, seconds(body.timeout)?).await?;
    let status = match connected {
        Connected::WasRunning => StatusCode::OK,
        Connected::Resumed => StatusCode::CREATED,
    };
    Ok((status, Json(convert::sandbox(&info))))
}

/// `POST /sandboxes/{id}/timeout`.
pub(crate) async fn set_timeout(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<SetTimeout>,
) -> Answer<StatusCode> {
    backend.set_timeout(&sandbox_id(&id)?, seconds(body.timeout)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /sandboxes/{id}/refreshes`: extends, never shortens, and does not resume.
pub(crate) async fn refresh(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Refresh>,
) -> Answer<StatusCode> {
    if body.duration > Refresh::MAX_DURATION {
        return Err(Failure::bad_request(format!("a duration is at most {} seconds", Refresh::MAX_DURATION)));
    }
    let parsed = sandbox_id(&id)?;
    if backend.get(&parsed)?.phase != Phase::Running {
        return Err(Failure::new(StatusCode::CONFLICT, format!("sandbox {id} does not run")));
    }
    backend.connect(&parsed, seconds(body.duration)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /sandboxes/{id}/fork`. Each fork has its own outcome.
pub(crate) async fn fork(
    State(backend): State<Backend>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Fork>,
) -> Answer<(StatusCode, Json<Vec<ForkResult>>)> {
    if body.count == 0 || body.count > Fork::MAX_COUNT {
        return Err(Failure::bad_request(format!("a count is 1 to {}", Fork::MAX_COUNT)));
    }
    let count = usize::try_from(body.count).map_err(|e| Failure::bad_request(e.to_string()))?;
    let forks = backend.fork(&sandbox_id(&id)?, count, seconds(body.timeout)?).await?;
    let result = |fork| match fork {
        Ok(info) => ForkResult { sandbox: Some(convert::sandbox(&info)), error: None },
        Err(error) => ForkResult { sandbox: None, error: Some(Failure::from(error).body()) },
    };
    Ok((StatusCode::CREATED, Json(forks.into_iter().map(result).collect())))
}

fn with_memory(memory: Option<bool>) -> Answer<()> {
    match memory {
        Some(false) => Err(Failure::bad_request("this server has no pause or resume without memory yet")),
        _ => Ok(()),
    }
}
