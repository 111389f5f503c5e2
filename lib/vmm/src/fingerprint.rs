//! What a device state depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that must be the same where a device state is loaded as where it was saved: backend, its version,
/// machine type, accelerator, CPU model, device list. Host paths, ports and MAC addresses are not part of it.
///
/// Equality is needed to restore, though not always a proof that it works: the VMM may still refuse the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// A fingerprint of these facts.
    pub fn new<K: Into<String>, V: Into<String>>(facts: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(facts.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// The value of one fact, if there is such a fact.
    #[must_use]
    pub fn get(&self, fact: &str) -> Option<&str> {
        self.0.get(fact).map(String::as_str)
    }

    /// All facts by name, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// In words, how `snapshot` differs from `self`, which is what this machine offers; `None` if it does not.
    #[must_use]
    pub fn mismatch(&self, snapshot: &Self) -> Option<String> {
        let names = self.0.keys().chain(snapshot.0.keys()).collect::<std::collections::BTreeSet<_>>();
        let differences = names.into_iter().filter_map(|name| {
            let (here, there) = (self.get(name), snapshot.get(name));
            let or_none = |v: Option<&str>| v.unwrap_or("nothing").to_owned();
            (here != there).then(|| format!("{name} is {} here but {} in the snapshot", or_none(here), or_none(there)))
        });
        let text = differences.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named_with_both_values_and_equality_is_silent() {
        let here = Fingerprint::new([("version", "10.0.2"), ("machine", "pc-q35-10.0"), ("accel", "tcg")]);
        let there = Fingerprint::new([("version", "9.2.0"), ("machine", "pc-q35-10.0"), ("cpu", "max")]);
        assert_eq!(here.mismatch(&here), None);
        assert_eq!(
            here.mismatch(&there).as_deref(),
            Some(
                "accel is tcg here but nothing in the snapshot; cpu is nothing here but max in the snapshot; \
                 version is 10.0.2 here but 9.2.0 in the snapshot"
            )
        );
    }
}
