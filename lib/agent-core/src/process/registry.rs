//! All processes that can be asked for: running ones, and ended ones for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dormouse_agent_proto::process::ProcessSelector;
use dormouse_agent_proto::proto::process::__buffa::oneof::process_selector::Selector;
use thiserror::Error;

use super::children::Children;
use super::running::Running;

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum SelectError {
    #[error("process with pid {0} not found")]
    NoPid(u32),
    #[error("process with tag '{0}' not found")]
    NoTag(String),
    #[error("name the process by pid or tag")]
    Empty,
}

/// The processes of this agent.
#[derive(Debug)]
pub(crate) struct Registry {
    children: Children,
    late_connect: Duration,
    processes: Mutex<HashMap<u32, Arc<Running>>>,
}

impl Registry {
    pub(crate) fn new(children: Children, late_connect: Duration) -> Self {
        Self { children, late_connect, processes: Mutex::default() }
    }

    pub(crate) fn children(&self) -> &Children {
        &self.children
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<u32, Arc<Running>>) -> T) -> T {
        f(&mut self.processes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a process. An ended one whose pid it got is forgotten.
    pub(super) fn insert(&self, process: Arc<Running>) {
        self.with(|all| all.insert(process.pid, process));
    }

    /// How long an ended process stays.
    pub(super) fn late_connect(&self) -> Duration {
        self.late_connect
    }

    /// Forgets `process`, unless its pid is another's by now.
    pub(super) fn forget(&self, process: &Arc<Running>) {
        self.with(|all| {
            if all.get(&process.pid).is_some_and(|other| Arc::ptr_eq(other, process)) {
                all.remove(&process.pid);
            }
        });
    }

    /// Running processes by pid.
    pub(super) fn running(&self) -> Vec<Arc<Running>> {
        let mut running: Vec<_> = self.with(|all| all.values().filter(|p| !p.has_ended()).cloned().collect());
        running.sort_by_key(|process| process.pid);
        running
    }

    /// The process that `selector` names, running, or ended a moment ago if `ended` ones count.
    pub(super) fn select(&self, selector: Option<&ProcessSelector>, ended: bool) -> Result<Arc<Running>, SelectError> {
        let fits = |process: &&Arc<Running>| ended || !process.has_ended();
        match selector.and_then(|s| s.selector.as_ref()) {
            None => Err(SelectError::Empty),
            Some(Selector::Pid(pid)) => {
                self.with(|all| all.get(pid).filter(fits).cloned()).ok_or(SelectError::NoPid(*pid))
            }
            Some(Selector::Tag(tag)) => self
                .with(|all| {
                    let tagged = all.values().filter(|p| p.tag.as_ref() == Some(tag)).filter(fits);
                    tagged.max_by_key(|p| !p.has_ended()).cloned()
                })
                .ok_or_else(|| SelectError::NoTag(tag.clone())),
        }
    }
}
