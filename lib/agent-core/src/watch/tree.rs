//! The watched directories of one watcher and what they are called.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;

use super::error::WatchError;
use super::event::Kind;
use super::inotify::{Inotify, Notice, WatchId};
use super::mounts::{Mount, mount_of};
use super::queue::MAX_EVENTS;
use super::watcher::WatchSpec;

/// Directories of one watcher; each costs about 1 KiB of the kernel's memory.
const MAX_DIRECTORIES: usize = 16_384;
/// The kernel tells both halves of a rename within one system call; after this a directory of which only the first has come is gone.
const RENAME_TAKES: Duration = Duration::from_secs(1);

/// Takes what is to be told: the path below the watched directory, and what happened there.
pub(super) type Tell<'a> = dyn FnMut(&Path, Kind) -> Result<(), WatchError> + 'a;

/// Directories of which the first half of a rename has come.
#[derive(Debug)]
struct Leaving {
    cookie: u32,
    since: Instant,
    /// Old paths.
    paths: HashMap<WatchId, PathBuf>,
    from: PathBuf,
    /// What happened in them before the second half came.
    held: Vec<Notice>,
}

#[derive(Debug)]
pub(super) struct Tree {
    inotify: Arc<Inotify>,
    spec: WatchSpec,
    /// Paths below the watched directory, whose own is empty.
    paths: HashMap<WatchId, PathBuf>,
    leaving: Vec<Leaving>,
    /// Entries of new directories that were told before the kernel's own notice of them was read.
    told: HashSet<(WatchId, OsString)>,
}

impl Tree {
    pub(super) fn new(spec: WatchSpec) -> Result<Self, WatchError> {
        let inotify = Inotify::new().map_err(|error| match error {
            Errno::MFILE => WatchError::KernelInstances,
            error => WatchError::Io { path: spec.root.clone(), source: error.into() },
        })?;
        let mut tree =
            Self { inotify: Arc::new(inotify), spec, paths: HashMap::new(), leaving: Vec::new(), told: HashSet::new() };
        tree.walk(PathBuf::new(), None)?;
        Ok(tree)
    }

    pub(super) fn inotify(&self) -> &Arc<Inotify> {
        &self.inotify
    }

    /// Handles some of the waiting notices. False when none waited.
    pub(super) fn read(&mut self, tell: &mut Tell<'_>) -> Result<bool, WatchError> {
        let notices = self.inotify.read().map_err(|error| self.failed(Path::new(""), error))?;
        if notices.is_empty() {
            self.settle();
            return Ok(false);
        }
        notices.into_iter().try_for_each(|notice| self.handle(notice, tell))?;
        Ok(true)
    }

    /// Nothing waits: what was told early has had its notice by now, and old halves of renames have no other.
    fn settle(&mut self) {
        self.told.clear();
        let inotify = &self.inotify;
        self.leaving.retain(|leaving| {
            let recent = leaving.since.elapsed() < RENAME_TAKES;
            if !recent {
                leaving.paths.keys().for_each(|watch| inotify.unwatch(*watch));
            }
            recent
        });
    }

    fn handle(&mut self, notice: Notice, tell: &mut Tell<'_>) -> Result<(), WatchError> {
        if notice.what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(WatchError::KernelQueue);
        }
        let Some(directory) = self.paths.get(&notice.watch).cloned() else { return self.hold(notice) };
        if notice.what.contains(ReadFlags::IGNORED) {
            self.paths.remove(&notice.watch);
            return Ok(());
        }
        match &notice.name {
            Some(name) => {
                let path = directory.join(name);
                self.entry_changed(&notice, name, &path, tell)
            }
            // What is below the watched directory is told by its parent.
            None if directory.as_os_str().is_empty() => root_changed(notice.what, tell),
            None => Ok(()),
        }
    }

    /// Keeps a notice of a directory that is being renamed. Those of directories that are watched no longer are passed over.
    fn hold(&mut self, notice: Notice) -> Result<(), WatchError> {
        if let Some(leaving) = self.leaving.iter_mut().find(|leaving| leaving.paths.contains_key(&notice.watch)) {
            leaving.held.push(notice);
            if leaving.held.len() > MAX_EVENTS {
                return Err(WatchError::TooManyEvents(MAX_EVENTS));
            }
        }
        Ok(())
    }

    fn entry_changed(
        &mut self,
        notice: &Notice,
        name: &OsString,
        path: &Path,
        tell: &mut Tell<'_>,
    ) -> Result<(), WatchError> {
        let what = notice.what;
        let subtree = self.spec.recursive && what.contains(ReadFlags::ISDIR);
        let key = (notice.watch, name.clone());
        if what.contains(ReadFlags::CREATE) && self.told.remove(&key) {
            return Ok(());
        }
        if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.told.remove(&key);
        }
        if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            tell(path, Kind::Create)?;
            return if subtree { self.arrive(path, notice.cookie, tell) } else { Ok(()) };
        }
        if what.contains(ReadFlags::MOVED_FROM) {
            tell(path, Kind::Rename)?;
            if subtree {
                self.depart(path, notice.cookie);
            }
        }
        for (flag, kind) in
            [(ReadFlags::DELETE, Kind::Remove), (ReadFlags::MODIFY, Kind::Write), (ReadFlags::ATTRIB, Kind::Chmod)]
        {
            if what.contains(flag) {
                tell(path, kind)?;
            }
        }
        Ok(())
    }

    /// A directory was made or moved to `path`.
    fn arrive(&mut self, path: &Path, cookie: u32, tell: &mut Tell<'_>) -> Result<(), WatchError> {
        let Some(at) = self.leaving.iter().position(|leaving| cookie != 0 && leaving.cookie == cookie) else {
            return self.walk(path.to_owned(), Some(tell));
        };
        let Leaving { paths, from, held, .. } = self.leaving.swap_remove(at);
        for (watch, old) in paths {
            let below = old.strip_prefix(&from).unwrap_or(&old);
            self.paths.insert(watch, if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) });
        }
        held.into_iter().try_for_each(|notice| self.handle(notice, tell))
    }

    /// The directory `path` was moved away, it is not known yet to where.
    fn depart(&mut self, path: &Path, cookie: u32) {
        let paths: HashMap<_, _> = self.paths.extract_if(|_, watched| watched.starts_with(path)).collect();
        self.leaving.push(Leaving { cookie, since: Instant::now(), paths, from: path.to_owned(), held: Vec::new() });
    }

    /// Watches the directory `start` and, in recursive mode, all below it. With `tell`, everything found there is told as created: it
    /// came before the watch did. A directory is watched first and read then, so that nothing falls between.
    fn walk(&mut self, start: PathBuf, mut tell: Option<&mut Tell<'_>>) -> Result<(), WatchError> {
        // Bind mounts can make circles.
        let mut seen = HashSet::new();
        let mut open = vec![(start, None)];
        while let Some((directory, parent_device)) = open.pop() {
            let path = self.spec.root.join(&directory);
            let Some(device) = self.admit(&directory, &path, parent_device)? else { continue };
            let Some(watch) = self.watch(&directory, &path)? else { continue };
            if !self.spec.recursive || !seen.insert(watch) {
                continue;
            }
            // Gone again: its parent tells.
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            for entry in entries.flatten() {
                let below = directory.join(entry.file_name());
                if let Some(tell) = tell.as_deref_mut() {
                    tell(&below, Kind::Create)?;
                    self.told.insert((watch, entry.file_name()));
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push((below, Some(device)));
                }
                if open.len() > MAX_DIRECTORIES {
                    return Err(WatchError::TooManyDirectories(MAX_DIRECTORIES));
                }
                if self.told.len() > MAX_EVENTS {
                    return Err(WatchError::TooManyEvents(MAX_EVENTS));
                }
            }
        }
        Ok(())
    }

    /// The device of a directory that is to be watched; `None` passes it over.
    fn admit(&self, directory: &Path, path: &Path, parent: Option<u64>) -> Result<Option<u64>, WatchError> {
        let is_root = directory.as_os_str().is_empty();
        let looked = if is_root { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
        let meta = match looked {
            Ok(meta) => meta,
            Err(error) if is_root => return Err(io_error(path, error)),
            Err(_) => return Ok(None),
        };
        if !meta.is_dir() {
            return if is_root { Err(WatchError::NotDirectory(path.to_owned())) } else { Ok(None) };
        }
        if parent == Some(meta.dev()) {
            return Ok(Some(meta.dev()));
        }
        let mount = mount_of(path).map_err(|error| io_error(path, error));
        Ok(match (mount, is_root) {
            (Err(error), true) => return Err(error),
            (Err(_), false) | (Ok(Mount::Pseudo), false) => None,
            (Ok(Mount::Network), true) if !self.spec.network => return Err(WatchError::Network(path.to_owned())),
            (Ok(Mount::Network), false) if !self.spec.network => None,
            _ => Some(meta.dev()),
        })
    }

    /// Adds the watch. `None` when the directory is gone again or may not be read.
    fn watch(&mut self, directory: &Path, path: &Path) -> Result<Option<WatchId>, WatchError> {
        let is_root = directory.as_os_str().is_empty();
        let watch = match self.inotify.watch(path, is_root) {
            Ok(watch) => watch,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) if !is_root => return Ok(None),
            Err(error) => return Err(self.failed(directory, error)),
        };
        // A directory that left and came back with another rename.
        for leaving in &mut self.leaving {
            leaving.paths.remove(&watch);
        }
        self.paths.insert(watch, directory.to_owned());
        if self.paths.len() > MAX_DIRECTORIES {
            return Err(WatchError::TooManyDirectories(MAX_DIRECTORIES));
        }
        Ok(Some(watch))
    }

    fn failed(&self, directory: &Path, error: Errno) -> WatchError {
        let path = self.spec.root.join(directory);
        match error {
            Errno::NOSPC => WatchError::KernelWatches(path),
            error => io_error(&path, error.into()),
        }
    }
}

fn io_error(path: &Path, source: std::io::Error) -> WatchError {
    let path = path.to_owned();
    match source.kind() {
        std::io::ErrorKind::NotFound => WatchError::NotFound(path),
        std::io::ErrorKind::NotADirectory => WatchError::NotDirectory(path),
        _ => WatchError::Io { path, source },
    }
}

/// The watched directory itself changed.
fn root_changed(what: ReadFlags, tell: &mut Tell<'_>) -> Result<(), WatchError> {
    if what.contains(ReadFlags::UNMOUNT) {
        return Err(WatchError::Unmounted);
    }
    for (flag, kind) in
        [(ReadFlags::ATTRIB, Kind::Chmod), (ReadFlags::MOVE_SELF, Kind::Rename), (ReadFlags::DELETE_SELF, Kind::Remove)]
    {
        if what.contains(flag) {
            tell(Path::new("."), kind)?;
        }
    }
    Ok(())
}
