//! Pressure stall information (Documentation/accounting/psi.rst).

use std::time::Duration;

/// How much of the time tasks waited for one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stall {
    /// Percent of the last 10, 60 and 300 seconds.
    pub(crate) percent: [f64; 3],
    /// Since boot.
    pub(crate) total: Duration,
}

/// One resource's pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    /// At least one task waited.
    pub(crate) some: Option<Stall>,
    /// Nobody who wanted to run could.
    pub(crate) full: Option<Stall>,
}

impl Pressure {
    pub(crate) fn parse(text: &str) -> Self {
        let of = |kind: &str| text.lines().find_map(|line| stall(line.strip_prefix(kind)?));
        Self { some: of("some "), full: of("full ") }
    }
}

fn stall(fields: &str) -> Option<Stall> {
    let field = |name: &str| fields.split_whitespace().find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    let percent = |name| field(name)?.parse::<f64>().ok().filter(|p| p.is_finite());
    let total = Duration::from_micros(field("total")?.parse().ok()?);
    Some(Stall { percent: [percent("avg10")?, percent("avg60")?, percent("avg300")?], total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_and_a_broken_line_is_absent() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234567\nfull avg10=x avg60=0.00 avg300=0.00 total=1\n";
        let pressure = Pressure::parse(text);
        let some = Stall { percent: [1.5, 0.25, 0.0], total: Duration::from_micros(1_234_567) };
        assert_eq!(pressure, Pressure { some: Some(some), full: None });
        assert_eq!(Pressure::parse("some avg10=inf avg60=0 avg300=0 total=1"), Pressure::default());
    }
}
