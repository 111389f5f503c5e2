//! A VMM without VMs, an agent without a guest, and a state folder around them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dormouse_agent_proto::control::PrepareReport;
use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageIndex, PageSet, RamLayout, RamRegion, RamSource};
use dormouse_vmm::{
    Boot, ExitReason, Fingerprint, FollowedRam, PausedRam, Restored, RunState, Vm, VmSpec, Vmm, VmmError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::agent::Agent;
use crate::snapshot::{Stored, Subject, checkpoint, take};
use crate::state::{Machine, SnapshotRecord};
use crate::{
    Host, Limits, Options, PauseOptions, RemoteSetup, Result, SandboxId, Secret, SnapshotId, SnapshotInfo, TemplateName,
};

pub(super) const RAM: u64 = 4 << 20;

/// What VM and agent were told, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// How the device state of a VM comes out.
#[derive(Clone, Debug)]
pub(super) enum State {
    Whole(Vec<u8>),
    /// The VMM fails when it has written some of it.
    Half,
}

#[derive(Clone)]
struct FakeVm {
    dir: PathBuf,
    spec: VmSpec,
    layout: RamLayout,
    ram: Arc<Vec<u8>>,
    state: State,
    agent: SocketAddr,
    told: Told,
    follow: Option<Follow>,
}

/// RAM as it is while the VM runs, and whether it can be told at the end what the VM wrote since: the bytes that it has when it is stopped.
#[derive(Clone)]
pub(super) struct Follow {
    pub(super) early: Vec<u8>,
    pub(super) fails: bool,
}

struct FakeRam(Arc<Vec<u8>>);

struct Followed {
    early: FakeRam,
    last: FakeRam,
    looks: u32,
    fails: bool,
}

impl RamSource for Followed {
    fn len(&self) -> u64 {
        self.last.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.looks < 2 { &self.early } else { &self.last }.read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        self.last.populated()
    }
}

impl PausedRam for Followed {
    fn restored(&self) -> Option<Restored<'_>> {
        None
    }
}

impl FollowedRam for Followed {
    /// At the second look the VM stands still.
    fn written_since(&mut self) -> io::Result<PageSet> {
        self.looks += 1;
        if self.fails && self.looks == 2 {
            return Err(io::Error::other("nobody knows"));
        }
        let mut written = PageSet::new((self.len() / PAGE_SIZE as u64) as u32);
        let both = self.early.0.chunks(PAGE_SIZE).zip(self.last.0.chunks(PAGE_SIZE));
        for (page, _) in (0..).zip(both).filter(|(_, (early, last))| self.looks == 2 && early != last) {
            written.insert(PageIndex(page));
        }
        Ok(written)
    }
}

impl RamSource for FakeRam {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.as_slice().read_at(offset, buf)
    }

    fn populated(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(std::iter::once(0..self.len()).collect())
    }
}

impl PausedRam for FakeRam {
    fn restored(&self) -> Option<Restored<'_>> {
        None
    }
}

#[async_trait]
impl Vm for FakeVm {
    fn pid(&self) -> u32 {
        1
    }

    fn spec(&self) -> &VmSpec {
        &self.spec
    }

    fn agent_addr(&self) -> SocketAddr {
        self.agent
    }

    fn layout(&self) -> &RamLayout {
        &self.layout
    }

    async fn run_state(&self) -> dormouse_vmm::Result<RunState> {
        Ok(RunState::Running)
    }

    async fn pause(&self) -> dormouse_vmm::Result<()> {
        self.told.note("pause");
        Ok(())
    }

    async fn resume(&self) -> dormouse_vmm::Result<()> {
        self.told.note("resume");
        Ok(())
    }

    async fn save_device_state(&self, file_in_dir: &str) -> dormouse_vmm::Result<PathBuf> {
        let path = self.dir.join(file_in_dir);
        match &self.state {
            State::Whole(bytes) => std::fs::write(&path, bytes).map(|()| path.clone()),
            State::Half => std::fs::write(&path, "half").and(Err(io::Error::other("it broke off"))),
        }
        .map_err(|source| VmmError::Io { doing: "write", path, source })
    }

    fn paused_ram(&self) -> dormouse_vmm::Result<Box<dyn PausedRam>> {
        Ok(Box::new(FakeRam(Arc::clone(&self.ram))))
    }

    fn follow_ram(&self) -> dormouse_vmm::Result<Box<dyn FollowedRam>> {
        let Follow { early, fails } =
            self.follow.clone().ok_or_else(|| VmmError::Ram { reason: "nobody follows it".into() })?;
        let (early, last) = (FakeRam(Arc::new(early)), FakeRam(Arc::clone(&self.ram)));
        Ok(Box::new(Followed { early, last, looks: 0, fails }))
    }

    fn ram_written(&self) -> dormouse_vmm::Result<Bytes> {
        Ok(Bytes(self.ram.len() as u64))
    }

    async fn console_tail(&self, _bytes: usize) -> Vec<u8> {
        Vec::new()
    }

    async fn kill(&self) -> dormouse_vmm::Result<()> {
        self.told.note("kill");
        Ok(())
    }

    async fn exited(&self) -> ExitReason {
        std::future::pending().await
    }
}

struct FakeVmm;

#[async_trait]
impl Vmm for FakeVmm {
    fn fingerprint(&self, _spec: &VmSpec) -> Fingerprint {
        Fingerprint::new([("vmm", "fake")])
    }

    fn layout(&self, ram: Bytes) -> dormouse_vmm::Result<RamLayout> {
        let region = RamRegion { guest: GuestAddr(0), offset: 0, len: ram.0 };
        RamLayout::new(vec![region]).map_err(|source| VmmError::Layout { ram, source })
    }

    async fn boot(&self, _dir: &Path, _spec: &VmSpec, _boot: &Boot) -> dormouse_vmm::Result<Arc<dyn Vm>> {
        Err(VmmError::BadSpec { reason: "there is nothing to boot".into() })
    }

    async fn restore(
        &self,
        _dir: &Path,
        _spec: &VmSpec,
        _state: &Path,
        _ram: &Path,
    ) -> dormouse_vmm::Result<Arc<dyn Vm>> {
        Err(VmmError::BadSpec { reason: "there is nothing to restore".into() })
    }

    async fn adopt(&self, dir: &Path) -> dormouse_vmm::Result<Arc<dyn Vm>> {
        Err(VmmError::NotAdoptable { dir: dir.to_owned(), reason: "there are none".into() })
    }
}

/// An agent that is always ready.
async fn agent(told: Told) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, told.clone()));
        }
    });
    addr
}

async fn answer(mut stream: TcpStream, told: Told) {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    // All of it: what is left unread would reset the connection.
    let body_is_there = |text: &str| {
        let length = |head: &str| {
            let line = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            line.unwrap_or(0)
        };
        text.split_once("\r\n\r\n").is_some_and(|(head, body)| body.len() >= length(head))
    };
    while !body_is_there(&String::from_utf8_lossy(&request)) {
        let read = stream.read(&mut part).await.unwrap();
        request.extend(&part[..read]);
    }
    let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap().to_owned();
    told.note(&path);
    let report = PrepareReport {
        steps: Vec::new(),
        vmcoreinfo: None,
        mem_free: 0,
        kernel_release: "0".into(),
        boot_id: "b".into(),
        generation: 1,
        checked_free_pages: false,
    };
    let body = if path == "/snapshot/prepare" { serde_json::to_string(&report).unwrap() } else { String::new() };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

/// A sandbox that runs, as far as its daemon can tell.
pub(super) struct World {
    pub(super) host: Host,
    pub(super) told: Told,
    pub(super) run: PathBuf,
    pub(super) machine: Machine,
    overlay: PathBuf,
    vm: Arc<dyn Vm>,
    agent: Agent,
}

impl World {
    pub(super) async fn new(folder: &Path, ram: Vec<u8>, state: State) -> Self {
        Self::made(folder, ram, state, None, None).await
    }

    pub(super) async fn with_remote(folder: &Path, ram: Vec<u8>, state: State, remote: Option<RemoteSetup>) -> Self {
        Self::made(folder, ram, state, remote, None).await
    }

    /// With a VM whose RAM can be copied while it runs.
    pub(super) async fn following(folder: &Path, ram: Vec<u8>, state: State, follow: Option<Follow>) -> Self {
        Self::made(folder, ram, state, None, follow).await
    }

    async fn made(
        folder: &Path,
        ram: Vec<u8>,
        state: State,
        remote: Option<RemoteSetup>,
        follow: Option<Follow>,
    ) -> Self {
        let limits = Limits { image_threads: 2, ..Limits::default() };
        let options =
            Options { state: folder.to_owned(), vmm: Arc::new(FakeVmm), agent: "/nowhere".into(), limits, remote };
        let (host, _) = Host::open(options).await.unwrap();
        let folder = &host.shared.folder;
        std::fs::write(folder.artifacts().join("base.ext4"), [0; 4096]).unwrap();
        let run = folder.run(&SandboxId::random().unwrap());
        std::fs::create_dir(&run).unwrap();
        let overlay = run.join(crate::snapshot::OVERLAY);
        std::fs::write(&overlay, [7; 8192]).unwrap();
        let ram_len = Bytes(ram.len() as u64);
        let machine = Machine {
            vcpus: 1,
            ram: ram_len,
            five_level_paging: false,
            disk: Bytes(8192),
            base_disk: "base.ext4".into(),
        };
        let told = Told::default();
        let addr = agent(told.clone()).await;
        let vm = Arc::new(FakeVm {
            dir: run.clone(),
            spec: machine.spec(&folder.artifacts(), overlay.clone(), addr.port()),
            layout: FakeVmm.layout(ram_len).unwrap(),
            ram: Arc::new(ram),
            state,
            agent: addr,
            told: told.clone(),
            follow,
        });
        Self { host, told, run, machine, overlay, vm, agent: Agent::new(addr, None) }
    }

    pub(super) async fn pause(&self, id: &SnapshotId) -> Result<Stored> {
        take(&self.host.shared, &self.subject(&"base".parse().unwrap()), PauseOptions::default(), id).await
    }

    pub(super) async fn checkpoint(&self, id: &SnapshotId) -> Result<()> {
        let template = "base".parse().unwrap();
        let material = checkpoint(&self.host.shared, &self.subject(&template), id).await?;
        material.store(&self.host.shared).map(drop)
    }

    /// A snapshot that stays until it is removed.
    pub(super) async fn keep(&self, id: &SnapshotId) -> Result<SnapshotInfo> {
        let template: TemplateName = "base".parse().unwrap();
        let material = checkpoint(&self.host.shared, &self.subject(&template), id).await?;
        let record = SnapshotRecord {
            id: id.clone(),
            sandbox: SandboxId::random().unwrap(),
            template,
            name: None,
            created: jiff::Timestamp::now(),
            token: Secret::from("token".to_owned()),
            generation: 1,
            env: BTreeMap::new(),
        };
        crate::kept::keep(&self.host.shared, material, record).await
    }

    fn subject<'a>(&'a self, template: &'a TemplateName) -> Subject<'a> {
        Subject {
            vm: &self.vm,
            agent: &self.agent,
            machine: &self.machine,
            template,
            parent: None,
            run: &self.run,
            overlay: &self.overlay,
        }
    }

    /// Whether there is nothing of a snapshot: neither a whole nor a half one, nor anything of it with the VM.
    pub(super) fn nothing_is_left(&self) -> bool {
        let folder = &self.host.shared.folder;
        let packs = self.host.shared.packs.packs();
        let empty = |dir: PathBuf| std::fs::read_dir(dir).unwrap().next().is_none();
        let with_the_vm: Vec<_> = std::fs::read_dir(&self.run).unwrap().map(|e| e.unwrap().file_name()).collect();
        self.host.shared.packs.collect();
        empty(folder.snapshots())
            && empty(folder.staging())
            && packs.list().unwrap().is_empty()
            && with_the_vm == [crate::snapshot::OVERLAY]
    }
}

/// Bytes that cannot be compressed.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    std::iter::repeat_with(word).flatten().take(len).collect()
}
