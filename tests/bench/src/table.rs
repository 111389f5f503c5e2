//! The figures of a workload as text.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::figures::{Figures, Wanted, percent};
use crate::portion::Portion;

/// Head, methods, and figures beside what is wanted.
pub(crate) fn text(figures: &Figures) -> String {
    let name = format!("{:?}", figures.workload);
    let mut out = format!("{name}: {} ({} of RAM, Linux {})\n\n", figures.title, figures.ram, figures.kernel);
    push(&mut out, &methods(figures));
    if figures.methods.iter().any(|stored| stored.method.in_another_guest()) {
        out.push_str("* another guest that did the same, booted with what the method needs\n");
    }
    out.push('\n');
    push(&mut out, &checks(figures));
    for note in &figures.notes {
        let _ = writeln!(out, "{note}");
    }
    out
}

fn methods(figures: &Figures) -> Table {
    let parts = &Portion::ALL[1..];
    let heads = parts.iter().map(|portion| portion.title().to_uppercase());
    let mut table = new_table(["METHOD", "STORED", "OF RAM"].map(str::to_owned).into_iter().chain(heads));
    for stored in &figures.methods {
        let share = format!("{:.1} %", percent(stored.bytes, figures.ram));
        let mut row = vec![stored.method.title().to_owned(), stored.bytes.to_string(), share];
        row.extend(parts.iter().filter_map(|portion| Some(stored.parts?.get(*portion).to_string())));
        table.add_row(row);
    }
    align_right(&mut table, 1..3 + parts.len());
    table
}

fn checks(figures: &Figures) -> Table {
    let mut table = new_table(["FIGURE", "FOUND", "WANTED", ""].map(str::to_owned));
    for check in &figures.checks {
        let wanted = match check.wanted {
            None => String::new(),
            Some(Wanted::AtMost(most)) => format!("at most {most}"),
            Some(Wanted::AtLeast(least)) => format!("at least {least}"),
        };
        let missed = if check.missed() { "missed" } else { "" };
        table.add_row([check.name.clone(), check.value.to_string(), wanted, missed.to_owned()]);
    }
    align_right(&mut table, 1..3);
    table
}

/// In the style of the program's own tables.
fn new_table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.into_iter().collect::<Vec<_>>());
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn push(out: &mut String, table: &Table) {
    for line in table.to_string().lines() {
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
