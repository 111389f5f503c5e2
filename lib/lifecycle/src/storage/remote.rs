//! Packs that are checked and are only on the remote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dormouse_image::{PackId, PackRef};
use dormouse_store::{Packs, Pins};

use super::VerifyReport;
use super::findings::{Faults, Object};
use crate::snapshot::{Behind, Elsewhere};

/// The remote as a verification asks it: for each pack once, and never again when it does not answer.
pub(super) struct Asking<'a> {
    remote: &'a Behind,
    /// Whether packs are fetched, to be read.
    fetch: bool,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    /// What is wrong with packs that were asked for; nothing with those that are there.
    packs: BTreeMap<PackId, Option<String>>,
    /// Packs that were fetched, which is to read them whole.
    fetched: BTreeSet<PackId>,
    unanswered: Option<String>,
}

/// What can be said of a snapshot's packs that are not here.
#[derive(Default)]
pub(super) struct Away {
    /// They are not read, and that they are missing is no damage.
    pub(super) unread: Vec<PackId>,
    /// These are here now, for as long as this is held.
    fetched: Vec<Pins>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(remote: &'a Behind, fetch: bool) -> Self {
        Self { remote, fetch, answers: Mutex::default() }
    }

    /// Looks for those of these packs that are not here. What neither is here nor can come from there is a fault. To be called
    /// where blocking is fine.
    pub(super) fn look(&self, wanted: &[PackRef], packs: &Packs, faults: &mut Faults) -> Away {
        let mut away = Away::default();
        for pack in wanted.iter().filter(|pack| matches!(packs.len(&pack.id), Ok(None))) {
            match self.look_for(pack) {
                Elsewhere::NoRemote => {}
                Elsewhere::There | Elsewhere::Unknown(_) => away.unread.push(pack.id),
                Elsewhere::Fetched(pins) => away.fetched.push(pins),
                Elsewhere::Damaged(reason) => faults.add(Object::pack(packs.root(), &pack.id), reason),
            }
        }
        away
    }

    /// Adds to a report which packs were fetched, which were not, and why the remote could not be asked, if so.
    pub(super) fn tell(&self, report: &mut VerifyReport) {
        let answers = self.answers();
        report.packs += answers.fetched.len() as u64;
        report.remote_packs = answers.packs.values().filter(|wrong| wrong.is_none()).count() as u64;
        report.unanswered.clone_from(&answers.unanswered);
    }

    fn look_for(&self, pack: &PackRef) -> Elsewhere {
        {
            let answers = self.answers();
            match answers.packs.get(&pack.id) {
                Some(Some(wrong)) => return Elsewhere::Damaged(wrong.clone()),
                Some(None) => return Elsewhere::There,
                None => {}
            }
        }
        let silent = self.answers().unanswered.clone();
        let found = match silent {
            // Whoever did not answer once would be waited for again and again.
            Some(reason) => Elsewhere::Unknown(reason),
            None => tokio::runtime::Handle::current().block_on(self.remote.look_for(pack, self.fetch)),
        };
        let mut answers = self.answers();
        match &found {
            Elsewhere::NoRemote => {}
            Elsewhere::Fetched(_) => drop(answers.fetched.insert(pack.id)),
            Elsewhere::There => drop(answers.packs.insert(pack.id, None)),
            Elsewhere::Damaged(wrong) => drop(answers.packs.insert(pack.id, Some(wrong.clone()))),
            Elsewhere::Unknown(reason) => {
                answers.packs.insert(pack.id, None);
                answers.unanswered.get_or_insert_with(|| reason.clone());
            }
        }
        found
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
