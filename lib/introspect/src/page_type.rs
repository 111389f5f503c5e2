//! The mark in a page structure that says "on the free lists", "given back to the host", "slab", "page table".
//!
//! It shares its 32 bits with `_mapcount`, which counts user mappings from -1 upwards. Two ways of writing it exist
//! (`include/linux/page-flags.h`): up to 6.11 all bits are set and the type's own bit is cleared; from 6.12 on the top
//! byte is a number from 0xf0. Which one holds follows from the note's value for free pages.

use crate::SurveyError;
use crate::fact_list::FactList;

/// What a typed page is, as far as we tell types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageType {
    Buddy,
    Offline,
    Slab,
    Table,
    /// A type, but none of those above.
    Other,
    /// No type: the field counts mappings.
    Untyped,
}

/// How this kernel writes page types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageTypes {
    /// All bits set, one cleared. Each value is the whole field.
    ClearedBit { buddy: u32, offline: Option<u32>, slab: Option<u32>, table: u32 },
    /// A number in the top byte; the lower 24 bits belong to the type's owner.
    TopByte { offline: Option<u8>, slab: Option<u8> },
}

const BUDDY: &str = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)";
const OFFLINE: &str = "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)";
const SLAB: &str = "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)";

/// `PGTY_buddy` and `PGTY_table` since 6.12.
const PGTY_BUDDY: u8 = 0xf0;
const PGTY_TABLE: u8 = 0xf2;
/// The highest type; 0xff is an untyped page that nobody maps.
const PGTY_LAST: u8 = 0xfe;
/// `PG_buddy` and `PG_table` of 4.20 to 6.10, as the bit that is cleared, and of 6.11.
const CLEARED_BITS: [(u32, u32); 2] = [(1 << 7, 1 << 9), (1 << 30, 1 << 28)];
/// Bits of which the highest is set in every typed page of the cleared-bit kernels.
const CLEARED_BIT_BASE: u32 = 1 << 31;

impl PageTypes {
    pub(crate) fn from_note(list: &FactList<'_>) -> Result<Self, SurveyError> {
        let buddy = field(BUDDY, list.number(BUDDY)?)?;
        let optional = |key| list.optional_number(key)?.map(|n| field(key, n)).transpose();
        let (offline, slab) = (optional(OFFLINE)?, optional(SLAB)?);
        if buddy == u32::from(PGTY_BUDDY) << 24 {
            let top = |v: Option<u32>| v.and_then(|v| u8::try_from(v >> 24).ok()).filter(|t| *t > PGTY_BUDDY);
            return Ok(Self::TopByte { offline: top(offline), slab: top(slab) });
        }
        let known = CLEARED_BITS.into_iter().find(|(bit, _)| buddy == !bit);
        let (_, table) = known.ok_or_else(|| SurveyError::implausible_number(BUDDY, buddy.cast_signed()))?;
        Ok(Self::ClearedBit { buddy, offline, slab, table: !table })
    }

    /// The type in a page structure's `page_type`/`_mapcount` field.
    pub(crate) fn decode(self, field: u32) -> PageType {
        match self {
            Self::ClearedBit { buddy, offline, slab, table } => match field {
                u32::MAX => PageType::Untyped,
                _ if field == buddy => PageType::Buddy,
                _ if Some(field) == offline => PageType::Offline,
                _ if Some(field) == slab => PageType::Slab,
                _ if field == table => PageType::Table,
                _ if field & CLEARED_BIT_BASE != 0 => PageType::Other,
                _ => PageType::Untyped,
            },
            Self::TopByte { offline, slab } => match field.to_be_bytes()[0] {
                PGTY_BUDDY => PageType::Buddy,
                top if Some(top) == offline => PageType::Offline,
                top if Some(top) == slab => PageType::Slab,
                PGTY_TABLE => PageType::Table,
                0xf1..=PGTY_LAST => PageType::Other,
                _ => PageType::Untyped,
            },
        }
    }
}

/// The kernel prints the field as a signed or an unsigned 32-bit number, by version.
fn field(key: &'static str, number: i64) -> Result<u32, SurveyError> {
    let signed = i32::try_from(number).map(i32::cast_unsigned);
    signed.or_else(|_| u32::try_from(number)).map_err(|_| SurveyError::implausible_number(key, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(note: &str) -> Result<PageTypes, SurveyError> {
        PageTypes::from_note(&FactList::parse(note.as_bytes()))
    }

    #[test]
    fn kernels_before_6_12_clear_one_bit() {
        let note = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n";
        let types = types(note).unwrap();
        let table = [
            (0xffff_ff7f, PageType::Buddy),
            (0xffff_feff, PageType::Offline),
            (0xffff_fdff, PageType::Table),
            (0xffff_fbff, PageType::Other),
            (0xffff_fe7f, PageType::Other),
            (0xffff_ffff, PageType::Untyped),
            (0, PageType::Untyped),
            (0xf000_0000, PageType::Other),
        ];
        for (field, expected) in table {
            assert_eq!(types.decode(field), expected, "{field:#x}");
        }
    }

    #[test]
    fn kernels_from_6_12_on_number_the_top_byte() {
        let note = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=4026531840\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=4043309056\n\
                    NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\n";
        let types = types(note).unwrap();
        let table = [
            (0xf000_0000, PageType::Buddy),
            (0xf012_3456, PageType::Buddy),
            (0xf100_0000, PageType::Offline),
            (0xf200_0000, PageType::Table),
            (0xf500_0001, PageType::Slab),
            (0xf700_0000, PageType::Other),
            (0xffff_ffff, PageType::Untyped),
            (0xffff_ff7f, PageType::Untyped),
            (5, PageType::Untyped),
        ];
        for (field, expected) in table {
            assert_eq!(types.decode(field), expected, "{field:#x}");
        }
    }

    #[test]
    fn a_value_of_no_known_encoding_is_refused() {
        for value in ["0", "-1", "5", "-2", "4294967296", "-4294967296", "x"] {
            assert!(types(&format!("{BUDDY}={value}\n")).is_err(), "{value}");
        }
        assert_eq!(types(""), Err(SurveyError::FactMissing { key: BUDDY }));
    }
}
