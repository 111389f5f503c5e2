//! Talking to the daemon.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use dormouse_api_types::ApiError;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{self, ConnectionError, RequestBody};
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::state_dir::{ApiKey, StateDir};

/// The largest answer that is taken; the RAM map of a big guest comes near a tenth of it.
const MAX_ANSWER: usize = 512 << 20;

/// The daemon of a state folder.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    addr: SocketAddr,
    key: ApiKey,
}

impl Daemon {
    /// Finds the daemon by what it left in its state folder. Does not connect yet.
    pub(super) fn find(state: &StateDir) -> CommandResult<Self> {
        let at = state.root().display();
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => CommandError::new(Kind::User, error)
                .hint(format!("use the daemon's own user, or another state folder than {at}")),
            _ => unreachable(format!("no daemon runs with state folder {at}")),
        };
        let info = state.daemon().map_err(missing)?;
        Ok(Self { addr: info.addr, key: state.key().map_err(missing)? })
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> CommandResult<T> {
        parse(&self.bytes(path).await?)
    }

    /// Asks for something that is not JSON.
    pub(super) async fn bytes(&self, path: &str) -> CommandResult<Bytes> {
        let (_, body) = self.whole(Method::GET, path, Bytes::new()).await?;
        Ok(body)
    }

    /// Asks for something to be done that has an answer, and for the answer's status.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> CommandResult<(StatusCode, T)> {
        let (status, answer) = self.whole(Method::POST, path, json(body)?).await?;
        Ok((status, parse(&answer)?))
    }

    /// Asks for something to be done.
    pub(super) async fn order(&self, path: &str, body: &impl Serialize) -> CommandResult<()> {
        self.whole(Method::POST, path, json(body)?).await.map(drop)
    }

    /// Asks for something to be removed.
    pub(super) async fn delete(&self, path: &str) -> CommandResult<()> {
        self.whole(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    /// Asks for something that takes long and tells how it goes.
    pub(super) async fn stream(&self, path: &str, body: &impl Serialize) -> CommandResult<Incoming> {
        let answer = self.send(self.request(Method::POST, path, json(body)?)?).await?;
        succeeded(answer).await.map(Response::into_body)
    }

    async fn whole(&self, method: Method, path: &str, body: Bytes) -> CommandResult<(StatusCode, Bytes)> {
        let answer = succeeded(self.send(self.request(method, path, body)?).await?).await?;
        Ok((answer.status(), collect(answer).await?))
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> CommandResult<Request<RequestBody>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.addr.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-api-key", self.key.expose())
            .body(connection::full(body))
            .map_err(CommandError::internal)
    }

    async fn send(&self, request: Request<RequestBody>) -> CommandResult<Response<Incoming>> {
        connection::send(self.addr, request).await.map_err(|e| connection_failed(&e))
    }
}

/// A part of a path that came from the user.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Reads an answer to its end.
pub(super) async fn collect(answer: Response<Incoming>) -> CommandResult<Bytes> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    body.map(|b| b.to_bytes()).map_err(|e| unreachable(format!("the answer broke off: {e}")))
}

/// Turns answers that are no success into errors.
pub(super) async fn succeeded(answer: Response<Incoming>) -> CommandResult<Response<Incoming>> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = collect(answer).await?;
    let message = match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => error.message,
        Err(_) => format!("the daemon answered {status}"),
    };
    Err(refused(status, message))
}

/// An error that the daemon told.
pub(super) fn refused(status: StatusCode, message: String) -> CommandError {
    match status {
        StatusCode::UNAUTHORIZED => {
            CommandError::user(message).hint("the daemon was started with another state folder")
        }
        StatusCode::SERVICE_UNAVAILABLE => unreachable(message),
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::BAD_GATEWAY => CommandError::user(message),
        status if status.is_server_error() => CommandError::new(Kind::Internal, anyhow::Error::msg(message)),
        _ => CommandError::user(message),
    }
}

/// What to make of a request without an answer.
pub(super) fn connection_failed(error: &ConnectionError) -> CommandError {
    unreachable(error.to_string())
}

fn unreachable(message: String) -> CommandError {
    CommandError::new(Kind::Unreachable, anyhow::Error::msg(message)).hint("start it with `dormouse serve`")
}

fn json(body: &impl Serialize) -> CommandResult<Bytes> {
    serde_json::to_vec(body).map(Bytes::from).map_err(CommandError::internal)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> CommandResult<T> {
    let wrong = |e| CommandError::internal(e).hint("is the daemon of another version?");
    serde_json::from_slice(body).map_err(wrong)
}
