//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    Gauge,
}

/// A text under way.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// The values of one name. Without a value nothing is written.
pub(super) struct Family<'a> {
    text: &'a mut Text,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    begun: bool,
}

impl Text {
    /// Begins a family; each name once.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        Family { text: self, name, kind, help, begun: false }
    }

    /// A family of one value.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &'static str, value: impl Display) {
        self.family(name, kind, help).value(&[], value);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a value; each set of labels once.
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: impl Display) {
        // Writing to a string does not fail.
        let out = &mut self.text.0;
        if !std::mem::replace(&mut self.begun, true) {
            let kind = if self.kind == Kind::Counter { "counter" } else { "gauge" };
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", self.name, self.help, self.name);
        }
        out.push_str(self.name);
        for (index, (label, content)) in labels.iter().enumerate() {
            let _ = write!(out, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for c in content.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    other => out.push(other),
                }
            }
            out.push('"');
        }
        let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_a_head_and_values_with_escaped_labels_and_an_empty_one_is_left_out() {
        let mut text = Text::default();
        text.one("a_total", Kind::Counter, "Help.", u64::MAX);
        text.family("nothing", Kind::Gauge, "None.");
        let mut family = text.family("b", Kind::Gauge, "More.");
        family.value(&[("x", "1"), ("y", "q\"b\\n\nl")], 0.25);
        family.value(&[("x", "2"), ("y", "")], -3);
        let expected = "# HELP a_total Help.\n# TYPE a_total counter\na_total 18446744073709551615\n\
                        # HELP b More.\n# TYPE b gauge\nb{x=\"1\",y=\"q\\\"b\\\\n\\nl\"} 0.25\nb{x=\"2\",y=\"\"} -3\n";
        assert_eq!(text.into_string(), expected);
    }
}
