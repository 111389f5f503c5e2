//! Events that wait to be fetched, bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::WatchError;
use super::event::Event;

/// Events that wait for one client: as many as the kernel itself keeps by default (fs.inotify.max_queued_events).
pub(super) const MAX_EVENTS: usize = 16_384;

/// Memory that the waiting events of all watchers share.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: AtomicUsize::new(bytes) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A queue. Two equal events in a row are one, as they are in the kernel's own queue; so a file that is written all the time costs
/// nothing.
#[derive(Debug)]
pub(super) struct Queue {
    events: VecDeque<Event>,
    budget: Arc<Budget>,
    failed: Option<Arc<WatchError>>,
}

impl Queue {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { events: VecDeque::new(), budget, failed: None }
    }

    pub(super) fn push(&mut self, event: Event) -> Result<(), WatchError> {
        if let Some(last) = self.events.back()
            && last.kind == event.kind
            && last.name == event.name
        {
            self.budget.give_back(last.weight());
            self.events.pop_back();
        }
        if self.events.len() == MAX_EVENTS {
            return Err(WatchError::TooManyEvents(MAX_EVENTS));
        }
        if !self.budget.take(event.weight()) {
            return Err(WatchError::TooMuchMemory);
        }
        self.events.push_back(event);
        Ok(())
    }

    /// Nothing follows but `error`. What waits is dropped: with a gap in it, it would tell a wrong story.
    pub(super) fn fail(&mut self, error: WatchError) {
        while self.pop_event().is_some() {}
        self.events.shrink_to_fit();
        self.failed.get_or_insert(Arc::new(error));
    }

    fn pop_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.budget.give_back(event.weight());
        Some(event)
    }

    /// The next event, `None` when there is none yet.
    pub(super) fn pop(&mut self) -> Result<Option<Event>, Arc<WatchError>> {
        match &self.failed {
            Some(error) => Err(Arc::clone(error)),
            None => Ok(self.pop_event()),
        }
    }

    /// All events so far.
    pub(super) fn take(&mut self) -> Result<Vec<Event>, Arc<WatchError>> {
        let mut events = Vec::with_capacity(self.events.len());
        while let Some(event) = self.pop()? {
            events.push(event);
        }
        self.events.shrink_to_fit();
        Ok(events)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.pop_event().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::event::Kind;

    fn event(name: &str, kind: Kind) -> Event {
        Event { name: name.into(), kind, entry: None }
    }

    fn queue(bytes: usize) -> (Arc<Budget>, Queue) {
        let budget = Arc::new(Budget::new(bytes));
        (Arc::clone(&budget), Queue::new(budget))
    }

    #[test]
    fn equal_neighbours_are_one_and_others_stay_apart() {
        let (_, mut queue) = queue(1 << 20);
        for (name, kind) in [("a", Kind::Create), ("a", Kind::Write), ("a", Kind::Write), ("b", Kind::Write)] {
            queue.push(event(name, kind)).unwrap();
        }
        queue.push(event("a", Kind::Write)).unwrap();
        let told: Vec<_> = queue.take().unwrap().into_iter().map(|e| (e.name, e.kind)).collect();
        let expected = [("a", Kind::Create), ("a", Kind::Write), ("b", Kind::Write), ("a", Kind::Write)]
            .map(|(n, k)| (n.into(), k));
        assert_eq!(told, expected);
        assert!(queue.take().unwrap().is_empty(), "told once");
    }

    #[test]
    fn a_queue_that_nobody_fetches_is_bounded_and_a_failure_stays() {
        let (_, mut queue) = queue(1 << 30);
        for n in 0..MAX_EVENTS {
            queue.push(event(&n.to_string(), Kind::Create)).unwrap();
        }
        let error = queue.push(event("one more", Kind::Create)).unwrap_err();
        assert!(matches!(error, WatchError::TooManyEvents(MAX_EVENTS)));
        queue.fail(error);
        for _ in 0..2 {
            assert!(matches!(*queue.take().unwrap_err(), WatchError::TooManyEvents(_)));
        }
    }

    #[test]
    fn watchers_share_memory_and_give_it_back() {
        let weight = event("a", Kind::Create).weight();
        let (budget, mut first) = queue(2 * weight);
        let mut second = Queue::new(Arc::clone(&budget));
        first.push(event("a", Kind::Create)).unwrap();
        second.push(event("a", Kind::Create)).unwrap();
        assert!(matches!(second.push(event("b", Kind::Create)), Err(WatchError::TooMuchMemory)));
        first.take().unwrap();
        second.push(event("b", Kind::Create)).unwrap();
        drop(second);
        assert_eq!(budget.left.load(Ordering::Relaxed), 2 * weight);
    }
}
