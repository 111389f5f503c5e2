//! Whose owners are looked for. That is a look through all processes, and some sockets have no owner that could be found: those of the
//! kernel, and those of processes that the agent may not look into.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Looks that a socket is worth. A process that is just handing it on is found by a later one.
const TRIES: u8 = 3;

/// A socket: the address that it is bound to, and its inode, which tells it from a later one there.
pub(super) type Bound = (SocketAddr, u32);

/// The sockets without a known owner, and how often those were looked for.
#[derive(Debug, Default)]
pub(super) struct Searches(BTreeMap<Bound, u8>);

impl Searches {
    /// Those of `ownerless` that are worth another look, which counts as done. What is not among them is forgotten.
    pub(super) fn due(&mut self, ownerless: &[Bound]) -> Vec<Bound> {
        let tries = |bound| self.0.get(bound).copied().unwrap_or_default();
        let counted = ownerless.iter().map(|bound| (*bound, tries(bound)));
        let (due, in_vain): (Vec<_>, Vec<_>) = counted.partition(|(_, tries)| *tries < TRIES);
        self.0 = due.iter().map(|(bound, tries)| (*bound, tries + 1)).chain(in_vain).collect();
        due.into_iter().map(|(bound, _)| bound).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_looked_for_a_few_times_and_for_a_new_socket_again() {
        let at: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let mut searches = Searches::default();
        for _ in 0..TRIES {
            assert_eq!(searches.due(&[(at, 1)]), [(at, 1)]);
        }
        for _ in 0..100 {
            assert!(searches.due(&[(at, 1)]).is_empty());
        }
        assert_eq!(searches.due(&[(at, 1), (at, 2)]), [(at, 2)]);
        assert!(searches.due(&[]).is_empty());
        assert_eq!(searches.due(&[(at, 1)]), [(at, 1)], "it was gone in between");
    }
}
