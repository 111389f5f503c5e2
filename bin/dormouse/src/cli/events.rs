//! Answers that come line by line.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::daemon;
use crate::command_error::{CommandError, CommandResult};

/// No line is longer.
const MAX_LINE: usize = 16 << 20;

/// The events of something long. Dropping them tells the daemon that nobody waits any more.
pub(super) struct Events {
    what: &'static str,
    body: Incoming,
    pending: BytesMut,
}

impl Events {
    /// The events of `what`, which is named when they end too early.
    pub(super) fn new(what: &'static str, body: Incoming) -> Self {
        Self { what, body, pending: BytesMut::new() }
    }

    /// Waits for the next one. There always is one until the last was seen.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> CommandResult<T> {
        loop {
            if let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
                let line = self.pending.split_to(end + 1);
                return serde_json::from_slice(&line).map_err(CommandError::internal);
            }
            let frame = match self.body.frame().await {
                Some(Ok(frame)) if self.pending.len() <= MAX_LINE => frame,
                _ => return Err(self.cut()),
            };
            self.pending.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    fn cut(&self) -> CommandError {
        CommandError::internal(anyhow::Error::msg(format!("the {} was cut off", self.what)))
            .hint("see the daemon's log")
    }
}

/// An error that was told as an event.
pub(super) fn failed(error: dormouse_api_types::ApiError) -> CommandError {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    daemon::refused(status, error.message)
}
