//! A folder of kernel modules, and which of them must be loaded in which order.
//!
//! Dependencies are read from the modules themselves: a package that was only unpacked has no `modules.dep`, which
//! depmod(8) would write on installation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::modinfo;
use crate::command::Tool;
use crate::error::AtPath;
use crate::{BuildError, Progress};

/// A module, not compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// The modules of a kernel by name, with `_` for `-`, as the kernel itself names them.
pub(super) struct ModuleFolder<'a> {
    modules: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    scratch: &'a Path,
}

impl<'a> ModuleFolder<'a> {
    /// Reads which modules are there and which are built into the kernel (`modules.builtin`).
    pub(super) fn open(folder: &Path, scratch: &'a Path) -> Result<Self, BuildError> {
        let mut modules = BTreeMap::new();
        find(&folder.join("kernel"), &mut modules)?;
        let list = folder.join("modules.builtin");
        let text = match fs::read_to_string(&list) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other.at(&list)?,
        };
        let builtin = text.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { modules, builtin, scratch })
    }

    /// Whether the kernel has it, either way.
    pub(super) fn has(&self, name: &str) -> bool {
        self.builtin.contains(name) || self.modules.contains_key(name)
    }

    /// The wanted modules that exist and everything they depend on, each after what it depends on; built-in ones need
    /// no loading.
    ///
    /// # Errors
    /// A dependency does not exist, a file is no module, or it was built for another kernel than `release`.
    pub(super) fn closure(
        &self,
        wanted: &[&str],
        release: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<Module>, BuildError> {
        let mut seen = BTreeSet::new();
        let mut ordered = Vec::new();
        for name in wanted.iter().filter(|name| self.has(name)) {
            self.visit(name, release, &mut seen, &mut ordered, progress)?;
        }
        Ok(ordered)
    }

    /// Recursion is bounded by the number of modules, since each is visited once; a cycle just ends there.
    fn visit(
        &self,
        name: &str,
        release: &str,
        seen: &mut BTreeSet<String>,
        ordered: &mut Vec<Module>,
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let missing = || BuildError::ModuleMissing { module: name.to_owned(), release: release.to_owned() };
        let path = self.modules.get(name).ok_or_else(missing)?;
        let content = self.read(path, progress)?;
        let unusable = |reason: &str| BuildError::Kernel { path: path.clone(), reason: reason.to_owned() };
        let info = modinfo::parse(&content).ok_or_else(|| unusable("it is not a kernel module"))?;
        if !info.release.is_empty() && info.release != release {
            return Err(unusable(&format!("it was built for the kernel {}, not {release}", info.release)));
        }
        for dependency in &info.depends {
            self.visit(dependency, release, seen, ordered, progress)?;
        }
        ordered.push(Module { name: name.to_owned(), content });
        Ok(())
    }

    fn read(&self, path: &Path, progress: &dyn Progress) -> Result<Vec<u8>, BuildError> {
        let (tool, package) = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => ("xz", "xz-utils"),
            Some("zst") => ("zstd", "zstd"),
            Some("gz") => ("gzip", "gzip"),
            _ => return fs::read(path).at(path),
        };
        let path = fs::canonicalize(path).at(path)?;
        Tool::new(tool, package, self.scratch).args(["-dc".as_ref(), "--".as_ref(), path.as_os_str()]).run(progress)
    }
}

fn find(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<(), BuildError> {
    for entry in fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let path = entry.path();
        if entry.file_type().at(&path)?.is_dir() {
            find(&path, modules)?;
        } else if let Some(name) = module_name(&path) {
            modules.insert(name, path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> Option<String> {
    let (stem, compression) = path.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&compression).then(|| stem.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::super::modinfo::tests::fake_module;
    use super::*;
    use crate::Silent;

    fn folder(modules: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kernel/drivers")).unwrap();
        for (name, depends) in modules {
            let module = fake_module(&format!("depends={depends}\0vermagic=6.1 SMP\0"));
            fs::write(dir.path().join("kernel/drivers").join(name), module).unwrap();
        }
        fs::write(dir.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-16.ko\n").unwrap();
        dir
    }

    fn order(dir: &tempfile::TempDir, wanted: &[&str]) -> Result<Vec<String>, BuildError> {
        let modules = ModuleFolder::open(dir.path(), dir.path())?.closure(wanted, "6.1", &Silent)?;
        Ok(modules.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_built_in_ones_not_at_all() {
        let dir = folder(&[
            ("net.ko", "net-failover"),
            ("net-failover.ko", "failover,crc-16"),
            ("failover.ko", ""),
            ("virtio-rng.ko", ""),
            ("unwanted.ko", ""),
        ]);
        let wanted = ["net", "failover", "virtio_rng", "ext4", "vmgenid"];
        assert_eq!(order(&dir, &wanted).unwrap(), ["failover", "net_failover", "net", "virtio_rng"]);
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let error = order(&folder(&[("a.ko", "b")]), &["a"]).unwrap_err().to_string();
        assert!(error.contains("no module b"), "{error}");
    }

    #[test]
    fn modules_that_depend_on_each_other_in_a_circle_end() {
        assert_eq!(order(&folder(&[("a.ko", "b"), ("b.ko", "a")]), &["a"]).unwrap(), ["b", "a"]);
    }

    #[test]
    fn a_module_of_another_kernel_or_no_module_is_refused() {
        let dir = folder(&[("a.ko", "")]);
        let modules = ModuleFolder::open(dir.path(), dir.path()).unwrap();
        let error = modules.closure(&["a"], "6.12", &Silent).unwrap_err().to_string();
        assert!(error.contains("built for the kernel 6.1, not 6.12"), "{error}");
        fs::write(dir.path().join("kernel/b.ko"), "text").unwrap();
        assert!(order(&dir, &["b"]).unwrap_err().to_string().contains("not a kernel module"));
    }

    #[test]
    fn compressed_modules_are_unpacked() {
        let dir = folder(&[("a.ko", "b"), ("b.ko", "")]);
        for tool in [["xz", "a.ko"], ["zstd", "b.ko"]] {
            let path = dir.path().join("kernel/drivers").join(tool[1]);
            assert!(std::process::Command::new(tool[0]).arg("-q").arg(&path).status().unwrap().success());
            let _ = fs::remove_file(path);
        }
        assert_eq!(order(&dir, &["a"]).unwrap(), ["b", "a"]);
    }
}
