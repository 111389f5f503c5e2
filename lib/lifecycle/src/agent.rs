//! Talking to the agent in the guest: health, init, prepare, abort. The answers are hostile input.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes as Buf;
use dormouse_agent_proto::control::{CachePolicy, InitRequest, PrepareReport, PrepareRequest};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{Error, Limits, Result, Secret};

/// No answer of an honest agent is larger.
const MAX_ANSWER: usize = 1 << 20;
/// Host bytes that reseed a restored guest's random number generator.
const ENTROPY: usize = 64;
/// First wait for an answer of `/health`. The user-mode network accepts connections before the guest listens and
/// then never answers, so a try must be short; it grows because an emulated guest on a busy host is slow.
const FIRST_TRY: Duration = Duration::from_millis(250);
const LONGEST_TRY: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// One agent, as the host reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    addr: SocketAddr,
    token: Option<Secret>,
}

/// What came of asking a guest to get ready for a snapshot.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// It is ready.
    Now(PrepareReport),
    /// It is ready, or getting ready, for a snapshot that never came, and says so with this error.
    Before(Error),
}

/// What a restored guest is told before its processes go on.
#[derive(Debug)]
pub(crate) struct NewLife<'a> {
    pub(crate) token: &'a Secret,
    pub(crate) env: &'a std::collections::BTreeMap<String, String>,
    pub(crate) hostname: &'a str,
    pub(crate) generation: u64,
    pub(crate) now: jiff::Timestamp,
}

impl Agent {
    /// An agent that wants `token`, or none while it has not been given one.
    pub(crate) fn new(addr: SocketAddr, token: Option<Secret>) -> Self {
        Self { addr, token }
    }

    /// Waits until the agent answers.
    pub(crate) async fn wait_ready(&self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        let mut patience = FIRST_TRY;
        loop {
            let answer = timeout(patience, self.send(Method::GET, "/health", Buf::new(), false)).await;
            if matches!(answer, Ok(Ok((status, _))) if status.is_success()) {
                return Ok(());
            }
            if Instant::now() >= end {
                let reason = format!("no answer on {} within {} s", self.addr, within.as_secs());
                return Err(Error::Agent { step: "start", reason });
            }
            if answer.is_err() {
                patience = (patience * 2).min(LONGEST_TRY);
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    /// Tells a started or restored guest who it is now. Its user processes are thawed by this.
    pub(crate) async fn init(&self, life: &NewLife<'_>, within: Duration) -> Result<()> {
        let mut entropy = [0u8; ENTROPY];
        getrandom::fill(&mut entropy)
            .map_err(|e| Error::Agent { step: "init", reason: format!("no random bytes on the host: {e}") })?;
        let request = InitRequest {
            access_token: Some(life.token.expose().to_owned()),
            timestamp: Some(life.now.to_string()),
            env_vars: Some(life.env.clone().into_iter().collect()),
            hostname: Some(life.hostname.to_owned()),
            entropy: Some(base64::engine::general_purpose::STANDARD.encode(entropy)),
            generation: Some(life.generation),
            ..InitRequest::default()
        };
        self.post("init", "/init", &request, within).await
    }

    /// Asks the guest to get ready for a snapshot, and for its report.
    pub(crate) async fn prepare(&self, cache: CachePolicy, limits: &Limits) -> Result<Prepared> {
        let budget_ms = u32::try_from(limits.prepare.as_millis()).unwrap_or(u32::MAX);
        let request = PrepareRequest {
            cache,
            trim: true,
            freeze: true,
            budget_ms: budget_ms.into(),
            ..PrepareRequest::default()
        };
        let within = limits.prepare + limits.agent_grace;
        let (status, body) = self.ask("prepare", "/snapshot/prepare", &request, true, within).await?;
        if status == StatusCode::CONFLICT {
            return Ok(Prepared::Before(refused("prepare", status, &body)));
        }
        if !status.is_success() {
            return Err(refused("prepare", status, &body));
        }
        serde_json::from_slice(&body)
            .map(Prepared::Now)
            .map_err(|e| Error::Agent { step: "prepare", reason: format!("its report cannot be read: {e}") })
    }

    /// Undoes [`prepare`](Self::prepare) when no snapshot follows.
    pub(crate) async fn abort(&self, limits: &Limits) -> Result<()> {
        self.post("abort", "/snapshot/abort", &serde_json::json!({}), limits.agent_grace).await
    }

    async fn post<T: serde::Serialize>(
        &self,
        step: &'static str,
        path: &str,
        body: &T,
        within: Duration,
    ) -> Result<()> {
        let (status, body) = self.ask(step, path, body, false, within).await?;
        if status.is_success() { Ok(()) } else { Err(refused(step, status, &body)) }
    }

    async fn ask<T: serde::Serialize>(
        &self,
        step: &'static str,
        path: &str,
        body: &T,
        want_json: bool,
        within: Duration,
    ) -> Result<(StatusCode, Buf)> {
        let fail = |reason: String| Error::Agent { step, reason };
        let body = serde_json::to_vec(body).map_err(|e| fail(e.to_string()))?;
        let answer = timeout_at(Instant::now() + within, self.send(Method::POST, path, body.into(), want_json)).await;
        match answer {
            Err(_) => Err(fail(format!("no answer within {} s", within.as_secs()))),
            Ok(answer) => answer.map_err(fail),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Buf,
        want_json: bool,
    ) -> std::result::Result<(StatusCode, Buf), String> {
        let stream =
            TcpStream::connect(self.addr).await.map_err(|e| format!("cannot connect to {}: {e}", self.addr))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let connection = AbortOnDrop(tokio::spawn(connection));
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.addr.to_string());
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if want_json {
            request = request.header(header::ACCEPT, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header("X-Access-Token", token.expose());
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?;
        drop(connection);
        Ok((status, body.to_bytes()))
    }
}

/// A refusal with the agent's reason, without what could confuse a terminal.
fn refused(step: &'static str, status: StatusCode, body: &Buf) -> Error {
    let text: String = String::from_utf8_lossy(body).chars().take(300).filter(|c| !c.is_control()).collect();
    Error::Agent { step, reason: format!("it answered {status}: {text}") }
}

/// Ends a connection's task with the request it served, also when the request's future is dropped.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
