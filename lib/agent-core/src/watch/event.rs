//! What is told about one change.

use dormouse_agent_proto::filesystem::{EntryInfo, EventType, FilesystemEvent};

/// Kinds of changes. A rename shows as [`Kind::Rename`] of the old name and [`Kind::Create`] of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Write,
    Remove,
    Rename,
    Chmod,
}

impl Kind {
    /// After these there still is an entry to describe.
    pub(super) fn leaves_entry(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Chmod)
    }
}

/// One change.
#[derive(Debug)]
pub(super) struct Event {
    /// Path below the watched directory, `.` for that itself.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) entry: Option<Box<EntryInfo>>,
}

impl Event {
    /// About what it costs in memory.
    pub(super) fn weight(&self) -> usize {
        let entry = self.entry.as_ref().map_or(0, |entry| {
            let target = entry.symlink_target.as_ref().map_or(0, String::len);
            let metadata: usize = entry.metadata.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
            size_of::<EntryInfo>() + 64 + entry.name.len() + entry.path.len() + target + metadata
        });
        size_of::<Self>() + self.name.len() + entry
    }
}

impl From<Event> for FilesystemEvent {
    fn from(event: Event) -> Self {
        let kind = match event.kind {
            Kind::Create => EventType::EVENT_TYPE_CREATE,
            Kind::Write => EventType::EVENT_TYPE_WRITE,
            Kind::Remove => EventType::EVENT_TYPE_REMOVE,
            Kind::Rename => EventType::EVENT_TYPE_RENAME,
            Kind::Chmod => EventType::EVENT_TYPE_CHMOD,
        };
        let mut told = Self { name: event.name, r#type: kind.into(), ..Default::default() };
        if let Some(entry) = event.entry {
            told.entry = (*entry).into();
        }
        told
    }
}
