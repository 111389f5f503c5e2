//! Many connections, and one without an end.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::holdings::{alone, resident};
use crate::support::agent;

/// Raises this program's limit and tells how many connections it can hold, both ends of each.
fn most_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()) / 2 - 100
}

#[tokio::test]
async fn a_request_under_way_is_not_closed_for_newcomers() {
    let _alone = alone().await;
    let count = most_connections().min(2000);
    let agent = agent().await;
    let (ran, idle) = tokio::join!(agent.sh("head -c 1 /dev/zero; sleep 3; echo done"), async {
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            idle.push(TcpStream::connect(agent.address).await.unwrap());
        }
        idle
    });
    assert!(ran.stdout.ends_with("done\n"), "{ran:?}");
    drop(idle);
}

#[tokio::test]
async fn a_burst_of_connections_is_kept_until_it_is_accepted() {
    let _alone = alone().await;
    let agent = agent().await;
    // This thread is the agent's too, so nothing is accepted meanwhile: who finds no place fails, and is not just late.
    let connect = |_| std::net::TcpStream::connect_timeout(&agent.address, Duration::from_secs(10)).unwrap();
    let burst: Vec<_> = (0..500).map(connect).collect();
    assert_eq!(agent.get("/health").await.status, 204);
    drop(burst);
}

#[tokio::test]
async fn a_client_that_never_stops_sending_after_its_refusal_is_cut_off() {
    let _alone = alone().await;
    let agent = agent().await;
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let endless = format!("DELETE /files HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2);
    stream.write_all(endless.as_bytes()).await.unwrap();
    let (piece, memory, mut sent) = (vec![0; 1 << 20], resident(), 0_usize);
    while stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 4 << 30, "nothing stops it");
    }
    println!("cut off after {sent} bytes");
    assert!(resident() < memory + (16 << 20), "what it sent is not kept");
}
