//! Writing a VMCOREINFO note.

use super::{KERNEL_MAP, PHYS_BASE, ROOTS, SECTION_BITS, STRUCT_SIZE, Shape, TABLES, tables};

/// The lines of a note, in order.
#[derive(Clone)]
pub(super) struct NoteText {
    lines: Vec<(String, String)>,
}

impl NoteText {
    pub(super) fn new(shape: Shape) -> Self {
        let symbol = |v: u64| format!("{v:x}");
        let root_table = (KERNEL_MAP + TABLES.0).wrapping_add_signed(-PHYS_BASE);
        let release = if shape.top_byte_types { "6.12.95-cloud-amd64" } else { "6.1.0-56-cloud-amd64" };
        let l5 = u8::from(shape.page_table_levels == 5).to_string();
        let mut note = Self { lines: Vec::new() };
        for (key, value) in [
            ("OSRELEASE", release),
            ("PAGESIZE", "4096"),
            ("SYMBOL(swapper_pg_dir)", &symbol(root_table)),
            ("SYMBOL(mem_section)", &symbol(tables::direct_map(shape.page_table_levels) + ROOTS.0)),
            ("LENGTH(mem_section)", "2"),
            ("SIZE(mem_section)", "16"),
            ("OFFSET(mem_section.section_mem_map)", "0"),
            ("NUMBER(SECTION_SIZE_BITS)", &SECTION_BITS.to_string()),
            ("SIZE(page)", &STRUCT_SIZE.to_string()),
            ("OFFSET(page.flags)", "0"),
            ("OFFSET(page.compound_head)", "8"),
            ("OFFSET(page.mapping)", "24"),
            ("OFFSET(page.private)", "40"),
            ("OFFSET(page._mapcount)", "48"),
            ("OFFSET(page._refcount)", "52"),
            ("LENGTH(zone.free_area)", "11"),
            ("NUMBER(PG_swapbacked)", "19"),
            ("NUMBER(phys_base)", &PHYS_BASE.to_string()),
            ("NUMBER(pgtable_l5_enabled)", &l5),
            ("NUMBER(sme_mask)", "0"),
        ] {
            note.set(key, value);
        }
        note.set_types(shape.top_byte_types);
        note
    }

    /// The values that 6.12 and 6.1 print.
    fn set_types(&mut self, top_byte: bool) {
        if top_byte {
            self.set("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "4026531840");
            self.set("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", "4043309056");
            self.set("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", "4110417920");
        } else {
            self.set("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "-129");
            self.set("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", "-257");
            self.set("NUMBER(PG_slab)", "9");
        }
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        match self.lines.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.lines.push((key.to_owned(), value.to_owned())),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.lines.retain(|(k, _)| k != key);
    }

    /// The ELF note, with a trailing end mark as the kernel leaves it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let content: String = self.lines.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let mut bytes = [11u32, len, 0].map(u32::to_le_bytes).concat();
        bytes.extend_from_slice(b"VMCOREINFO\0\0");
        bytes.extend_from_slice(content.as_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes
    }
}
