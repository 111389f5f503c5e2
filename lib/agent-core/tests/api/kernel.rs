//! A guest's kernel that notes what is asked of it and does nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dormouse_agent_core::{GuestKernel, MemorySample, ReclaimStep, Reclaimed, Volume};
use jiff::Timestamp;

/// Each change, and whether user processes were frozen at that moment.
pub(crate) type Change = (String, bool);

#[derive(Clone, Debug)]
pub(crate) struct NotingKernel {
    /// The file that tells whether user processes are frozen.
    freeze: PathBuf,
    changes: Arc<Mutex<Vec<Change>>>,
    /// What the next reseeding waits for.
    gate: Arc<Mutex<Option<Receiver<()>>>>,
    memory: Arc<Memory>,
    /// What mounts of `/hanging` wait for.
    mounts: Arc<Mutex<Option<Receiver<()>>>>,
}

/// A calm guest's memory.
#[derive(Debug)]
struct Memory {
    begin: Instant,
    cold_files: AtomicU64,
    steps: AtomicUsize,
    /// What the next step of a reclaim waits for.
    gate: Mutex<Option<Receiver<()>>>,
}

impl NotingKernel {
    pub(crate) fn new(freeze: PathBuf) -> Self {
        let memory = Memory {
            begin: Instant::now(),
            cold_files: AtomicU64::new(0),
            steps: AtomicUsize::new(0),
            gate: Mutex::default(),
        };
        Self { freeze, changes: Arc::default(), gate: Arc::default(), memory: Arc::new(memory), mounts: Arc::default() }
    }

    fn note(&self, change: String) -> io::Result<()> {
        let frozen = std::fs::read_to_string(&self.freeze)? == "1";
        self.changes.lock().unwrap().push((change, frozen));
        Ok(())
    }

    /// The changes since this was asked last.
    pub(crate) fn changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap())
    }

    /// Makes the next reseeding wait until the answer is sent to or dropped.
    pub(crate) fn hold_next_reseed(&self) -> Sender<()> {
        let (sender, receiver) = channel();
        *self.gate.lock().unwrap() = Some(receiver);
        sender
    }

    /// Makes the next mount wait until the answer is sent to or dropped.
    pub(crate) fn hold_next_mount(&self) -> Sender<()> {
        let (sender, receiver) = channel();
        *self.mounts.lock().unwrap() = Some(receiver);
        sender
    }

    fn pass_mount_gate(&self) -> io::Result<()> {
        let gate = self.mounts.lock().unwrap().take();
        gate.map_or(Ok(()), |gate| gate.recv().map_err(io::Error::other).or(Ok(())))
    }

    /// From now on so many bytes of files are cold.
    pub(crate) fn set_cold_files(&self, bytes: u64) {
        self.memory.cold_files.store(bytes, Ordering::Relaxed);
    }

    /// Steps of a reclaim that were begun.
    pub(crate) fn reclaim_steps(&self) -> usize {
        self.memory.steps.load(Ordering::Relaxed)
    }

    /// Makes the next step of a reclaim wait until the answer is sent to or dropped.
    pub(crate) fn hold_next_step(&self) -> Sender<()> {
        let (sender, receiver) = channel();
        *self.memory.gate.lock().unwrap() = Some(receiver);
        sender
    }
}

impl GuestKernel for NotingKernel {
    fn step_clock(&self, time: Timestamp) -> io::Result<()> {
        self.note(format!("clock {time}"))
    }

    fn hardware_clock(&self) -> io::Result<Timestamp> {
        Ok(Timestamp::UNIX_EPOCH)
    }

    fn reseed(&self, host_bytes: &[u8]) -> io::Result<()> {
        self.note(format!("reseed {}", host_bytes.len()))?;
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        Ok(())
    }

    fn set_hostname(&self, name: &str) -> io::Result<()> {
        self.note(format!("name {name}"))
    }

    fn mount(&self, volume: &Volume) -> io::Result<()> {
        self.note(format!("mount {} {}", volume.export, volume.path.display()))?;
        self.pass_mount_gate()?;
        if volume.export == "/missing" { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn unmount(&self, path: &Path, lazy: bool) -> io::Result<()> {
        self.note(format!("unmount{} {}", if lazy { " lazily" } else { "" }, path.display()))?;
        if path.ends_with("busy") && !lazy { Err(io::ErrorKind::ResourceBusy.into()) } else { Ok(()) }
    }

    fn memory(&self) -> io::Result<MemorySample> {
        let cold_files = self.memory.cold_files.load(Ordering::Relaxed);
        Ok(MemorySample { at: self.memory.begin.elapsed(), cold_files, ..MemorySample::default() })
    }

    fn reclaim(&self, step: ReclaimStep) -> io::Result<Reclaimed> {
        self.memory.steps.fetch_add(1, Ordering::Relaxed);
        let gate = self.memory.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        let ReclaimStep::Files(files) = step else { panic!("there are no names: {step:?}") };
        Ok(Reclaimed { files, cpu: Duration::from_micros(1) })
    }
}
