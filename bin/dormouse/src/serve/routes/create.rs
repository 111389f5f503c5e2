//! `POST /sandboxes` and `POST /v2/sandboxes`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dormouse_api_types::{NewSandbox, NewSandboxV2, Sandbox};
use dormouse_lifecycle as host;

use super::{seconds, template_id};
use crate::serve::app::Backend;
use crate::serve::body::JsonBody;
use crate::serve::convert;
use crate::serve::failure::{Answer, Failure};

/// The body of SDKs up to 2.50.
pub(crate) async fn v1(
    State(backend): State<Backend>,
    JsonBody(body): JsonBody<NewSandbox>,
) -> Answer<(StatusCode, Json<Sandbox>)> {
    create(&backend, body.into()).await
}

/// The body of newer SDKs.
pub(crate) async fn v2(
    State(backend): State<Backend>,
    JsonBody(body): JsonBody<NewSandboxV2>,
) -> Answer<(StatusCode, Json<Sandbox>)> {
    create(&backend, body).await
}

/// A client that goes away drops this future, and with it what was started.
async fn create(backend: &Backend, body: NewSandboxV2) -> Answer<(StatusCode, Json<Sandbox>)> {
    refuse_what_is_missing(&body)?;
    let new = host::NewSandbox {
        template: template_id::parse(&body.template_id)?,
        timeout: seconds(body.timeout)?,
        on_timeout: if body.auto_pause { host::OnTimeout::Pause } else { host::OnTimeout::Kill },
        metadata: body.metadata,
        env: body.env_vars,
    };
    let info = backend.create(new).await?;
    Ok((StatusCode::CREATED, Json(convert::sandbox(&info))))
}

/// A sandbox without what its creator relies on is worse than none.
fn refuse_what_is_missing(body: &NewSandboxV2) -> Answer<()> {
    let missing = [
        (!body.volume_mounts.is_empty(), "volumes"),
        (body.auto_resume.is_some_and(|r| r.enabled), "automatic resume"),
        (body.auto_pause_memory == Some(false), "pause without memory"),
    ];
    match missing.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Failure::bad_request(format!("this server has no {what} yet"))),
        None => Ok(()),
    }
}
