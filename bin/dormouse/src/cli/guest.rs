//! Reaching a sandbox's agent, through the daemon's proxy.

use base64::Engine;
use dormouse_agent_proto::client::{AgentRpc, ConnectError, ErrorCode};
use dormouse_api_types::{ENVD_PORT, SandboxDetail};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};

use super::connection::{self, RequestBody};
use super::daemon::{self, Daemon};
use crate::command_error::{CommandError, CommandResult, Kind};

/// The agent of one sandbox.
pub(super) struct Guest {
    /// Its Connect services.
    pub(super) rpc: AgentRpc,
    daemon: Daemon,
    headers: Vec<(&'static str, String)>,
}

impl Guest {
    /// Prepares to talk to the agent of sandbox `id`, as `user` or as its default user.
    pub(super) async fn of(daemon: &Daemon, id: &str, user: Option<&str>) -> CommandResult<Self> {
        let detail: SandboxDetail = daemon.get(&format!("/sandboxes/{}", daemon::segment(id))).await?;
        Self::with_token(daemon, id, detail.envd_access_token.as_deref(), user)
    }

    /// As [`of`](Self::of), for a sandbox whose token is known.
    pub(super) fn with_token(
        daemon: &Daemon,
        id: &str,
        token: Option<&str>,
        user: Option<&str>,
    ) -> CommandResult<Self> {
        let mut headers = vec![("e2b-sandbox-id", id.to_owned()), ("e2b-sandbox-port", ENVD_PORT.to_string())];
        headers.extend(token.map(|token| ("x-access-token", token.to_owned())));
        headers.extend(user.map(|user| {
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:"));
            ("authorization", format!("Basic {basic}"))
        }));
        let base = format!("http://{}", daemon.addr())
            .parse()
            .map_err(|e: http::uri::InvalidUri| CommandError::internal(e))?;
        let pairs = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let rpc = AgentRpc::new(base, pairs).map_err(CommandError::internal)?;
        Ok(Self { rpc, daemon: daemon.clone(), headers })
    }

    /// Sends a plain HTTP request to the agent. Answers that are no success are errors.
    pub(super) async fn http(
        &self,
        method: Method,
        path: &str,
        length: Option<u64>,
        body: RequestBody,
    ) -> CommandResult<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, self.daemon.addr().to_string());
        request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let request = request.body(body).map_err(CommandError::internal)?;
        let answer = connection::send(self.daemon.addr(), request).await.map_err(|e| daemon::connection_failed(&e))?;
        daemon::succeeded(answer).await
    }
}

/// What a failed call means for the user.
pub(super) fn call_failed(error: &ConnectError) -> CommandError {
    let message = error.message.clone().unwrap_or_else(|| error.code.as_str().to_owned());
    match error.code {
        ErrorCode::Unavailable | ErrorCode::Unknown => {
            let message = format!("the sandbox cannot be reached: {message}");
            CommandError::new(Kind::User, anyhow::Error::msg(message)).hint("`dormouse ls` tells whether it runs")
        }
        ErrorCode::Internal => CommandError::new(Kind::Internal, anyhow::Error::msg(message)),
        _ => CommandError::user(message),
    }
}
