//! What a kernel module says about itself in the section `.modinfo` of its ELF64 file (include/linux/module.h).

/// The facts that matter for loading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModInfo {
    /// The modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// The release that it was built for.
    pub(super) release: String,
}

/// Reads the section; `None` when this is no little-endian ELF64 file with such a section.
pub(super) fn parse(module: &[u8]) -> Option<ModInfo> {
    let section = section(module, b".modinfo")?;
    let value = |name: &[u8]| {
        let entry = section.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name));
        String::from_utf8_lossy(entry.unwrap_or_default()).into_owned()
    };
    let depends =
        value(b"depends=").split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect();
    let release = value(b"vermagic=").split(' ').next().unwrap_or_default().to_owned();
    Some(ModInfo { depends, release })
}

/// Offsets from elf(5), 64-bit.
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry) = (offset(elf, 0x28)?, usize::from(u16_at(elf, 0x3a)?));
    let (count, names) = (usize::from(u16_at(elf, 0x3c)?), usize::from(u16_at(elf, 0x3e)?));
    let header = |n: usize| elf.get(table.checked_add(n.checked_mul(entry)?)?..);
    let content = |header: &[u8]| {
        let (start, size) = (offset(header, 0x18)?, offset(header, 0x20)?);
        elf.get(start..start.checked_add(size)?)
    };
    let names = content(header(names)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let at = usize::try_from(u32::from_le_bytes(*header.first_chunk()?)).ok()?;
        let found = names.get(at..)?.split(|byte| *byte == 0).next()? == name;
        found.then(|| content(header)).flatten()
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn offset(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The smallest file that passes for a module.
    pub(in crate::kernel) fn fake_module(modinfo: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0";
        let (names_at, info_at) = (64, 64 + names.len());
        let table = info_at + modinfo.len();
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        for (at, value) in [(0x3a, 64_u16), (0x3c, 2), (0x3e, 0)] {
            elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        elf.extend(names);
        elf.extend(modinfo.as_bytes());
        for (name, start, size) in [(0_u32, names_at, names.len()), (1, info_at, modinfo.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(start as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend(header);
        }
        elf
    }

    #[test]
    fn dependencies_and_release_are_read() {
        let module = fake_module("license=GPL\0depends=net-failover,failover\0vermagic=6.1.0 SMP\0");
        let info = parse(&module).unwrap();
        assert_eq!(info.depends, ["net_failover", "failover"]);
        assert_eq!(info.release, "6.1.0");
        assert_eq!(parse(&fake_module("depends=\0")).unwrap().depends, Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_damage_is_survived(at in 0_usize..200, byte: u8, cut in 0_usize..250) {
            let mut module = fake_module("depends=a,b\0");
            let last = module.len() - 1;
            module[at.min(last)] = byte;
            module.truncate(cut);
            let _ = parse(&module);
        }
    }
}
