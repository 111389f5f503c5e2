//! What commands say: results on standard output, the rest on standard error.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult};

/// Writes a result. Fails, quietly in the end, when nobody reads it.
pub(super) fn print(text: &str) -> CommandResult<()> {
    write(text.as_bytes())
}

/// Writes a result as it is.
pub(super) fn write(content: &[u8]) -> CommandResult<()> {
    let mut out = io::stdout().lock();
    out.write_all(content).and_then(|()| out.flush()).map_err(CommandError::io("write to standard output"))
}

/// Writes a result as JSON for programs.
pub(super) fn json(value: &impl Serialize) -> CommandResult<()> {
    let text = serde_json::to_string_pretty(value).map_err(CommandError::internal)?;
    print(&format!("{text}\n"))
}

/// Writes a table.
pub(super) fn table(table: &Table) -> CommandResult<()> {
    let lines = table.to_string();
    let trimmed: Vec<&str> = lines.lines().map(str::trim_end).collect();
    print(&format!("{}\n", trimmed.join("\n")))
}

/// An empty table with this head, in the plain style of unix tools.
pub(super) fn new_table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

/// Tells people something that is no result.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
