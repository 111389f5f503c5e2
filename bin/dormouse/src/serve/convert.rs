//! From the host's words to those of the API.

pub(crate) mod store;

use dormouse_api_types::own::{self, SandboxEntry, SnapshotEntry, TemplateEntry};
use dormouse_api_types::{
    BuildStatus, ENVD_VERSION, Lifecycle, ListedSandbox, OnTimeout, Sandbox, SandboxDetail, SandboxState, Snapshot,
    Template,
};
use dormouse_guest_mem::Bytes;
use dormouse_lifecycle as host;
use dormouse_lifecycle::{Phase, SandboxInfo, SnapshotInfo, TemplateInfo};

/// E2B's clients want this field; nothing is done with it.
const CLIENT_ID: &str = "dormouse";

/// E2B's word for a phase, or `None` for a sandbox that a client of E2B's API would call gone.
pub(crate) fn state_of(info: &SandboxInfo) -> Option<SandboxState> {
    match (info.phase, &info.snapshot) {
        (Phase::Creating | Phase::Running | Phase::Pausing, _) => Some(SandboxState::Running),
        (Phase::Paused | Phase::Resuming, _) | (Phase::Lost, Some(_)) => Some(SandboxState::Paused),
        (Phase::Lost, None) => None,
    }
}

/// The answer to create and connect. Carries the sandbox's token.
pub(crate) fn sandbox(info: &SandboxInfo) -> Sandbox {
    Sandbox {
        template_id: info.template.to_string(),
        sandbox_id: info.id.to_string(),
        client_id: CLIENT_ID.to_owned(),
        envd_version: ENVD_VERSION.to_owned(),
        alias: None,
        envd_access_token: Some(info.token.expose().to_owned()),
        traffic_access_token: None,
        domain: None,
    }
}

/// A list entry, or `None` where [`state_of`] gives none.
pub(crate) fn listed(info: &SandboxInfo) -> Option<ListedSandbox> {
    Some(ListedSandbox {
        template_id: info.template.to_string(),
        sandbox_id: info.id.to_string(),
        client_id: CLIENT_ID.to_owned(),
        started_at: info.started_at,
        end_at: info.end_at,
        envd_version: ENVD_VERSION.to_owned(),
        cpu_count: u32::from(info.vcpus),
        memory_mb: mib(info.ram),
        disk_size_mb: mib(info.disk),
        state: state_of(info)?,
        alias: None,
        metadata: info.metadata.clone(),
    })
}

/// All that E2B tells of one sandbox. Carries its token.
pub(crate) fn detail(info: &SandboxInfo) -> Option<SandboxDetail> {
    Some(SandboxDetail {
        listed: listed(info)?,
        envd_access_token: Some(info.token.expose().to_owned()),
        allow_internet_access: Some(false),
        domain: None,
        lifecycle: Some(Lifecycle { auto_resume: false, on_timeout: on_timeout(info.on_timeout) }),
    })
}

/// Our own list entry, which shows every phase. `on_disk` is what the newest snapshot costs.
pub(crate) fn entry(info: &SandboxInfo, on_disk: Option<Bytes>) -> SandboxEntry {
    SandboxEntry {
        id: info.id.to_string(),
        template: info.template.to_string(),
        phase: phase(info.phase),
        reason: info.reason.clone(),
        started_at: info.started_at,
        end_at: info.end_at,
        on_timeout: on_timeout(info.on_timeout),
        metadata: info.metadata.clone(),
        vcpus: u32::from(info.vcpus),
        ram: info.ram,
        disk: info.disk,
        snapshot: info.snapshot.as_ref().map(ToString::to_string),
        on_disk,
    }
}

/// E2B's view of a template. What dormouse does not count is 0 or `null`.
pub(crate) fn template(info: &TemplateInfo) -> Template {
    Template {
        template_id: info.name.to_string(),
        build_id: info.snapshot.to_string(),
        cpu_count: u32::from(info.vcpus),
        memory_mb: mib(info.ram),
        disk_size_mb: mib(info.disk),
        public: false,
        aliases: vec![info.name.to_string()],
        names: vec![info.name.to_string()],
        created_at: info.created,
        updated_at: info.created,
        created_by: None,
        last_spawned_at: None,
        spawn_count: 0,
        build_count: 1,
        envd_version: ENVD_VERSION.to_owned(),
        build_status: BuildStatus::Ready,
    }
}

/// E2B's view of a kept snapshot.
pub(crate) fn snapshot(info: &SnapshotInfo) -> Snapshot {
    Snapshot { snapshot_id: info.id.to_string(), names: info.name.iter().map(ToString::to_string).collect() }
}

/// Our own view of it.
pub(crate) fn snapshot_entry(info: &SnapshotInfo) -> SnapshotEntry {
    SnapshotEntry {
        id: info.id.to_string(),
        name: info.name.as_ref().map(ToString::to_string),
        sandbox: info.sandbox.to_string(),
        template: info.template.to_string(),
        created_at: info.created,
        on_disk: info.on_disk,
    }
}

/// Our own view of a template.
pub(crate) fn template_entry(info: &TemplateInfo) -> TemplateEntry {
    TemplateEntry {
        name: info.name.to_string(),
        created_at: info.created,
        vcpus: u32::from(info.vcpus),
        ram: info.ram,
        disk: info.disk,
        kernel: info.kernel.clone(),
        snapshot: info.snapshot.to_string(),
        base_on_disk: info.base_on_disk,
        snapshot_on_disk: info.snapshot_on_disk,
    }
}

/// Where every byte of a snapshot's RAM went.
pub(crate) fn inspection(found: host::Inspection) -> own::Inspection {
    let row = |r: host::ClassRow| own::ClassRow {
        class: r.class,
        total: r.total,
        zero: r.zero,
        on_disks: r.on_disks,
        stored: r.data,
    };
    own::Inspection {
        snapshot: found.snapshot.to_string(),
        template: found.template.to_string(),
        created_at: found.created,
        ram: found.ram,
        free: found.free,
        zero: found.zero,
        on_disks: found.on_disks,
        kept: found.kept,
        new_pack: found.new_pack,
        memory_on_disk: found.memory_on_disk,
        device_state_on_disk: found.device_state_on_disk,
        overlay_on_disk: found.overlay_on_disk,
        classes: found.classes.into_iter().map(row).collect(),
        introspection: match found.introspection {
            host::Introspection::Pages { kernel } => own::Introspection::Pages { kernel },
            host::Introspection::ZeroOnly { reason } => own::Introspection::ZeroOnly { reason },
        },
        comparison: found
            .comparison
            .map(|c| own::Comparison { non_zero_before: c.non_zero_before, non_zero_after: c.non_zero_after }),
        steps: found.steps.into_iter().map(|s| own::Step { name: s.name, micros: s.micros }).collect(),
        remote: found.remote.map(remote_copy),
    }
}

fn remote_copy(copy: host::RemoteCopy) -> own::RemoteCopy {
    let (upload, reason) = match copy.upload {
        host::UploadState::NotWanted => (own::UploadState::NotWanted, None),
        host::UploadState::Waiting => (own::UploadState::Waiting, None),
        host::UploadState::Working => (own::UploadState::Uploading, None),
        host::UploadState::Failed { reason } => (own::UploadState::Failed, Some(reason)),
        host::UploadState::Done => (own::UploadState::Uploaded, None),
    };
    own::RemoteCopy { upload, reason, not_here: copy.not_here }
}

/// RAM as runs. The host's runs are gapless, so lengths are enough.
pub(crate) fn ram_map(map: host::RamMap) -> own::RamMap {
    let run = |r: host::MapRun| own::MapRun { pages: r.pages, class: r.class, stored: r.stored };
    own::RamMap { layout: map.layout, runs: map.runs.into_iter().map(run).collect() }
}

/// The host's cache policy.
pub(crate) fn cache(policy: own::CachePolicy) -> host::CachePolicy {
    match policy {
        own::CachePolicy::Keep => host::CachePolicy::Keep,
        own::CachePolicy::Drop => host::CachePolicy::Drop,
    }
}

fn phase(phase: Phase) -> own::Phase {
    match phase {
        Phase::Creating => own::Phase::Creating,
        Phase::Running => own::Phase::Running,
        Phase::Pausing => own::Phase::Pausing,
        Phase::Paused => own::Phase::Paused,
        Phase::Resuming => own::Phase::Resuming,
        Phase::Lost => own::Phase::Lost,
    }
}

fn on_timeout(what: host::OnTimeout) -> OnTimeout {
    match what {
        host::OnTimeout::Kill => OnTimeout::Kill,
        host::OnTimeout::Pause => OnTimeout::Pause,
    }
}

fn mib(bytes: Bytes) -> u64 {
    bytes.0 >> 20
}
