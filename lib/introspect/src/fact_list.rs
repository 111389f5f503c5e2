//! The `KEY=VALUE` lines of a VMCOREINFO note.

use std::collections::BTreeMap;

use crate::SurveyError;

/// What the guest kernel says about itself; claims, of which only the syntax was checked.
pub(crate) struct FactList<'n> {
    values: BTreeMap<&'n str, &'n str>,
}

impl<'n> FactList<'n> {
    /// A kernel writes about 150 lines.
    const MAX_LINES: usize = 4096;

    /// Lines that are no UTF-8 or have no `=` are passed over; of two with one key the first counts, so that
    /// nothing after the kernel's own lines can replace them.
    pub(crate) fn parse(content: &'n [u8]) -> Self {
        let mut values = BTreeMap::new();
        for line in content.split(|b| *b == b'\n' || *b == 0).take(Self::MAX_LINES) {
            if let Some((key, value)) = std::str::from_utf8(line).ok().and_then(|l| l.split_once('=')) {
                values.entry(key).or_insert(value);
            }
        }
        Self { values }
    }

    pub(crate) fn text(&self, key: &'static str) -> Result<&'n str, SurveyError> {
        self.values.get(key).copied().ok_or(SurveyError::FactMissing { key })
    }

    /// A `NUMBER(…)`, which the kernel prints as a signed decimal.
    pub(crate) fn number(&self, key: &'static str) -> Result<i64, SurveyError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| SurveyError::implausible(key, text))
    }

    /// A `NUMBER(…)` that not every supported kernel prints.
    pub(crate) fn optional_number(&self, key: &'static str) -> Result<Option<i64>, SurveyError> {
        if self.values.contains_key(key) { self.number(key).map(Some) } else { Ok(None) }
    }

    /// A `SIZE(…)`, `OFFSET(…)` or `LENGTH(…)`: an unsigned decimal that must be in `range`.
    pub(crate) fn count(&self, key: &'static str, range: impl std::ops::RangeBounds<u64>) -> Result<u64, SurveyError> {
        let text = self.text(key)?;
        let value = text.parse().ok().filter(|v| range.contains(v));
        value.ok_or_else(|| SurveyError::implausible(key, text))
    }

    /// A `SYMBOL(…)`, which the kernel prints as hexadecimal without prefix.
    pub(crate) fn symbol(&self, key: &'static str) -> Result<u64, SurveyError> {
        let text = self.text(key)?;
        u64::from_str_radix(text, 16).map_err(|_| SurveyError::implausible(key, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fact_is_read_in_its_own_notation() {
        let list = FactList::parse(b"OSRELEASE=6.1.0\nNUMBER(phys_base)=-4096\nSYMBOL(x)=ff\nSIZE(page)=64\n");
        assert_eq!(list.text("OSRELEASE"), Ok("6.1.0"));
        assert_eq!(list.number("NUMBER(phys_base)"), Ok(-4096));
        assert_eq!(list.symbol("SYMBOL(x)"), Ok(255));
        assert_eq!(list.count("SIZE(page)", 32..=256), Ok(64));
        assert_eq!(list.optional_number("NUMBER(absent)"), Ok(None));
    }

    #[test]
    fn a_fact_that_is_absent_or_no_number_names_its_key() {
        let list = FactList::parse(b"SIZE(page)=6\x07x\n");
        assert_eq!(list.number("NUMBER(y)"), Err(SurveyError::FactMissing { key: "NUMBER(y)" }));
        let implausible = SurveyError::FactImplausible { key: "SIZE(page)", value: "6?x".to_owned() };
        assert_eq!(list.count("SIZE(page)", ..), Err(implausible));
    }

    #[test]
    fn later_lines_do_not_replace_earlier_ones_and_rubbish_is_passed_over() {
        let list = FactList::parse(b"A=1\n\xff\xff=3\n\nnothing\nA=2\n");
        assert_eq!(list.number("A"), Ok(1));
        assert_eq!(list.values.len(), 1);
    }

    #[test]
    fn lines_past_the_limit_are_not_read() {
        let mut content = b"x\n".repeat(FactList::MAX_LINES);
        content.extend_from_slice(b"A=1\n");
        assert!(FactList::parse(&content).text("A").is_err());
    }
}
