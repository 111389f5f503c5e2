//! Guests that lie about their memory: it costs bytes, never content, and ends.

use std::time::Duration;

use dormouse_guest_mem::{Bytes, GuestAddr, PAGE_SIZE, PageSet, RamLayout};
use dormouse_introspect::{NoteLocation, Request, Survey, SurveyError, find_note, survey};
use dormouse_lifecycle::{Inspection, Introspection, KernelLine, PauseOptions, SandboxId};
use dormouse_vm_tests::{Booted, Guest, Machine, block_on, host, ram_bytes, sandbox};

const AN_HOUR: Duration = Duration::from_secs(3600);

/// Writes notes of its own into its own memory, with page tables and page structures to go with them, and says of each
/// where it is, as `/sys/kernel/vmcoreinfo` does. It keeps the pages for as long as it runs.
const LIAR: &str = r#"
import ctypes, mmap, os, struct, time
PAGE, PRESENT = 4096, 3
libc, keep = ctypes.CDLL(None), []

def page():
    m = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    m[:] = bytes(PAGE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(m))
    libc.mlock(ctypes.c_void_p(at), PAGE)
    keep.append(m)
    with open('/proc/self/pagemap', 'rb') as f:
        f.seek(at // PAGE * 8)
        return m, (struct.unpack('Q', f.read(8))[0] & ((1 << 55) - 1)) * PAGE

def note(name, content):
    m, at = page()
    m[:24] = struct.pack('<III', 11, len(content), 0) + b'VMCOREINFO\0\0'
    m[24:24 + len(content)] = content
    with open('/run/lie-' + name, 'w') as f: f.write('0x%x 1000\n' % at)

def facts(root):
    return ('''OSRELEASE=6.1.0-made-up
PAGESIZE=4096
SYMBOL(swapper_pg_dir)=%x
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
LENGTH(zone.free_area)=11
SYMBOL(mem_section)=ffff888000000038
LENGTH(mem_section)=2048
SIZE(mem_section)=32
OFFSET(mem_section.section_mem_map)=0
NUMBER(SECTION_SIZE_BITS)=27
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page.compound_head)=8
OFFSET(page.mapping)=24
OFFSET(page.private)=40
OFFSET(page._mapcount)=48
OFFSET(page._refcount)=52
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
''' % (0xffffffff80000000 + root)).encode()

def tables(last):
    # Every address leads through one table of each level to the page `last`.
    for _ in range(4):
        m, at = page()
        m[:] = struct.pack('<Q', last | PRESENT) * 512
        last = at
    return last

def structs(order):
    # All of memory: heads of free blocks of that order. The same bytes are sections and the root of their table.
    m, at = page()
    va = 0xffff888000000000
    one = struct.pack('<QQQQQQIIQ', va | PRESENT, 0, 0, 0, va | PRESENT, order, 0xffffff7f, 0, va)
    m[:] = one * 64
    return at

note('random', b'OSRELEASE=' + os.urandom(2000))
note('outside', facts(0x7ffff000))
m, loop = page()
m[:] = struct.pack('<Q', loop | PRESENT) * 512
note('cycle', facts(loop))
note('orders', facts(tables(structs(1 << 40))))
note('all-free', facts(tables(structs(0))))
open('/run/lies', 'w').close()
while True: time.sleep(3600)
"#;

/// What the host is told, and what it must say of that; nothing where it may also find that no page is free.
const LIES: [(&str, &str, &str); 8] = [
    ("no address", "echo all is well", "not the text of"),
    ("an address with something else at it", "echo 0x100000 1024", "there is no VMCOREINFO note"),
    ("an address outside of RAM", "echo 0xfffffffffffff000 1000", "not in its RAM"),
    ("a note of random bytes", "cat /run/lie-random", "VMCOREINFO note lacks"),
    ("page tables outside of RAM", "cat /run/lie-outside", "none of the guest kernel's memory sections"),
    ("page tables that lead to themselves", "cat /run/lie-cycle", ""),
    ("free blocks of 2^40 pages", "cat /run/lie-orders", ""),
    ("nothing but free pages", "cat /run/lie-all-free", "marks"),
];

/// Pauses the sandbox and brings it back; what the host saw of its memory.
async fn seen_at_a_pause(id: &SandboxId) -> Inspection {
    let host = host().await;
    let snapshot = host.pause(id, PauseOptions::default()).await.unwrap();
    let seen = host.inspect(&snapshot).await.unwrap();
    host.connect(id, AN_HOUR).await.unwrap();
    seen
}

#[test]
fn a_lying_vmcoreinfo_costs_only_bytes() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        guest.sh(&format!("cat > /run/liar.py <<'END'\n{LIAR}\nEND")).await;
        let told = "for i in $(seq 600); do [ -e /run/lies ] && exit 0; sleep 0.1; done; exit 1";
        guest.sh(&format!("setsid python3 /run/liar.py >/run/liar.log 2>&1 & {told}")).await;
        for (what, lie, said) in LIES {
            let guest = Guest::of(host, &info.id).await;
            let spread =
                format!("{lie} > /run/lie; mount --bind /run/lie /sys/kernel/vmcoreinfo; echo kept > /dev/shm/note");
            guest.sh(&spread).await;
            let seen = seen_at_a_pause(&info.id).await;
            println!("{what}: {:?}", seen.introspection);
            assert_eq!(seen.free.0, 0, "{what}");
            match seen.introspection {
                Introspection::ZeroOnly { reason } => assert!(reason.contains(said), "{what}: {reason}"),
                Introspection::Pages { .. } => assert_eq!(said, "", "{what}"),
            }
            let guest = Guest::of(host, &info.id).await;
            assert_eq!(guest.sh("cat /dev/shm/note; umount /sys/kernel/vmcoreinfo").await, "kept", "{what}");
        }
        drop(guest);
        let honest = seen_at_a_pause(&info.id).await;
        assert!(matches!(honest.introspection, Introspection::Pages { .. }), "{:?}", honest.introspection);
        assert!(honest.free.0 > 100 << 20, "{:?}", honest.free);

        // The liar's notes lie around in its memory; the kernel's own comes first.
        let guest = Guest::of(host, &info.id).await;
        guest.sh("pkill -f '[l]iar.py'; mount -t tmpfs none /sys/kernel").await;
        let searched = seen_at_a_pause(&info.id).await;
        println!("a guest that does not say where its note is: {:?}", searched.introspection);
        assert!(matches!(searched.introspection, Introspection::Pages { .. }), "{:?}", searched.introspection);
        host.kill(&info.id).await.unwrap();
    });
}

/// The RAM of a guest at one moment.
struct Moment {
    ram: Vec<u8>,
    layout: RamLayout,
    note: NoteLocation,
}

impl Moment {
    fn survey(&self, note: Option<NoteLocation>) -> Result<Survey, SurveyError> {
        survey(&Request { ram: &self.ram, layout: &self.layout, note, mem_free: None })
    }

    fn at(&self, addr: GuestAddr, len: usize) -> std::ops::Range<usize> {
        let offset = usize::try_from(self.layout.offset_of(addr, len as u64).unwrap()).unwrap();
        offset..offset + len
    }

    /// The note as text.
    fn text(&self) -> String {
        let place = self.at(self.note.addr, usize::try_from(self.note.len).unwrap());
        String::from_utf8_lossy(&self.ram[place]).into_owned()
    }

    /// Surveys with other bytes somewhere, then puts the old ones back.
    fn with(&mut self, place: std::ops::Range<usize>, bytes: &[u8]) -> Result<Survey, SurveyError> {
        let before = self.ram[place.clone()].to_vec();
        self.ram[place.clone()].copy_from_slice(bytes);
        let surveyed = self.survey(Some(self.note));
        self.ram[place].copy_from_slice(&before);
        surveyed
    }
}

/// Nothing is free that is not, and no more was read than a guest of that size is worth. Whether the lie was refused.
fn harmless(what: &str, lied: Result<Survey, SurveyError>, honest: &PageSet) -> bool {
    let Ok(lied) = lied else { return true };
    let more = lied.free.difference(honest).len();
    assert_eq!(more, 0, "{what}: {more} pages more than are free");
    let bound = 512 * u64::from(honest.capacity()) + (1 << 20);
    assert!(lied.work.bytes_read <= bound, "{what}: {} bytes were read", lied.work.bytes_read);
    false
}

#[test]
fn no_lie_in_a_real_guests_ram_frees_a_page_or_has_no_end() {
    block_on(async {
        let machine = Machine { kernel: KernelLine::Stable, five_level_paging: true, ram: Bytes::mib(512) };
        let booted = Booted::new(&machine).await;
        let note = booted.guest().sh("cat /sys/kernel/vmcoreinfo").await.parse::<NoteLocation>().unwrap();
        booted.vm.pause().await.unwrap();
        let ram = ram_bytes(&*booted.vm.paused_ram().unwrap());
        let mut moment = Moment { ram, layout: booted.vm.layout().clone(), note };
        booted.vm.kill().await.unwrap();

        let honest = moment.survey(Some(note)).unwrap().free;
        assert!(honest.len() > 10_000, "{}", honest.len());
        let found = moment.survey(None).unwrap();
        assert_eq!((found.free, found.kernel.note.addr), (honest.clone(), note.addr), "found by searching");

        let text = moment.text();
        let start = moment.at(note.addr, 1).start;
        let (mut told, mut refused) = (0, 0);
        for line in text.split(['\n', '\0']).filter(|line| line.contains('=')) {
            let (key, value) = line.split_once('=').unwrap();
            let at = start + text.find(&format!("{key}={value}")).unwrap() + key.len() + 1;
            for lie in ["9", "0", "f", "-", "\u{7f}"] {
                let what = format!("{key}={}", lie.repeat(value.len()));
                let lied = moment.with(at..at + value.len(), lie.repeat(value.len()).as_bytes());
                (told, refused) = (told + 1, refused + usize::from(harmless(&what, lied, &honest)));
            }
        }
        println!("{told} lies about single facts, {refused} of them refused");
        assert!(told > 300 && refused > 60, "{told} {refused}");

        let root = root_table(&text);
        let entries = |to: u64| (to | 3).to_le_bytes().repeat(PAGE_SIZE / 8);
        let table = moment.at(GuestAddr(root), PAGE_SIZE);
        let noise: Vec<u8> = (0..PAGE_SIZE as u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for (what, bytes) in [("a circle", entries(root)), ("an end", entries(1 << 45)), ("noise", noise)] {
            let lied = moment.with(table.clone(), &bytes);
            let free = lied.as_ref().map_or(0, |survey| survey.free.len());
            assert_eq!(free, 0, "page tables that are {what} lead to no free page");
            harmless(what, lied, &honest);
        }

        // Without any note there is nothing to go by.
        while let Some(found) = find_note(&moment.ram, &moment.layout) {
            let place = moment.at(found.addr, PAGE_SIZE);
            moment.ram[place].fill(0);
        }
        assert_eq!(moment.survey(None), Err(SurveyError::NoNote));
        assert!(matches!(moment.survey(Some(note)), Err(SurveyError::NotANote { .. })));
    });
}

/// Where the kernel's top-level page table lies, by its note (`lib/introspect/src/facts.rs`).
fn root_table(note: &str) -> u64 {
    let fact = |key: &str| note.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    let symbol = u64::from_str_radix(fact("SYMBOL(swapper_pg_dir)"), 16).unwrap();
    let base: i64 = fact("NUMBER(phys_base)").parse().unwrap();
    (symbol - 0xffff_ffff_8000_0000).checked_add_signed(base).unwrap()
}
