//! What the kernel tells of itself in `/proc` and in the files of cgroups. Parsing only; what is not there or makes no sense is absent.

mod cpu;
mod meminfo;
mod pressure;

pub(crate) use cpu::{CpuTimes, MODES as CPU_MODES};
pub(crate) use meminfo::Meminfo;
pub(crate) use pressure::{Pressure, Stall};

/// The number behind `key`, in a text of lines `key number …` or `key: number …`.
pub(crate) fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let value = rest.strip_prefix(':').or_else(|| rest.starts_with(char::is_whitespace).then_some(rest))?;
        value.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_found_by_its_whole_key() {
        let text = "MemFree:   10 kB\nActive(file): 3 kB\nusage_usec 77\nusage 5\nempty:\nword x\n";
        assert_eq!(number(text, "MemFree"), Some(10));
        assert_eq!(number(text, "Active(file)"), Some(3));
        assert_eq!((number(text, "usage"), number(text, "usage_usec")), (Some(5), Some(77)));
        for absent in ["Mem", "empty", "word", "other"] {
            assert_eq!(number(text, absent), None, "{absent}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_is_read_without_a_panic(text in "\\PC*", lines in "(some|full|cpu[0-9]?|MemFree:| avg10=|total=|[0-9a-f .]|\n){0,40}") {
            for text in [&text, &lines] {
                let _ = (number(text, "MemFree"), Meminfo::parse(text), Pressure::parse(text), CpuTimes::parse(text, 100));
            }
        }
    }
}
