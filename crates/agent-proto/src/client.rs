//! Typed client of the agent's Connect services, for the host: Connect protocol over plain HTTP/1.1.

pub use connectrpc::client::CallOptions;
use connectrpc::client::{ClientConfig, HttpClient};
pub use connectrpc::{ConnectError, ErrorCode};
use http::Uri;

use crate::proto::filesystem::FilesystemClient;
use crate::proto::process::ProcessClient;

/// Both services of one agent, reached at one base address.
///
/// Cheap to clone; clones share a connection pool. Calls have no deadline of their own: give one with [`CallOptions`].
/// On `Start`, the header `connect-timeout-ms` is the process's time limit: the agent kills it then, and the stream ends, after its
/// output, with `deadline_exceeded`. [`CallOptions::with_timeout`] sends that header too, but gives up the stream at the same moment.
///
/// ```no_run
/// use dormouse_agent_proto::client::AgentRpc;
/// use dormouse_agent_proto::process::{ProcessConfig, StartRequest};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let agent = AgentRpc::new("http://127.0.0.1:49983".parse()?, [("x-access-token", "tok_…")])?;
/// let process = ProcessConfig { cmd: "/bin/echo".into(), args: vec!["hi".into()], ..Default::default() };
/// let mut events = agent.process.start(StartRequest { process: process.into(), ..Default::default() }).await?;
/// while let Some(message) = events.message().await? {
///     println!("{:?}", message.to_owned_message().event);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgentRpc {
    /// `process.Process`.
    pub process: ProcessClient<HttpClient>,
    /// `filesystem.Filesystem`.
    pub filesystem: FilesystemClient<HttpClient>,
}

/// A header that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("header {name:?} has a name or value that HTTP does not allow")]
pub struct InvalidHeader {
    /// Name as given. The value may be secret and is not kept.
    pub name: String,
}

impl AgentRpc {
    /// A client of the agent at `base` (an `http://` address) that sends `headers` with each call. Does not connect yet.
    pub fn new<'a>(base: Uri, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, InvalidHeader> {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            let invalid = |_: http::Error| InvalidHeader { name: name.to_owned() };
            let key = http::HeaderName::try_from(name).map_err(|error| invalid(error.into()))?;
            let value = http::HeaderValue::try_from(value).map_err(|error| invalid(error.into()))?;
            map.insert(key, value);
        }
        let transport = HttpClient::plaintext();
        let config = ClientConfig::new(base).with_default_headers(map);
        Ok(Self {
            process: ProcessClient::new(transport.clone(), config.clone()),
            filesystem: FilesystemClient::new(transport, config),
        })
    }
}
