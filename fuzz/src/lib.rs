//! What the targets that send requests to the agent share.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dormouse_agent_core::{Agent, testing};
use http::{Request, StatusCode};
use tokio::runtime::{Builder, Runtime};

/// Each way to encode what an RPC is asked, one of them twice.
pub const KINDS: [&str; 8] = [
    "application/json",
    "application/proto",
    "application/connect+json",
    "application/connect+proto",
    "application/grpc-web+proto",
    "application/grpc-web+json",
    "application/grpc",
    "application/connect+json",
];
/// Far longer than any request of this size takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The one thread on which agents and requests run.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

/// An agent that is asked.
pub struct Asked(testing::Requests);

impl Asked {
    /// Asks `agent`.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self(testing::Requests::new(agent))
    }

    /// Sends `request`, whose body comes in pieces of `size` bytes. It must be answered.
    pub fn ask(&self, request: Request<Vec<u8>>, size: u8) -> StatusCode {
        self.ask_for(request, size, PATIENCE).expect("an answer")
    }

    /// The same for at most `patience`; then the client leaves.
    pub fn ask_for(&self, request: Request<Vec<u8>>, size: u8, patience: Duration) -> Option<StatusCode> {
        RUNTIME.block_on(self.0.ask(request, usize::from(size), patience))
    }
}

/// Names how long a call may take at most, in each protocol: what ends those that would go on for as long as their client wants.
pub fn end_after(request: &mut Request<Vec<u8>>, millis: u32) {
    let headers = request.headers_mut();
    headers.insert("connect-timeout-ms", millis.into());
    headers.insert("grpc-timeout", format!("{millis}m").parse().unwrap());
}
