//! The route.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use tokio::sync::Mutex;

use super::e2b::E2bMetrics;
use super::machine::Machine;
use super::text::Text;
use super::{agent, machine};
use crate::agent::Agent;
use crate::offload::Offload;
use crate::proc::CpuTimes;
use crate::server::{HttpError, weighed};

/// Version 0.0.4 of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Reading takes a millisecond, unless somebody in the guest put something else where the kernel's files are.
const LIMIT: Duration = Duration::from_secs(2);

/// What is remembered from one question to the next.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    calls: Offload,
    /// CPU times at the last question for E2B's figures, which tell the use since then.
    asked: Mutex<CpuTimes>,
}

/// `GET /metrics`
pub(crate) async fn metrics(State(agent): State<Arc<Agent>>, headers: HeaderMap) -> Result<Response, HttpError> {
    let failed = |error: std::io::Error| {
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the kernel's figures cannot be read: {error}"))
    };
    // One reads at a time.
    let mut asked = agent.metrics.asked.lock().await;
    let reading = agent.metrics.calls.call("metrics", || Ok(Machine::read()));
    let reading = tokio::time::timeout(LIMIT, reading).await;
    let machine = reading.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(failed)?;
    let common = [(CACHE_CONTROL, "no-store"), (VARY, "accept")];
    if !prefers_text(&headers) {
        let figures = E2bMetrics::new(&machine, &asked);
        *asked = machine.cpu;
        return Ok((common, Json(figures)).into_response());
    }
    drop(asked);
    let mut text = Text::default();
    machine::write(&mut text, &machine);
    agent::write(&mut text, &agent);
    Ok((common, [(CONTENT_TYPE, TEXT)], text.into_string()).into_response())
}

/// True when plain text is named and weighs more than JSON. Whoever takes anything gets JSON.
fn prefers_text(headers: &HeaderMap) -> bool {
    let weight = |wanted: [&str; 2]| {
        let weights = weighed(headers, ACCEPT).filter(|(name, _)| wanted.contains(&name.as_str()));
        weights.map(|(_, weight)| weight).fold(0.0, f32::max)
    };
    weight(["text/plain", "text/*"]) > weight(["application/json", "application/*"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_those_that_ask_for_it() {
        for (accept, text) in [
            ("text/plain", true),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
            ("application/json;q=0.5, text/plain", true),
            ("application/json, text/plain, */*", false),
            ("application/json", false),
            ("text/plain;q=0", false),
            ("text/html,*/*", false),
            ("", false),
        ] {
            let headers = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
            assert_eq!(prefers_text(&headers), text, "{accept}");
        }
        assert!(!prefers_text(&HeaderMap::new()));
    }
}
