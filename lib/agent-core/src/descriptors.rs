//! How many descriptors may be open: many for the agent, the customary number for what it starts.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a guest's agent asks for. systemd gives services the same hard limit; a guest's kernel starts PID 1 with 4096.
const WANTED: u64 = 524_288;

/// Lets the agent open as many descriptors as it may, and returns how many it could open before.
///
/// Children inherit the new hard limit, but are to get the old soft one (see [`AgentOptions::open_files`]): there are programs that
/// cannot handle descriptors above 1023, and others that close every possible one.
///
/// [`AgentOptions::open_files`]: crate::AgentOptions::open_files
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let before = getrlimit(Resource::Nofile);
    let own = before.maximum.unwrap_or(WANTED);
    let raised = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    // Only root may go beyond the hard limit.
    if own >= WANTED || setrlimit(Resource::Nofile, raised(WANTED)).is_err() {
        setrlimit(Resource::Nofile, raised(own))?;
    }
    Ok(before.current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_may_open_as_many_as_the_hard_limit_says() {
        let before = getrlimit(Resource::Nofile);
        assert_eq!(raise_descriptor_limit().unwrap(), before.current);
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, after.maximum);
        assert!(after.maximum >= before.maximum);
    }
}
