//! What happens to a process, and how it is told on the wire.

use bytes::Bytes;
use dormouse_agent_proto::process::process_event::{DataEvent, EndEvent, KeepAlive, StartEvent};
use dormouse_agent_proto::process::{ConnectResponse, ProcessEvent, StartResponse};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_event::data_event::Output as Wire;

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
    Pty,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Exit code, or -1 when a signal ended it.
    exit_code: i32,
    exited: bool,
    status: String,
    error: Option<String>,
    /// Its time limit had passed, so it was killed.
    pub(super) overdue: bool,
}

impl End {
    pub(super) fn of(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match status.code() {
            Some(0) => Self { exit_code: 0, exited: true, status: "exit status 0".into(), error: None, overdue: false },
            Some(code) => {
                let status = format!("exit status {code}");
                Self { exit_code: code, exited: true, error: Some(status.clone()), status, overdue: false }
            }
            None => {
                let status = format!("signal: {}", signal_name(status.signal().unwrap_or(0)));
                Self { exit_code: -1, exited: false, error: Some(status.clone()), status, overdue: false }
            }
        }
    }

    /// The agent could not learn how it ended.
    pub(super) fn unknown(error: &std::io::Error) -> Self {
        Self { exit_code: -1, exited: false, status: "unknown".into(), error: Some(error.to_string()), overdue: false }
    }
}

/// Words that E2B clients know, as Go prints signals.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// One event.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Start(u32),
    Data(Source, Bytes),
    KeepAlive,
    End(End),
}

impl From<Event> for ProcessEvent {
    fn from(event: Event) -> Self {
        let event = match event {
            Event::Start(pid) => StartEvent { pid, ..Default::default() }.into(),
            Event::Data(source, bytes) => {
                DataEvent { output: Some(output(source, &bytes)), ..Default::default() }.into()
            }
            Event::KeepAlive => KeepAlive::default().into(),
            Event::End(End { exit_code, exited, status, error, overdue: _ }) => {
                EndEvent { exit_code, exited, status, error, ..Default::default() }.into()
            }
        };
        Self { event: Some(event), ..Default::default() }
    }
}

fn output(source: Source, bytes: &Bytes) -> Wire {
    let bytes = bytes.to_vec();
    match source {
        Source::Stdout => Wire::Stdout(bytes),
        Source::Stderr => Wire::Stderr(bytes),
        Source::Pty => Wire::Pty(bytes),
    }
}

impl From<Event> for StartResponse {
    fn from(event: Event) -> Self {
        Self { event: ProcessEvent::from(event).into(), ..Default::default() }
    }
}

impl From<Event> for ConnectResponse {
    fn from(event: Event) -> Self {
        Self { event: ProcessEvent::from(event).into(), ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn an_exit_code_and_a_signal_are_told_apart() {
        let exited = End::of(ExitStatus::from_raw(3 << 8));
        assert_eq!((exited.exit_code, exited.exited, exited.status.as_str()), (3, true, "exit status 3"));
        assert_eq!(exited.error.as_deref(), Some("exit status 3"));
        let killed = End::of(ExitStatus::from_raw(9));
        assert_eq!((killed.exit_code, killed.exited, killed.status.as_str()), (-1, false, "signal: killed"));
        assert_eq!(End::of(ExitStatus::from_raw(0)).error, None);
    }
}
