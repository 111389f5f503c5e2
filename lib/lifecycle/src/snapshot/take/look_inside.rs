//! Finding out which pages of a stopped guest are free.

use dormouse_agent_proto::control::PrepareReport;
use dormouse_guest_mem::{Bytes, PageSet, RamLayout, RamSource};
use dormouse_introspect::{NoteLocation, Request, Survey};

use crate::error::with_causes;
use crate::{Introspection, SnapshotId};

/// What the agent said that matters for it. Guesses of a hostile guest, each of which is checked.
#[derive(Clone, Debug)]
pub(super) struct Hints {
    note: Option<String>,
    mem_free: Bytes,
    free_pages_are_checked: bool,
}

impl Hints {
    pub(super) fn of(prepared: &PrepareReport) -> Self {
        Self {
            note: prepared.vmcoreinfo.clone(),
            mem_free: Bytes(prepared.mem_free),
            free_pages_are_checked: prepared.checked_free_pages,
        }
    }
}

/// What was found out about a guest's pages, and how.
pub(super) type Look = (Option<Survey>, Introspection);

/// What was found out, or what it is to be found out with.
pub(super) enum Found {
    Now(Look),
    Later(Hints),
}

impl Found {
    /// The pages that are known to be free.
    pub(super) fn free(&self) -> Option<&PageSet> {
        match self {
            Self::Now((survey, _)) => survey.as_ref().map(|survey| &survey.free),
            Self::Later(_) => None,
        }
    }
}

/// Reads the guest's page structures, or says why not.
pub(super) fn look_inside(ram: &dyn RamSource, layout: &RamLayout, hints: &Hints, id: &SnapshotId) -> Look {
    let zero_only = |reason: String| {
        tracing::warn!(snapshot = %id, reason, "free pages are not known: leaving out zero pages only");
        (None, Introspection::ZeroOnly { reason })
    };
    if hints.free_pages_are_checked {
        return zero_only("the guest's kernel checks the content of free pages".to_owned());
    }
    let note = match hints.note.as_deref().map(str::parse::<NoteLocation>) {
        Some(Err(error)) => return zero_only(error.to_string()),
        Some(Ok(note)) => Some(note),
        None => None,
    };
    match dormouse_introspect::survey(&Request { ram, layout, note, mem_free: Some(hints.mem_free) }) {
        Ok(survey) => {
            let kernel = survey.kernel.release.clone();
            (Some(survey), Introspection::Pages { kernel })
        }
        Err(error) => zero_only(with_causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use dormouse_guest_mem::Pfn;
    use dormouse_introspect::testing::{Guest, Shape};

    use super::*;

    fn guest() -> (Guest, Hints) {
        let mut guest = Guest::new(Shape { page_table_levels: 4, top_byte_types: false, hole: false });
        // More than what a guest may free in the moment before it is stopped.
        for block in 2..7 {
            guest.free_block(Pfn(block * 1024), 10);
        }
        let note = guest.note();
        let note = Some(format!("{:#x} {:x}\n", note.addr.0, note.len));
        (guest, Hints { note, mem_free: Bytes::mib(20), free_pages_are_checked: false })
    }

    fn reason(guest: &Guest, hints: &Hints) -> Option<String> {
        match look_inside(&guest.ram, &guest.layout, hints, &SnapshotId::random().unwrap()) {
            (Some(_), Introspection::Pages { .. }) => None,
            (None, Introspection::ZeroOnly { reason }) => Some(reason),
            other => panic!("{:?}", other.1),
        }
    }

    #[test]
    fn free_pages_are_left_out_only_where_nothing_speaks_against_it() {
        let (guest, honest) = guest();
        assert_eq!(reason(&guest, &honest), None);
        let checked = Hints { free_pages_are_checked: true, ..honest.clone() };
        assert!(reason(&guest, &checked).unwrap().contains("checks the content of free pages"));
        let no_note = Hints { note: Some("nowhere".into()), ..honest };
        assert!(reason(&guest, &no_note).is_some());
        let less_is_free = Hints { mem_free: Bytes::mib(1), ..honest };
        let reason = reason(&guest, &less_is_free).unwrap();
        assert!(reason.contains("free"), "{reason}");
    }
}
