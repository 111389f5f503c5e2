//! From the end of a process in a sandbox to an exit code of ours.

use dormouse_agent_proto::process::process_event::EndEvent;

/// The process's own code, or 128 plus the signal's number, as shells have it.
pub(super) fn code(end: &EndEvent) -> u8 {
    if end.exited {
        return u8::try_from(end.exit_code & 0xff).unwrap_or(u8::MAX);
    }
    end.status.strip_prefix("signal: ").map_or(u8::MAX, |name| 128u8.saturating_add(number(name)))
}

/// The agent tells signals in the words of Go, as E2B's does.
fn number(name: &str) -> u8 {
    // The agent may add that a core was dumped.
    let name = name.split(" (").next().unwrap_or(name);
    match name {
        "hangup" => 1,
        "interrupt" => 2,
        "quit" => 3,
        "illegal instruction" => 4,
        "trace/breakpoint trap" => 5,
        "aborted" => 6,
        "bus error" => 7,
        "floating point exception" => 8,
        "killed" => 9,
        "user defined signal 1" => 10,
        "segmentation fault" => 11,
        "user defined signal 2" => 12,
        "broken pipe" => 13,
        "alarm clock" => 14,
        "terminated" => 15,
        other => other.strip_prefix("signal ").and_then(|n| n.parse().ok()).unwrap_or(127),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(exited: bool, exit_code: i32, status: &str) -> EndEvent {
        EndEvent { exited, exit_code, status: status.into(), ..EndEvent::default() }
    }

    #[test]
    fn a_code_is_passed_on_and_a_signal_becomes_128_plus_its_number() {
        assert_eq!(code(&end(true, 0, "exit status 0")), 0);
        assert_eq!(code(&end(true, 77, "exit status 77")), 77);
        assert_eq!(code(&end(false, -1, "signal: killed")), 137);
        assert_eq!(code(&end(false, -1, "signal: terminated")), 143);
        assert_eq!(code(&end(false, -1, "signal: segmentation fault (core dumped)")), 139);
        assert_eq!(code(&end(false, -1, "signal: signal 31")), 159);
    }

    #[test]
    fn an_end_that_cannot_be_understood_is_no_success() {
        for odd in [end(false, 0, ""), end(false, 0, "signal: "), end(false, 0, "stopped")] {
            assert_eq!(code(&odd), 255);
        }
    }
}
