//! A process's events as a stream of messages.

use std::time::Duration;

use connectrpc::{ConnectError, ServiceStream};
use futures_util::stream;
use http::HeaderMap;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::event::Event;

/// Pause after which a stream without events shows a sign of life, unless the client asks for another.
const KEEPALIVE: Duration = Duration::from_secs(90);
const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

/// The pause that the client asks for in whole seconds, unless it asks for none.
pub(super) fn keepalive(headers: &HeaderMap) -> Duration {
    let asked = headers.get(KEEPALIVE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    asked.filter(|seconds| *seconds > 0).map_or(KEEPALIVE, Duration::from_secs)
}

/// Events as messages of a stream, with signs of life between them. After `limit` the stream ends with an error; the process goes on.
pub(super) fn events<M: From<Event> + Send + 'static>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::event::Source;
    use dormouse_agent_proto::process::StartResponse;
    use dormouse_agent_proto::process::process_event::Event as Told;
    use futures_util::StreamExt;
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    /// What `events` tells, as one letter each: start, data, keepalive, late.
    async fn told(follower: Receiver<Event>, limit: Option<u64>) -> String {
        let stream: ServiceStream<StartResponse> =
            events(follower, Duration::from_secs(10), limit.map(Duration::from_secs));
        let letter = |message: Result<StartResponse, ConnectError>| match message.map(|m| m.event.into_option()) {
            Ok(Some(event)) => match event.event {
                Some(Told::Start(_)) => 's',
                Some(Told::Data(_)) => 'd',
                Some(Told::Keepalive(_)) => 'k',
                _ => '?',
            },
            Ok(None) => '?',
            Err(_) => 'l',
        };
        stream.map(letter).collect().await
    }

    fn data() -> Event {
        Event::Data(Source::Stdout, "x".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_comes_only_after_the_whole_pause_without_data() {
        let (sender, follower) = mpsc::channel(8);
        tokio::spawn(async move {
            sender.send(Event::Start(7)).await.unwrap();
            for pause in [6, 6, 25, 9] {
                sleep(Duration::from_secs(pause)).await;
                sender.send(data()).await.unwrap();
            }
        });
        assert_eq!(told(follower, None).await, "sddkkdd");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_with_a_limit_ends_late_even_when_data_keeps_coming() {
        let (sender, follower) = mpsc::channel(8);
        tokio::spawn(async move {
            while sender.send(data()).await.is_ok() {
                sleep(Duration::from_secs(4)).await;
            }
        });
        assert_eq!(told(follower, Some(9)).await, "dddl");
    }

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
}
