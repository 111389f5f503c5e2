//! `docs/faults.md` names tests: each must be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const TABLE: &str = "docs/faults.md";
/// The column of the tables that names tests.
const COLUMN: usize = 3;

/// Checks that every test that the table names is a function in one of `sources`.
pub(super) fn check(sources: &[PathBuf], findings: &mut Vec<String>) -> anyhow::Result<()> {
    let mut functions = BTreeSet::new();
    for path in sources {
        let text = fs::read_to_string(path)?;
        functions
            .extend(text.split("fn ").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
    }
    let text = fs::read_to_string(crate::root().join(TABLE))?;
    let missing = named(&text).into_iter().filter(|name| !functions.contains(*name));
    findings.extend(missing.map(|name| format!("{TABLE}: there is no test {name}")));
    Ok(())
}

/// What stands between backticks in the column of tests.
fn named(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('|').nth(COLUMN)).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn only_the_column_of_tests_names_tests() {
        let text =
            "| fault | what happens | test |\n|---|---|---|\n| `x` | `y` | `one`, `two` |\nand `z` | `a` | `b` |";
        assert_eq!(named(text), ["one", "two"]);
    }
}
