//! Handing a process's events to everybody who follows it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::event::{End, Event};

/// Events that wait for one follower. With chunks of at most 32 KiB this bounds what a slow one costs; when its queue is full the
/// process's output is not read on, so the process itself is slowed down.
const QUEUE: usize = 8;

#[derive(Debug, Default)]
struct State {
    followers: Vec<Sender<Event>>,
    end: Option<End>,
}

/// The followers of one process. Without any, output is dropped.
#[derive(Debug, Default)]
pub(super) struct Output(Mutex<State>);

impl Output {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows from now on: `start` first, then what happens, `end` last. After the end there is only `start` and `end`.
    pub(super) fn follow(&self, pid: u32) -> Receiver<Event> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.with(|state| {
            // A new queue has room for both.
            let _ = sender.try_send(Event::Start(pid));
            match &state.end {
                Some(end) => {
                    let _ = sender.try_send(Event::End(end.clone()));
                }
                None => state.followers.push(sender),
            }
        });
        receiver
    }

    /// Hands `event` to all, waiting for the slowest. Those who left are forgotten.
    pub(super) async fn publish(&self, event: Event) {
        let followers = self.with(|state| state.followers.clone());
        for follower in followers {
            let _ = follower.send(event.clone()).await;
        }
        self.with(|state| state.followers.retain(|follower| !follower.is_closed()));
    }

    /// Ends it for all: nothing follows.
    pub(super) async fn end(&self, end: End) {
        let followers = self.with(|state| {
            state.end = Some(end.clone());
            std::mem::take(&mut state.followers)
        });
        for follower in followers {
            let _ = follower.send(Event::End(end.clone())).await;
        }
    }
}
