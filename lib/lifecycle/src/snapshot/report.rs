//! What a pause did, as the manifest keeps it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dormouse_guest_mem::Bytes;
use dormouse_host_sys::Usage;
use dormouse_image::PageCounts;
use dormouse_image::manifest::{self, IntrospectionMethod};

use crate::{Comparison, Introspection, StepReport, Stillness};

const BEFORE: &str = "non_zero_before_bytes";
const AFTER: &str = "non_zero_after_bytes";
const NEW_PACK: &str = "new_pack_bytes";
const COPIED: &str = "copied_bytes";
const AHEAD: &str = "copied_ahead_bytes";
const STOPPED_CPU: &str = "stopped_cpu_us";
const STOPPED_FAULTS: &str = "stopped_page_faults";
const PAGES: &str = "pages_";

/// The part of a manifest that is for people.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) introspection: Introspection,
    pub(super) comparison: Option<Comparison>,
    /// What it cost to let the VM go on before the snapshot was made.
    pub(super) stillness: Option<Stillness>,
    /// What was found out about pages at the pause.
    pub(super) counts: Option<PageCounts>,
    /// Size of the pack that the pause wrote.
    pub(super) new_pack: Bytes,
    pub(super) steps: Vec<StepReport>,
}

impl Report {
    /// The figures as the manifest keeps them: steps as `step_NN_NAME_us`, numbered to keep their order.
    pub(super) fn figures(&self) -> BTreeMap<String, u64> {
        let steps = self.steps.iter().zip(1..);
        let mut figures: BTreeMap<_, _> =
            steps.map(|(step, n)| (format!("step_{n:02}_{}_us", step.name.replace(' ', "-")), step.micros)).collect();
        if let Some(c) = self.comparison {
            figures.extend([(BEFORE.to_owned(), c.non_zero_before.0), (AFTER.to_owned(), c.non_zero_after.0)]);
        }
        if let Some(still) = self.stillness {
            let Stillness { copied, ahead, cpu_micros, page_faults } = still;
            let all = [(COPIED, copied.0), (AHEAD, ahead.0), (STOPPED_CPU, cpu_micros), (STOPPED_FAULTS, page_faults)];
            figures.extend(all.map(|(name, figure)| (name.to_owned(), figure)));
        }
        if let Some(counts) = &self.counts {
            figures.extend(names(counts).map(|(name, pages)| (format!("{PAGES}{name}"), pages.into())));
        }
        figures.insert(NEW_PACK.to_owned(), self.new_pack.0);
        figures
    }

    pub(super) fn introspection(&self) -> manifest::Introspection {
        let (method, reason, kernel) = match self.introspection.clone() {
            Introspection::Pages { kernel } => (IntrospectionMethod::Pages, None, Some(kernel)),
            Introspection::ZeroOnly { reason } => (IntrospectionMethod::ZeroOnly, Some(reason), None),
        };
        manifest::Introspection { method, reason, kernel }
    }

    /// What [`figures`](Self::figures) and [`introspection`](Self::introspection) kept.
    pub(super) fn read(figures: &BTreeMap<String, u64>, introspection: &manifest::Introspection) -> Self {
        let step = |(key, micros): (&String, &u64)| {
            let (_, name) = key.strip_prefix("step_")?.strip_suffix("_us")?.split_once('_')?;
            Some(StepReport { name: name.replace('-', " "), micros: *micros })
        };
        let figure = |name: &str| figures.get(name).copied().map(Bytes);
        let comparison = figure(BEFORE).zip(figure(AFTER));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            introspection: match introspection.method {
                IntrospectionMethod::Pages => Introspection::Pages { kernel: text(&introspection.kernel) },
                IntrospectionMethod::ZeroOnly => Introspection::ZeroOnly { reason: text(&introspection.reason) },
            },
            comparison: comparison
                .map(|(non_zero_before, non_zero_after)| Comparison { non_zero_before, non_zero_after }),
            stillness: figure(COPIED).map(|copied| Stillness {
                copied,
                ahead: figure(AHEAD).unwrap_or_default(),
                cpu_micros: figures.get(STOPPED_CPU).copied().unwrap_or_default(),
                page_faults: figures.get(STOPPED_FAULTS).copied().unwrap_or_default(),
            }),
            counts: None,
            new_pack: figure(NEW_PACK).unwrap_or_default(),
            steps: figures.iter().filter_map(step).collect(),
        }
    }
}

/// How many pages were found to be what `name` says, by figures that [`Report::figures`] gave.
pub(super) fn pages(figures: &BTreeMap<String, u64>, name: &str) -> u64 {
    figures.get(&format!("{PAGES}{name}")).copied().unwrap_or(0)
}

/// What this process used while the virtual CPUs stood still, what it copied, and what it had copied before.
pub(super) fn stillness(copied: Bytes, ahead: Bytes, used: &Usage) -> Stillness {
    let cpu_micros = u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX);
    Stillness { copied, ahead, cpu_micros, page_faults: used.page_faults }
}

fn names(counts: &PageCounts) -> [(&'static str, u32); 7] {
    let PageCounts { free, zero, parent, base_disk, overlay_disk, duplicate, data } = *counts;
    [
        ("free", free),
        ("zero", zero),
        ("parent", parent),
        ("base_disk", base_disk),
        ("overlay_disk", overlay_disk),
        ("duplicate", duplicate),
        ("data", data),
    ]
}

/// Times the steps of a pause, one after the other.
#[derive(Debug)]
pub(super) struct Steps {
    done: Vec<StepReport>,
    since: Instant,
}

impl Steps {
    pub(super) fn start() -> Self {
        Self { done: Vec::new(), since: Instant::now() }
    }

    /// Ends the step that ran since the last call.
    pub(super) fn done(&mut self, name: &str) {
        self.also(name, self.since.elapsed());
        self.since = Instant::now();
    }

    /// Counts the time since the last step ended as nobody's.
    pub(super) fn skip(&mut self) {
        self.since = Instant::now();
    }

    /// Notes a part of the step that ended last.
    pub(super) fn also(&mut self, name: &str, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.done.push(StepReport { name: name.to_owned(), micros });
    }

    pub(super) fn into_reports(self) -> Vec<StepReport> {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        let step = |name: &str, micros| StepReport { name: name.into(), micros };
        let report = Report {
            introspection: Introspection::ZeroOnly { reason: "why".into() },
            comparison: Some(Comparison { non_zero_before: Bytes(9), non_zero_after: Bytes(5) }),
            stillness: Some(Stillness { copied: Bytes(40), ahead: Bytes(50), cpu_micros: 7, page_faults: 2 }),
            counts: Some(PageCounts { parent: 7, ..PageCounts::default() }),
            new_pack: Bytes(70),
            steps: vec![step("stop", 3), step("device state", 1), step("abc", 2)],
        };
        let read = Report::read(&report.figures(), &report.introspection());
        assert_eq!(read.introspection, report.introspection);
        assert_eq!(read.comparison, report.comparison);
        assert_eq!(read.stillness, report.stillness);
        assert_eq!(read.steps, report.steps);
        assert_eq!(read.new_pack, report.new_pack);
        assert_eq!(report.figures()["pages_parent"], 7);
    }
}
