//! What the bench found, for tables, JSON and the picture.

use std::fmt;

use dormouse_guest_mem::Bytes;
use serde::{Serialize, Serializer};

use crate::portion::Portions;
use crate::workload::Workload;

/// A way to decide what a snapshot stores, each with what those above it leave out, from `FreePages` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// All RAM.
    Full,
    /// All pages that are not zero.
    NonZero,
    /// The same after the guest dropped its page cache.
    DropCaches,
    /// The same in a guest that also reports free pages to its balloon.
    Reporting,
    /// The same as `DropCaches` in a guest whose kernel clears pages that are freed.
    InitOnFree,
    /// Pages that are not free by the page structures, page cache kept.
    FreePages,
    /// And equal to no block of the guest's disks.
    Disk,
    /// And neither unchanged since the parent snapshot nor equal to another page.
    Parent,
    /// Those compressed, with index and device state: what dormouse writes.
    Compressed,
}

impl Method {
    /// For tables and the picture.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Full => "full RAM",
            Self::NonZero => "not zero",
            Self::DropCaches => "drop_caches only",
            Self::Reporting => "free page reporting + drop_caches *",
            Self::InitOnFree => "init_on_free + drop_caches *",
            Self::FreePages => "free-page introspection",
            Self::Disk => "+ disk identity",
            Self::Parent => "+ parent, equal pages",
            Self::Compressed => "+ compression: on disk",
        }
    }

    /// Whether it needs a guest of its own, with other devices or kernel arguments.
    pub(crate) fn in_another_guest(self) -> bool {
        matches!(self, Self::Reporting | Self::InitOnFree)
    }
}

/// What one method stores.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) method: Method,
    pub(crate) bytes: Bytes,
    /// What the pages hold. Bytes on disk have no such parts.
    pub(crate) parts: Option<Portions>,
}

impl Row {
    pub(crate) fn pages(method: Method, parts: Portions) -> Self {
        Self { method, bytes: parts.total(), parts: Some(parts) }
    }

    /// Adds what the same method stores of another guest.
    pub(crate) fn add(&mut self, other: &Self) {
        self.bytes.0 += other.bytes.0;
        self.parts = self.parts.zip(other.parts).map(|(own, others)| own + others);
    }
}

/// A quantity with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Size(Bytes),
    /// In percent.
    Share(f64),
    Seconds(f64),
    Millis(f64),
    /// 10⁹ bytes per second.
    Rate(f64),
    Count(u64),
}

impl Value {
    #[expect(clippy::cast_precision_loss, reason = "figures for people and for comparison")]
    pub(crate) fn number(self) -> f64 {
        match self {
            Self::Size(bytes) => bytes.0 as f64,
            Self::Share(value) | Self::Seconds(value) | Self::Millis(value) | Self::Rate(value) => value,
            Self::Count(count) => count as f64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Size(_) => "bytes",
            Self::Share(_) => "percent",
            Self::Seconds(_) => "seconds",
            Self::Millis(_) => "milliseconds",
            Self::Rate(_) => "gigabytes per second",
            Self::Count(_) => "count",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => bytes.fmt(f),
            Self::Share(value) => write!(f, "{value:.2} %"),
            Self::Seconds(value) => write!(f, "{value:.2} s"),
            Self::Millis(value) => write!(f, "{value:.1} ms"),
            Self::Rate(value) => write!(f, "{value:.2} GB/s"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.number())
    }
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    AtMost(Value),
    AtLeast(Value),
}

/// A figure beside what is wanted of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) value: Value,
    unit: &'static str,
    pub(crate) wanted: Option<Wanted>,
    met: Option<bool>,
}

impl Check {
    /// A figure of which nothing is wanted.
    pub(crate) fn plain(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value, unit: value.unit(), wanted: None, met: None }
    }

    pub(crate) fn at_most(name: impl Into<String>, value: Value, most: Value) -> Self {
        let met = Some(value.number() <= most.number());
        Self { wanted: Some(Wanted::AtMost(most)), met, ..Self::plain(name, value) }
    }

    pub(crate) fn at_least(name: impl Into<String>, value: Value, least: Value) -> Self {
        let met = Some(value.number() >= least.number());
        Self { wanted: Some(Wanted::AtLeast(least)), met, ..Self::plain(name, value) }
    }

    /// Whether it is not what is wanted.
    pub(crate) fn missed(&self) -> bool {
        self.met == Some(false)
    }
}

/// All figures of one workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) workload: Workload,
    pub(crate) title: &'static str,
    /// Guest RAM, of all guests together.
    pub(crate) ram: Bytes,
    pub(crate) kernel: String,
    pub(crate) methods: Vec<Row>,
    pub(crate) checks: Vec<Check>,
    /// More lines for people.
    pub(crate) notes: Vec<String>,
}

/// `part` in percent of `whole`.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn percent(part: Bytes, whole: Bytes) -> f64 {
    part.0 as f64 * 100.0 / whole.0.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_missed_only_beyond_what_is_wanted() {
        let most = Value::Share(0.5);
        assert!(!Check::at_most("a", Value::Share(0.5), most).missed());
        assert!(Check::at_most("a", Value::Share(0.51), most).missed());
        assert!(Check::at_least("a", Value::Rate(0.9), Value::Rate(1.0)).missed());
        assert!(!Check::plain("a", Value::Rate(0.9)).missed());
    }

    #[test]
    fn json_has_plain_numbers_and_says_whether_the_wish_is_met() {
        let check = Check::at_most("stored", Value::Size(Bytes(3)), Value::Size(Bytes(2)));
        let json = serde_json::to_value(&check).unwrap();
        let wanted = serde_json::json!({"name": "stored", "value": 3.0, "unit": "bytes",
            "wanted": {"at_most": 2.0}, "met": false});
        assert_eq!(json, wanted);
    }
}
