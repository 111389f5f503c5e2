//! Streams of events that show signs of life.

use std::time::Duration;

use connectrpc::{ConnectError, ServiceStream};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use tokio::time::Instant;

/// Pause after which a stream without events shows a sign of life, unless the client asks for another.
const KEEPALIVE: Duration = Duration::from_secs(90);
const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

/// The pause that the client asks for in whole seconds, unless it asks for none.
pub(crate) fn keepalive(headers: &HeaderMap) -> Duration {
    let asked = headers.get(KEEPALIVE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    asked.filter(|seconds| *seconds > 0).map_or(KEEPALIVE, Duration::from_secs)
}

/// `events`, and `sign` after each pause of `idle` without one. After `limit` the stream ends with an error; what it tells of goes on.
pub(crate) fn event_stream<M: Send + 'static>(
    events: impl Stream<Item = Result<M, ConnectError>> + Send + 'static,
    idle: Duration,
    limit: Option<Duration>,
    sign: fn() -> M,
) -> ServiceStream<M> {
    let late = limit.and_then(|limit| Instant::now().checked_add(limit));
    Box::pin(stream::unfold(Some(Box::pin(events)), move |events| async move {
        let mut events = events?;
        let over = async {
            match late {
                Some(late) => tokio::time::sleep_until(late).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = over => Some((Err(ConnectError::deadline_exceeded("the time limit of the call has passed")), None)),
            event = tokio::time::timeout(idle, events.next()) => {
                let event = event.unwrap_or_else(|_| Some(Ok(sign())))?;
                let rest = event.is_ok().then_some(events);
                Some((event, rest))
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_the_clients_in_whole_seconds_or_90() {
        let asked = |value: &str| {
            keepalive(
                &[(http::HeaderName::from_static(KEEPALIVE_HEADER), value.parse().unwrap())].into_iter().collect(),
            )
        };
        assert_eq!(asked("50"), Duration::from_secs(50));
        for nonsense in ["0", "-1", "1.5", "", "99999999999999999999999"] {
            assert_eq!(asked(nonsense), Duration::from_secs(90), "{nonsense}");
        }
        assert_eq!(keepalive(&HeaderMap::new()), Duration::from_secs(90));
    }

    #[tokio::test]
    async fn an_error_is_the_last_that_is_told() {
        let events = stream::iter([Ok(1), Err(ConnectError::data_loss("gap")), Ok(2)]);
        let told: Vec<_> = event_stream(events, KEEPALIVE, None, || 0).collect().await;
        assert_eq!((told.len(), told[0].as_ref().ok()), (2, Some(&1)));
        assert!(told[1].is_err());
    }
}
