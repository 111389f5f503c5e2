//! Guests as small as can be: a multiboot image (Multiboot Specification 0.6.96, §3.1) of 512 bytes for 32-bit
//! protected mode, which prints a line on the first serial port and then does one thing for ever.

/// What every guest prints first.
pub(super) const GREETING: &str = "guest is up";
/// Where [`Program::Count`] counts.
pub(super) const COUNTER: usize = 0x40_0000;
/// Pages that it writes to, one after another, from here on.
pub(super) const WRITTEN_FROM: usize = 0x80_0000;
pub(super) const WRITTEN_PAGES: usize = 256;

const LOADED_AT: u32 = 0x10_0000;
const CODE: usize = 0x20;
const TEXT: usize = 0x100;

/// What a guest does after its greeting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    /// Counts in memory, and writes the count to one page after another.
    Count,
    /// Prints for ever.
    Flood,
    /// Resets the machine.
    Reset,
}

const PRINT: &[u8] = &[
    0xba, 0xf8, 0x03, 0x00, 0x00, // mov edx, 0x3f8
    0xbe, 0x00, 0x01, 0x10, 0x00, // mov esi, LOADED_AT + TEXT
    0xac, // next: lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x03, // jz done
    0xee, // out dx, al
    0xeb, 0xf8, // jmp next; done:
];

const COUNT: &[u8] = &[
    0xbb, 0x00, 0x00, 0x40, 0x00, // mov ebx, COUNTER
    0xff, 0x03, // next: inc dword [ebx]
    0x8b, 0x03, // mov eax, [ebx]
    0x89, 0xc1, // mov ecx, eax
    0x25, 0xff, 0x00, 0x00, 0x00, // and eax, 0xff
    0xc1, 0xe0, 0x0c, // shl eax, 12
    0x89, 0x88, 0x00, 0x00, 0x80, 0x00, // mov [eax + WRITTEN_FROM], ecx
    0xeb, 0xea, // jmp next
];

const FLOOD: &[u8] = &[
    0xb0, 0x78, // mov al, 'x'
    0xee, // next: out dx, al
    0xeb, 0xfd, // jmp next
];

/// An empty interrupt table makes the first interrupt a triple fault.
const RESET: &[u8] = &[
    0x0f, 0x01, 0x1d, 0xf0, 0x01, 0x10, 0x00, // lidt [LOADED_AT + 0x1f0], which is zero
    0xcc, // int3
];

/// The image to boot.
pub(super) fn image(program: Program) -> Vec<u8> {
    let then = match program {
        Program::Count => COUNT,
        Program::Flood => FLOOD,
        Program::Reset => RESET,
    };
    let mut image = header();
    image.extend(PRINT);
    image.extend(then);
    image.resize(TEXT, 0);
    image.extend(GREETING.bytes().chain(*b"\n"));
    image.resize(512, 0);
    image
}

/// The header with load addresses, which makes an image of no particular format bootable.
fn header() -> Vec<u8> {
    let (magic, with_addresses) = (0x1bad_b002u32, 1u32 << 16);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(with_addresses);
    let (whole_file, no_bss, entry) = (0, 0, LOADED_AT + CODE as u32);
    [magic, with_addresses, checksum, LOADED_AT, LOADED_AT, whole_file, no_bss, entry]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}
