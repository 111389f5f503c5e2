//! The service `process.Process`.

use std::sync::Arc;

use connectrpc::{ConnectError, InboundStream, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use dormouse_agent_proto::process::{
    CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest, ListResponse, Process,
    ProcessInfo, ProcessInput, SendInputRequest, SendInputResponse, SendSignalRequest, SendSignalResponse, Signal,
    StartRequest, StartResponse, StreamInputRequest, StreamInputResponse, UpdateRequest, UpdateResponse,
};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_input::Input;
use dormouse_agent_proto::proto::process::__buffa::oneof::stream_input_request::Event as InputEvent;
use futures_util::StreamExt;
use http::HeaderMap;

use super::running::Running;
use super::start::{start, terminal_size};
use super::stream::{events, events_of_own};
use crate::agent::Agent;
use crate::identity::{User, basic_user};
use crate::server::keepalive;

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
        Response::ok(events_of_own(follower, keepalive(context.headers())))
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
