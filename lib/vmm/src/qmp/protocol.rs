//! Messages: how commands are written and what QEMU's lines mean.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer line ends the connection. QEMU's own longest (text of the human monitor) stay well below.
pub(super) const MAX_LINE: usize = 1 << 20;

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QmpError {
    /// QEMU refused the command.
    #[error("`{command}` was refused: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer to `{command}` within {after:?}")]
    Deadline {
        /// The command, or `greeting`.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// QEMU broke the protocol; the connection was closed.
    #[error("QEMU sent {0}; the connection was closed")]
    Protocol(&'static str),
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
}

/// What a line from QEMU says.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Greeting,
    Return {
        id: u64,
        value: Value,
    },
    /// `id` is missing when QEMU could not parse the command.
    Error {
        id: Option<u64>,
        reason: String,
    },
    /// Nothing here acts on events: the state is asked for when it matters.
    Event,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<serde::de::IgnoredAny>,
    event: Option<serde::de::IgnoredAny>,
    id: Option<u64>,
    error: Option<Refusal>,
    #[serde(rename = "return")]
    value: Option<Value>,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

#[derive(Serialize)]
struct Command<'a> {
    execute: &'a str,
    arguments: &'a Value,
    id: u64,
}

/// The line that asks for `command`. `arguments` is a JSON object.
pub(super) fn command_line(id: u64, command: &str, arguments: &Value) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Command { execute: command, arguments, id }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Takes one line apart.
pub(super) fn parse(line: &[u8]) -> Result<Message, QmpError> {
    let line: Line = serde_json::from_slice(line).map_err(|_| QmpError::Protocol("a line that is no message"))?;
    match line {
        Line { greeting: Some(_), .. } => Ok(Message::Greeting),
        Line { event: Some(_), .. } => Ok(Message::Event),
        Line { error: Some(e), id, .. } => Ok(Message::Error { id, reason: format!("{} ({})", e.desc, e.class) }),
        Line { value: Some(value), id: Some(id), .. } => Ok(Message::Return { id, value }),
        _ => Err(QmpError::Protocol("a message of an unknown kind")),
    }
}

/// Cuts a stream into lines of at most [`MAX_LINE`] bytes.
pub(super) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that hold no line end.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), searched: 0 }
    }

    /// The next line without its end. Loses nothing when its future is dropped.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, QmpError> {
        loop {
            let new = self.buffer.iter().skip(self.searched).position(|&b| b == b'\n');
            if let Some(at) = new {
                let mut line = self.buffer.drain(..=self.searched + at).collect::<Vec<_>>();
                line.pop();
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= MAX_LINE {
                return Err(QmpError::Protocol("an endless line"));
            }
            let read = self.from.read_buf(&mut self.buffer).await.map_err(|e| QmpError::Io(e.kind()))?;
            if read == 0 {
                return Err(QmpError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn the_messages_of_a_real_session_are_understood() {
        let greeting =
            br#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}"#;
        assert_eq!(parse(greeting), Ok(Message::Greeting));
        assert_eq!(parse(br#"{"return": {}, "id": 7}"#), Ok(Message::Return { id: 7, value: json!({}) }));
        let event = br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;
        assert_eq!(parse(event), Ok(Message::Event));
        let error = br#"{"id": 3, "error": {"class": "CommandNotFound", "desc": "no such command"}}"#;
        let reason = "no such command (CommandNotFound)".to_owned();
        assert_eq!(parse(error), Ok(Message::Error { id: Some(3), reason }));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in ["", "{}", "[]", "null", r#"{"return": {}}"#, r#"{"return": {}, "id": -1}"#, "\u{0}", deep.as_str()]
        {
            assert!(matches!(parse(bad.as_bytes()), Err(QmpError::Protocol(_))), "{bad:.20}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn lines_come_out_whole_however_they_are_cut_on_the_way(
            lines in prop::collection::vec("[a-z]{0,40}", 0..10),
            cut in 1usize..20,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut to, from) = tokio::io::duplex(cut);
                let text = lines.iter().map(|l| format!("{l}\n")).collect::<String>();
                let writer = tokio::spawn(async move { to.write_all(text.as_bytes()).await });
                let mut reader = Lines::new(from);
                for line in &lines {
                    assert_eq!(reader.next().await.unwrap(), line.as_bytes());
                }
                assert_eq!(reader.next().await, Err(QmpError::Closed));
                writer.await.unwrap().unwrap();
            });
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up_at_the_cap() {
        let mut reader = Lines::new(tokio::io::repeat(b'x'));
        assert_eq!(reader.next().await, Err(QmpError::Protocol("an endless line")));
        assert!(reader.buffer.len() < 2 * MAX_LINE);
    }
}
