//! Listening ports: found, published, reachable, and stopped around a snapshot. Each test has a guest address of its own, so that
//! their agents do not take each other's ports, and runs alone, since each agent would list the others' forwarders.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{TestAgent, agent_at, eventually, stretched};

fn guest(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 1, last])
}

/// One test at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

/// A server of the loopback that says "hello" to everybody.
async fn server(address: &str) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = client.write_all(b"hello").await;
                let _ = client.read(&mut [0; 1]).await;
            });
        }
    };
    (port, tokio::spawn(serving))
}

async fn hears_hello(address: SocketAddr) -> bool {
    let Ok(mut client) = TcpStream::connect(address).await else { return false };
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.is_ok() && &answer == b"hello"
}

/// What the agent lists of `port`, as (address, forwarded).
async fn listed(agent: &TestAgent, port: u16) -> Vec<(String, bool)> {
    let list = agent.get("/ports").await.json();
    let ports = list["ports"].as_array().unwrap().iter().filter(|one| one["port"] == port);
    ports.map(|one| (one["address"].as_str().unwrap().to_owned(), one["forwarded"].as_bool().unwrap())).collect()
}

async fn events(agent: &TestAgent) -> Lines<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    stream.write_all(b"GET /ports/events HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    BufReader::new(stream).lines()
}

/// Reads on until an event for which `wanted` holds, at most 10 s, stretched.
async fn until(lines: &mut Lines<BufReader<TcpStream>>, wanted: impl Fn(&serde_json::Value) -> bool) {
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            // Heads and the sizes of chunks are between them.
            if serde_json::from_str(&line).is_ok_and(|event| wanted(&event)) {
                return;
            }
        }
        panic!("the stream ended");
    };
    tokio::time::timeout(stretched(Duration::from_secs(10)), reading).await.expect("in time");
}

async fn is_listed_with_its_owner_and_reached(last: u8, server_at: &str) {
    let agent = agent_at(guest(last)).await;
    let (port, _serving) = server(server_at).await;
    eventually("reachable", async || hears_hello((guest(last), port).into()).await).await;
    eventually("listed", async || !listed(&agent, port).await.is_empty()).await;
    let list = agent.get("/ports").await.json();
    let one = list["ports"].as_array().unwrap().iter().find(|one| one["port"] == port).unwrap().clone();
    assert_eq!((one["scope"].as_str(), one["forwarded"].as_bool()), (Some("loopback"), Some(true)), "{one}");
    assert_eq!(one["pid"], std::process::id(), "{one}");
    assert_eq!(one["uid"], rustix::process::geteuid().as_raw(), "{one}");
    assert!(["netlink", "proc"].contains(&list["source"].as_str().unwrap()));
    assert_eq!(listed(&agent, port).await.len(), 1, "the forwarder itself is not listed");
}

#[tokio::test]
async fn a_server_on_the_loopback_is_listed_with_its_owner_and_reached_on_the_guest_address() {
    let _alone = alone().await;
    is_listed_with_its_owner_and_reached(1, "127.0.0.1:0").await;
}

#[tokio::test]
async fn a_server_on_the_loopback_of_ipv6_is_reached_on_the_guest_address_too() {
    let _alone = alone().await;
    is_listed_with_its_owner_and_reached(2, "[::1]:0").await;
}

#[tokio::test]
async fn the_agents_own_port_is_neither_listed_nor_forwarded() {
    let _alone = alone().await;
    let agent = agent_at(guest(3)).await;
    let (port, _serving) = server("127.0.0.1:0").await;
    eventually("scanned", async || listed(&agent, port).await.len() == 1).await;
    assert!(listed(&agent, agent.address.port()).await.is_empty());
    assert!(TcpStream::connect((guest(3), agent.address.port())).await.is_err());
}

#[tokio::test]
async fn the_event_stream_tells_the_set_and_then_opens_and_closes() {
    let _alone = alone().await;
    let agent = agent_at(guest(4)).await;
    let mut lines = events(&agent).await;
    until(&mut lines, |event| event["event"] == "set").await;
    let (port, serving) = server("127.0.0.1:0").await;
    until(&mut lines, |event| event["event"] == "open" && event["port"]["port"] == port).await;
    serving.abort();
    until(&mut lines, |event| event["event"] == "close" && event["port"]["port"] == port).await;
}

#[tokio::test]
async fn a_server_that_moves_to_the_wildcard_address_gets_its_port() {
    let _alone = alone().await;
    let agent = agent_at(guest(5)).await;
    let (port, serving) = server("127.0.0.1:0").await;
    eventually("reachable", async || hears_hello((guest(5), port).into()).await).await;
    serving.abort();
    let _ = serving.await;
    let mut wildcard = None;
    eventually("the port is free", async || {
        wildcard = std::net::TcpListener::bind(("0.0.0.0", port)).ok();
        wildcard.is_some()
    })
    .await;
    eventually("listed anew", async || listed(&agent, port).await == [("0.0.0.0".into(), false)]).await;
}

#[tokio::test]
async fn a_server_on_the_guest_address_is_left_alone() {
    let _alone = alone().await;
    let agent = agent_at(guest(6)).await;
    let outer = std::net::TcpListener::bind((guest(6), 0)).unwrap();
    let port = outer.local_addr().unwrap().port();
    let inner = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    eventually("both listed", async || listed(&agent, port).await.len() == 2).await;
    assert!(listed(&agent, port).await.iter().all(|(_, forwarded)| !forwarded));
    drop((outer, inner));
}

#[tokio::test]
async fn nothing_is_forwarded_while_a_snapshot_is_prepared() {
    let _alone = alone().await;
    let agent = agent_at(guest(7)).await;
    let (port, _serving) = server("127.0.0.1:0").await;
    let at = SocketAddr::from((guest(7), port));
    eventually("reachable", async || hears_hello(at).await).await;
    let mut open = TcpStream::connect(at).await.unwrap();
    open.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
    let ended =
        tokio::time::timeout(stretched(Duration::from_secs(10)), open.read(&mut [0; 1])).await.expect("it ends");
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(TcpStream::connect(at).await.is_err());
    assert_eq!(agent.get("/ports").await.status, 503);
    agent.post("/snapshot/abort", "").await;
    eventually("reachable again", async || hears_hello(at).await).await;
}

#[tokio::test]
async fn after_twenty_cycles_no_port_is_lost_or_doubled() {
    let _alone = alone().await;
    let agent = agent_at(guest(8)).await;
    let mut servers = Vec::new();
    for address in ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0"] {
        servers.push(server(address).await);
    }
    for cycle in 0..20 {
        assert_eq!(agent.post("/snapshot/prepare", "").await.status, 204);
        let undo = if cycle % 2 == 0 { "/snapshot/abort" } else { "/init" };
        assert_eq!(agent.post(undo, "").await.status, 204);
        for (port, _) in &servers {
            eventually("reachable", async || hears_hello((guest(8), *port).into()).await).await;
        }
    }
    for (port, _) in &servers {
        eventually("forwarded once", async || {
            let found = listed(&agent, *port).await;
            found.len() == 1 && found[0].1
        })
        .await;
    }
}
