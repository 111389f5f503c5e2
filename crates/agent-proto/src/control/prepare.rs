//! `POST /snapshot/prepare`.

use serde::{Deserialize, Serialize};

/// What prepare does with the guest's page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePolicy {
    /// Leave it: warm after resume, bytes found again on the disks.
    #[default]
    Keep,
    /// Free clean page cache; dentries and inodes stay.
    Drop,
}

/// What becomes of user processes' connections to outside when a restore follows. Connections within the guest always stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionPolicy {
    /// They are ended: forks would go on with the same TCP sequence numbers, and a program whose peer is gone would wait for ever.
    #[default]
    Cut,
    /// They stay, for a host that keeps the other ends and restores once.
    Keep,
}

/// Body of `POST /snapshot/prepare`. An empty body means all defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrepareRequest {
    /// Page cache policy.
    pub cache: CachePolicy,
    /// Trim the overlay disk.
    pub trim: bool,
    /// Freeze user processes until restore or abort.
    pub freeze: bool,
    /// Connections of user processes to outside.
    pub connections: ConnectionPolicy,
    /// Time for all steps together, in milliseconds.
    pub budget_ms: u64,
    /// The prepare is undone when nothing ends it for so long, in milliseconds; clamped to between 100 ms and 10 min. Absent means the
    /// agent's own setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_ms: Option<u64>,
}

impl Default for PrepareRequest {
    fn default() -> Self {
        Self {
            cache: CachePolicy::Keep,
            trim: false,
            freeze: false,
            connections: ConnectionPolicy::Cut,
            budget_ms: 10_000,
            watchdog_ms: None,
        }
    }
}

/// How a step of prepare went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// Done.
    Ok,
    /// Not done within its deadline; it was left behind.
    Overran,
    /// Ended with an error, see `detail`.
    Failed,
    /// Not started: not asked for, no budget left, or not possible here.
    Skipped,
}

/// One step of prepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// Stable name of the step.
    pub name: String,
    /// Wall time in milliseconds.
    pub ms: u64,
    /// Bytes that the step freed, wrote or trimmed, as far as it can tell.
    pub bytes: u64,
    /// How it went.
    pub outcome: StepOutcome,
    /// More for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Answer of `POST /snapshot/prepare` with `Accept: application/json`.
///
/// It comes from the guest and so is not to be trusted: a wrong value may cost the guest its own snapshot, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareReport {
    /// Steps in the order in which they ran.
    pub steps: Vec<StepReport>,
    /// Text of `/sys/kernel/vmcoreinfo` as it is, newline included; absent when the kernel has none.
    pub vmcoreinfo: Option<String>,
    /// `MemFree` of `/proc/meminfo` in bytes, taken after the last step.
    pub mem_free: u64,
    /// Kernel release, as `uname -r`.
    pub kernel_release: String,
    /// `/proc/sys/kernel/random/boot_id`, without newline.
    pub boot_id: String,
    /// Generation that this prepare ends.
    pub generation: u64,
    /// The kernel checks the content of free pages (page poisoning, debug_pagealloc, KASAN): they must be kept.
    pub checked_free_pages: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_means_the_defaults() {
        assert_eq!(serde_json::from_str::<PrepareRequest>("{}").unwrap(), PrepareRequest::default());
    }

    #[test]
    fn the_report_speaks_camel_case() {
        let report = PrepareReport {
            steps: vec![StepReport { name: "sync".into(), ms: 1, bytes: 2, outcome: StepOutcome::Ok, detail: None }],
            vmcoreinfo: Some("0x1 2\n".into()),
            mem_free: 4096,
            kernel_release: "6.1".into(),
            boot_id: "b".into(),
            generation: 1,
            checked_free_pages: false,
        };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["memFree"], 4096);
        assert_eq!(json["checkedFreePages"], false);
        assert_eq!(json["steps"][0], serde_json::json!({"name":"sync","ms":1,"bytes":2,"outcome":"ok"}));
        assert_eq!(serde_json::from_value::<PrepareReport>(json).unwrap(), report);
    }
}
