//! Whose owners are looked for, seen by when they are found; and starting what runs.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::ports::scan::Source;
use crate::ports::socket::listening;

/// A listening socket on its way from one process to another: it lives, and no process has it.
struct OnItsWay {
    ends: (UnixStream, UnixStream),
    socket: Socket,
}

impl OnItsWay {
    fn new() -> Self {
        let ends = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = owner::inode(link.to_str().unwrap()).unwrap();
        let socket = Socket { inode, ..listening(&listener.local_addr().unwrap().to_string()) };
        let (handed, mut space) = ([listener.as_fd()], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&handed)));
        sendmsg(&ends.0, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        drop(listener);
        Self { ends, socket }
    }

    /// From now on this process has it.
    fn arrives(&self) -> OwnedFd {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&self.ends.1, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        let files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        files.flatten().next().unwrap()
    }
}

async fn owner_of(ports: &Ports, socket: Socket, searches: &mut Searches) -> Option<u32> {
    let set = describe(ports, &[socket], searches, &Forwarders::new()).await;
    set[&socket.local].owner.as_ref().map(|owner| owner.pid)
}

#[tokio::test]
async fn an_owner_that_was_not_there_at_the_first_looks_is_found_by_the_last_and_by_none_after_that() {
    for (in_vain, found) in [(2, Some(std::process::id())), (3, None)] {
        let (ports, mut searches, on_its_way) = (Ports::new(Vec::new()), Searches::default(), OnItsWay::new());
        for _ in 0..in_vain {
            assert_eq!(owner_of(&ports, on_its_way.socket, &mut searches).await, None, "on its way");
        }
        let _arrived = on_its_way.arrives();
        assert_eq!(owner_of(&ports, on_its_way.socket, &mut searches).await, found, "after {in_vain} looks");
    }
}

#[tokio::test]
async fn the_owner_of_a_socket_that_stays_is_known_and_that_of_a_later_one_there_is_not() {
    let (ports, mut searches, on_its_way) = (Ports::new(Vec::new()), Searches::default(), OnItsWay::new());
    let socket = on_its_way.socket;
    let mut set = describe(&ports, &[socket], &mut searches, &Forwarders::new()).await;
    let known = owner::Owner { pid: 7, command: "known".into(), cgroup: None };
    set.get_mut(&socket.local).unwrap().owner = Some(known);
    ports.board.publish(Source::default(), set);
    assert_eq!(owner_of(&ports, socket, &mut searches).await, Some(7));
    let later = Socket { inode: socket.inode.wrapping_add(1 << 30), ..socket };
    assert_eq!(owner_of(&ports, later, &mut searches).await, None);
}

#[tokio::test]
async fn starting_what_runs_already_cuts_no_forwarded_connection() {
    let guest = IpAddr::from([127, 0, 3, 1]);
    let ports = Arc::new(Ports::new(vec![guest]));
    ports.start();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let mut client = loop {
        match tokio::net::TcpStream::connect((guest, port)).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let (mut peer, _) = server.accept().await.unwrap();
    ports.start();
    // Time enough for the task that runs to notice.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let said = async {
        peer.write_all(b"x").await?;
        client.read_u8().await
    };
    assert_eq!(said.await.expect("the connection lives"), b'x');
    ports.stop().await;
}
