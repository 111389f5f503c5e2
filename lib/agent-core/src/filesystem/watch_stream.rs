//! The messages of WatchDir.

use std::time::Duration;

use connectrpc::ServiceStream;
use dormouse_agent_proto::filesystem::WatchDirResponse;
use dormouse_agent_proto::filesystem::watch_dir_response::{KeepAlive, StartEvent};
use dormouse_agent_proto::proto::filesystem::__buffa::oneof::watch_dir_response::Event;
use futures_util::{StreamExt, stream};

use crate::server::event_stream;
use crate::watch::Watching;

fn message(event: Event) -> WatchDirResponse {
    WatchDirResponse { event: Some(event), ..Default::default() }
}

/// The start, then events, with signs of life between them. The watch ends with the stream.
pub(super) fn watch_stream(
    watching: Watching,
    idle: Duration,
    limit: Option<Duration>,
) -> ServiceStream<WatchDirResponse> {
    let start = stream::iter([Ok(message(StartEvent::default().into()))]);
    let events = watching.events().map(|event| event.map(|event| message(event.into())));
    event_stream(start.chain(events), idle, limit, || message(KeepAlive::default().into()))
}
