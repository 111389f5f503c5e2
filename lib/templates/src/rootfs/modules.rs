//! Kernel modules that the agent loads when it needs them.

use std::path::Path;

use super::root_dir::RootDir;
use crate::BuildError;
use crate::kernel::ModuleList;

/// Where the agent looks for those of volumes, and the folders above, which not every root filesystem has.
const FOLDERS: [&str; 4] = ["usr", "usr/lib", "usr/lib/dormouse", "usr/lib/dormouse/volumes"];

/// Puts the modules for volumes into the root filesystem at `root`.
pub(crate) fn add_modules(root: &Path, modules: &ModuleList) -> Result<(), BuildError> {
    let root = RootDir::open(root)?;
    let [.., place] = FOLDERS;
    let at = |name: &str| format!("{place}/{name}");
    for folder in FOLDERS.map(str::to_owned).iter().chain([&at(modules.folder)]) {
        root.make_dir(folder, 0o755, 0)?;
    }
    let (list, names) = &modules.list;
    root.write(&at(list), names.as_bytes(), 0o644)?;
    modules.files.iter().try_for_each(|(name, content)| root.write(&at(name), content, 0o644))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn modules_lie_where_the_agent_looks_for_them_also_in_a_root_filesystem_without_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let list = ("modules.list", "a.ko\n".to_owned());
            let modules = ModuleList { list, folder: "modules", files: vec![("modules/a.ko".into(), b"a".into())] };
            add_modules(dir.path(), &modules).unwrap();
        }
        let place = dir.path().join("usr/lib/dormouse/volumes");
        assert_eq!(fs::read_to_string(place.join("modules.list")).unwrap(), "a.ko\n");
        assert_eq!(fs::read(place.join("modules/a.ko")).unwrap(), b"a");
    }
}
