//! One connection: commands matched with their replies, each within a deadline.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::protocol::{Lines, Message, QmpError, command_line, parse};

type Reply = Result<Value, QmpError>;

/// A QMP connection in command mode. Commands may be sent from several tasks. Dropping it closes the connection, after
/// which QEMU accepts the next one.
pub(crate) struct Qmp<S> {
    writer: tokio::sync::Mutex<WriteHalf<S>>,
    waiting: Arc<Mutex<Waiting>>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Waiting {
    next_id: u64,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    /// Why the connection ended.
    ended: Option<QmpError>,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Qmp<S> {
    /// Waits for the greeting and enters command mode.
    pub(crate) async fn negotiate(stream: S, deadline: Duration) -> Result<Self, QmpError> {
        let (from, to) = tokio::io::split(stream);
        let mut lines = Lines::new(from);
        let late = |_| QmpError::Deadline { command: "greeting".into(), after: deadline };
        let first = timeout(deadline, lines.next()).await.map_err(late)??;
        if parse(&first)? != Message::Greeting {
            return Err(QmpError::Protocol("something before its greeting"));
        }
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let reader = tokio::spawn(read_all(lines, Arc::clone(&waiting)));
        let client = Self { writer: tokio::sync::Mutex::new(to), waiting, reader };
        client.execute("qmp_capabilities", json!({}), deadline).await?;
        Ok(client)
    }

    /// Sends `command` and waits for its result. `arguments` is a JSON object.
    ///
    /// After a missed deadline the command may still take effect, and its late reply is dropped.
    pub(crate) async fn execute(&self, command: &str, arguments: Value, deadline: Duration) -> Reply {
        let exchange = self.exchange(command, &arguments);
        timeout(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(QmpError::Deadline { command: command.to_owned(), after: deadline }))
    }

    async fn exchange(&self, command: &str, arguments: &Value) -> Reply {
        let (id, reply) = register(&self.waiting)?;
        let _forget = Forget { waiting: &self.waiting, id };
        let mut writer = self.writer.lock().await;
        let mut cut = CutWrite { waiting: &self.waiting, done: false };
        let sent = writer.write_all(&command_line(id, command, arguments)).await;
        cut.done = true;
        drop(writer);
        sent.map_err(|e| QmpError::Io(e.kind()))?;
        match reply.await.unwrap_or(Err(QmpError::Closed)) {
            Err(QmpError::Refused { reason, .. }) => Err(QmpError::Refused { command: command.to_owned(), reason }),
            other => other,
        }
    }
}

impl<S> Drop for Qmp<S> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Takes a reply slot back when nobody waits any more, so that a silent QEMU leaves nothing piling up.
struct Forget<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        locked(self.waiting).replies.remove(&self.id);
    }
}

/// Declares the connection unusable when a write may have been given up half-way: the next command would be glued
/// to its rest.
struct CutWrite<'a> {
    waiting: &'a Mutex<Waiting>,
    done: bool,
}

impl Drop for CutWrite<'_> {
    fn drop(&mut self) {
        if !self.done {
            end(self.waiting, &QmpError::Closed);
        }
    }
}

fn locked(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(waiting: &Mutex<Waiting>) -> Result<(u64, oneshot::Receiver<Reply>), QmpError> {
    let mut waiting = locked(waiting);
    if let Some(why) = &waiting.ended {
        return Err(why.clone());
    }
    let id = waiting.next_id;
    waiting.next_id += 1;
    let (sender, receiver) = oneshot::channel();
    waiting.replies.insert(id, sender);
    Ok((id, receiver))
}

fn end(waiting: &Mutex<Waiting>, why: &QmpError) {
    let mut waiting = locked(waiting);
    waiting.ended.get_or_insert_with(|| why.clone());
    for (_, reply) in waiting.replies.drain() {
        let _ = reply.send(Err(why.clone()));
    }
}

async fn read_all<R: AsyncRead + Unpin>(mut lines: Lines<R>, waiting: Arc<Mutex<Waiting>>) {
    let why = loop {
        match lines.next().await.and_then(|line| parse(&line)) {
            Ok(Message::Event) => {}
            Ok(Message::Return { id, value }) => answer(&waiting, id, Ok(value)),
            Ok(Message::Error { id: Some(id), reason }) => {
                answer(&waiting, id, Err(QmpError::Refused { command: String::new(), reason }));
            }
            Ok(Message::Error { id: None, .. }) => break QmpError::Protocol("an error that belongs to no command"),
            Ok(Message::Greeting) => break QmpError::Protocol("a second greeting"),
            Err(why) => break why,
        }
    };
    end(&waiting, &why);
}

/// A reply that nobody waits for is dropped: its command missed its deadline, or QEMU made it up.
fn answer(waiting: &Mutex<Waiting>, id: u64, reply: Reply) {
    if let Some(sender) = locked(waiting).replies.remove(&id) {
        let _ = sender.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, ReadHalf};

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const GREETING: &str = "{\"QMP\": {}}\n";

    /// The other end: what QEMU would be.
    struct Fake {
        commands: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
        to: WriteHalf<DuplexStream>,
    }

    impl Fake {
        async fn say(&mut self, line: &str) {
            self.to.write_all(line.as_bytes()).await.unwrap();
        }

        async fn heard(&mut self) -> Value {
            serde_json::from_str(&self.commands.next_line().await.unwrap().unwrap()).unwrap()
        }
    }

    async fn connected() -> (Arc<Qmp<DuplexStream>>, Fake) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (from, to) = tokio::io::split(theirs);
        let mut fake = Fake { commands: BufReader::new(from).lines(), to };
        fake.say(GREETING).await;
        let client = tokio::spawn(Qmp::negotiate(ours, SOON));
        assert_eq!(fake.heard().await["execute"], "qmp_capabilities");
        fake.say("{\"return\": {}, \"id\": 0}\n").await;
        (Arc::new(client.await.unwrap().unwrap()), fake)
    }

    fn ask(client: &Arc<Qmp<DuplexStream>>, command: &'static str) -> JoinHandle<Reply> {
        let client = Arc::clone(client);
        tokio::spawn(async move { client.execute(command, json!({}), SOON).await })
    }

    #[tokio::test]
    async fn replies_out_of_order_find_their_commands() {
        let (client, mut fake) = connected().await;
        let first = ask(&client, "one");
        let first_id = fake.heard().await["id"].as_u64().unwrap();
        let second = ask(&client, "two");
        let second_id = fake.heard().await["id"].as_u64().unwrap();
        fake.say(&format!("{{\"return\": 2, \"id\": {second_id}}}\n{{\"return\": 1, \"id\": {first_id}}}\n")).await;
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(json!(1)), Ok(json!(2))));
    }

    #[tokio::test]
    async fn a_refusal_names_the_command_and_qemus_reason() {
        let (client, mut fake) = connected().await;
        let reply = ask(&client, "cont");
        let id = fake.heard().await["id"].clone();
        fake.say(&format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no\"}}, \"id\": {id}}}\n")).await;
        let error = reply.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "`cont` was refused: no (GenericError)");
    }

    #[tokio::test]
    async fn a_silent_qemu_costs_the_deadline_and_its_late_reply_confuses_nobody() {
        let (client, mut fake) = connected().await;
        let late = ask(&client, "stop");
        let id = fake.heard().await["id"].clone();
        assert_eq!(late.await.unwrap(), Err(QmpError::Deadline { command: "stop".into(), after: SOON }));
        assert!(locked(&client.waiting).replies.is_empty(), "a given-up command leaves nothing behind");
        let next = ask(&client, "cont");
        let next_id = fake.heard().await["id"].clone();
        fake.say(&format!("{{\"return\": \"late\", \"id\": {id}}}\n{{\"return\": \"ok\", \"id\": {next_id}}}\n")).await;
        assert_eq!(next.await.unwrap(), Ok(json!("ok")));
    }

    #[tokio::test]
    async fn when_the_connection_ends_every_waiting_and_later_command_fails_at_once() {
        let (client, mut fake) = connected().await;
        let waiting = ask(&client, "stop");
        fake.heard().await;
        drop(fake);
        assert_eq!(waiting.await.unwrap(), Err(QmpError::Closed));
        assert_eq!(ask(&client, "cont").await.unwrap(), Err(QmpError::Closed));
    }

    #[tokio::test]
    async fn a_qemu_that_breaks_the_protocol_is_cut_off() {
        let (client, mut fake) = connected().await;
        let waiting = ask(&client, "stop");
        fake.heard().await;
        fake.say("gibberish\n").await;
        assert_eq!(waiting.await.unwrap(), Err(QmpError::Protocol("a line that is no message")));
    }

    #[tokio::test]
    async fn events_between_command_and_reply_are_passed_over() {
        let (client, mut fake) = connected().await;
        let reply = ask(&client, "cont");
        let id = fake.heard().await["id"].clone();
        fake.say(&format!("{{\"event\": \"RESUME\"}}\n{{\"return\": 0, \"id\": {id}}}\n")).await;
        assert_eq!(reply.await.unwrap(), Ok(json!(0)));
    }

    #[tokio::test]
    async fn no_greeting_in_time_is_a_deadline_error() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let error = Qmp::negotiate(ours, SOON).await.err();
        assert_eq!(error, Some(QmpError::Deadline { command: "greeting".into(), after: SOON }));
    }
}
