//! A process's events as a stream of messages.

use std::time::Duration;

use connectrpc::{ConnectError, ServiceStream};
use futures_util::stream;
use tokio::sync::mpsc::Receiver;

use super::event::Event;
use crate::server::event_stream;

/// Events for the client that started the process and set its time limit: past it, `deadline_exceeded` comes in the place of the end.
pub(super) fn events_of_own<M: From<Event> + Send + 'static>(
    follower: Receiver<Event>,
    idle: Duration,
) -> ServiceStream<M> {
    let messages = stream::unfold(follower, |mut follower| async move {
        let message = match follower.recv().await? {
            Event::End(end) if end.overdue => {
                Err(ConnectError::deadline_exceeded("the time limit has passed, the process was killed"))
            }
            event => Ok(M::from(event)),
        };
        Some((message, follower))
    });
    event_stream(messages, idle, None, || M::from(Event::KeepAlive))
}

/// Events as messages of a stream, with signs of life between them. After `limit` the stream ends with an error; the process goes on.
pub(super) fn events<M: From<Event> + Send + 'static>(
    follower: Receiver<Event>,
    idle: Duration,
    limit: Option<Duration>,
) -> ServiceStream<M> {
    let messages = stream::unfold(follower, |mut follower| async move {
        let event = follower.recv().await?;
        Some((Ok(M::from(event)), follower))
    });
    event_stream(messages, idle, limit, || M::from(Event::KeepAlive))
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
}
