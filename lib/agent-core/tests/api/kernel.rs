//! A guest's kernel that notes what is asked of it and does nothing.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use dormouse_agent_core::GuestKernel;
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
}

impl NotingKernel {
    pub(crate) fn new(freeze: PathBuf) -> Self {
        Self { freeze, changes: Arc::default(), gate: Arc::default() }
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
}
