//! The service `process.Process`.

use std::sync::Arc;
use std::time::Duration;

use connectrpc::{ConnectError, InboundStream, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use dormouse_agent_proto::process::{
    CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest, ListResponse, Process,
    ProcessInfo, ProcessInput, SendInputRequest, SendInputResponse, SendSignalRequest, SendSignalResponse, Signal,
    StartRequest, StartResponse, StreamInputRequest, StreamInputResponse, UpdateRequest, UpdateResponse,
};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_input::Input;
use dormouse_agent_proto::proto::process::__buffa::oneof::stream_input_request::Event as InputEvent;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::command::CommandError;
use super::event::Event;
use super::registry::SelectError;
use super::running::{InputError, Running};
use super::start::{StartError, start, terminal_size};
use crate::agent::Agent;
use crate::identity::{IdentityError, User, basic_user};

/// Pause after which a stream without events shows a sign of life, unless the client asks for another.
const KEEPALIVE: Duration = Duration::from_secs(90);
const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

pub(crate) struct ProcessRpc {
    agent: Arc<Agent>,
}

impl ProcessRpc {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent }
    }

    fn user(&self, headers: &HeaderMap) -> Result<User, ConnectError> {
        let name = basic_user(headers).unwrap_or_else(|| self.agent.settings.default_user());
        Ok(self.agent.users.lookup(&name)?)
    }
}

fn keepalive(headers: &HeaderMap) -> Duration {
    let asked = headers.get(KEEPALIVE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    asked.filter(|seconds| *seconds > 0).map_or(KEEPALIVE, Duration::from_secs)
}

/// Events as messages of a stream, with signs of life between them. After `limit` the stream ends with an error; the process goes on.
fn events<M: From<Event> + Send + 'static>(
    follower: Receiver<Event>,
    idle: Duration,
    limit: Option<Duration>,
) -> ServiceStream<M> {
    let late = limit.and_then(|limit| Instant::now().checked_add(limit));
    Box::pin(stream::unfold(Some(follower), move |follower| async move {
        let mut follower = follower?;
        let over = async {
            match late {
                Some(late) => tokio::time::sleep_until(late).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = over => Some((Err(ConnectError::deadline_exceeded("the time limit of the call has passed")), None)),
            event = tokio::time::timeout(idle, follower.recv()) => {
                let event = event.unwrap_or(Some(Event::KeepAlive))?;
                Some((Ok(M::from(event)), Some(follower)))
            }
        }
    }))
}

async fn feed(process: &Running, input: Option<&ProcessInput>) -> Result<(), ConnectError> {
    match input.and_then(|input| input.input.as_ref()) {
        None => Err(ConnectError::invalid_argument("input is empty")),
        Some(Input::Stdin(bytes)) => Ok(process.write_stdin(bytes).await?),
        Some(Input::Pty(bytes)) => Ok(process.write_pty(bytes).await?),
    }
}

#[expect(refining_impl_trait, reason = "concrete response types are simpler and nobody names the trait's")]
impl Process for ProcessRpc {
    async fn list(&self, _: RequestContext, _: ServiceRequest<'_, ListRequest>) -> ServiceResult<ListResponse> {
        let processes = self
            .agent
            .processes
            .running()
            .iter()
            .map(|process| ProcessInfo {
                config: process.config.clone().into(),
                pid: process.pid,
                tag: process.tag.clone(),
                ..Default::default()
            })
            .collect();
        Response::ok(ListResponse { processes, ..Default::default() })
    }

    async fn start(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, StartRequest>,
    ) -> ServiceResult<ServiceStream<StartResponse>> {
        let user = self.user(context.headers())?;
        let follower = start(&self.agent, request.to_owned_message(), &user, context.time_remaining()).await?;
        // The limit is the process's: it is killed then, and its end is still told.
        Response::ok(events(follower, keepalive(context.headers()), None))
    }

    async fn connect(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ConnectRequest>,
    ) -> ServiceResult<ServiceStream<ConnectResponse>> {
        let request = request.to_owned_message();
        let process = self.agent.processes.select(request.process.as_option(), true)?;
        let follower = process.output.follow(process.pid);
        Response::ok(events(follower, keepalive(context.headers()), context.time_remaining()))
    }

    async fn update(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, UpdateRequest>,
    ) -> ServiceResult<UpdateResponse> {
        let request = request.to_owned_message();
        let process = self.agent.processes.select(request.process.as_option(), false)?;
        if let Some(pty) = request.pty.as_option() {
            process.resize(terminal_size(pty))?;
        }
        Response::ok(UpdateResponse::default())
    }

    async fn stream_input(
        &self,
        _: RequestContext,
        mut requests: InboundStream<StreamInputRequest>,
    ) -> ServiceResult<StreamInputResponse> {
        let mut process = None;
        while let Some(message) = requests.next().await {
            match (message?.to_owned_message().event, &process) {
                (Some(InputEvent::Start(start)), None) => {
                    process = Some(self.agent.processes.select(start.process.as_option(), false)?);
                }
                (Some(InputEvent::Data(data)), Some(process)) => feed(process, data.input.as_option()).await?,
                (Some(InputEvent::Keepalive(_)), _) => {}
                (Some(InputEvent::Start(_)), Some(_)) => {
                    return Err(ConnectError::invalid_argument("the process is named already"));
                }
                (Some(InputEvent::Data(_)), None) => {
                    return Err(ConnectError::invalid_argument("name the process first, with start"));
                }
                (None, _) => return Err(ConnectError::invalid_argument("event is empty")),
            }
        }
        Response::ok(StreamInputResponse::default())
    }

    async fn send_input(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, SendInputRequest>,
    ) -> ServiceResult<SendInputResponse> {
        let request = request.to_owned_message();
        let process = self.agent.processes.select(request.process.as_option(), false)?;
        feed(&process, request.input.as_option()).await?;
        Response::ok(SendInputResponse::default())
    }

    async fn send_signal(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, SendSignalRequest>,
    ) -> ServiceResult<SendSignalResponse> {
        let request = request.to_owned_message();
        let signal = match request.signal.as_known() {
            Some(Signal::SIGNAL_SIGKILL) => rustix::process::Signal::KILL,
            Some(Signal::SIGNAL_SIGTERM) => rustix::process::Signal::TERM,
            _ => return Err(ConnectError::invalid_argument("signal is neither SIGTERM nor SIGKILL")),
        };
        let process = self.agent.processes.select(request.process.as_option(), false)?;
        process.signal(signal).map_err(|error| ConnectError::internal(format!("cannot signal: {error}")))?;
        Response::ok(SendSignalResponse::default())
    }

    async fn close_stdin(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, CloseStdinRequest>,
    ) -> ServiceResult<CloseStdinResponse> {
        let request = request.to_owned_message();
        self.agent.processes.select(request.process.as_option(), false)?.close_stdin()?;
        Response::ok(CloseStdinResponse::default())
    }
}

impl From<SelectError> for ConnectError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::NoPid(_) | SelectError::NoTag(_) => Self::not_found(error.to_string()),
            SelectError::Empty => Self::invalid_argument(error.to_string()),
        }
    }
}

impl From<InputError> for ConnectError {
    fn from(error: InputError) -> Self {
        Self::failed_precondition(error.to_string())
    }
}

impl From<IdentityError> for ConnectError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownUser { .. } => Self::unauthenticated(error.to_string()),
            IdentityError::Unreadable { .. } => Self::internal(error.to_string()),
        }
    }
}

impl From<StartError> for ConnectError {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Command(CommandError::Cgroup(_)) | StartError::Streams(_) => Self::internal(message),
            StartError::Command(_) => Self::invalid_argument(message),
            StartError::Spawn { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Self::not_found(message),
                std::io::ErrorKind::PermissionDenied => Self::permission_denied(message),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory => Self::resource_exhausted(message),
                _ => Self::invalid_argument(message),
            },
            StartError::Snapshot => Self::unavailable(message),
        }
    }
}
