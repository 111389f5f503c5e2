//! One big file into the agent and out of it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dormouse_guest_mem::Bytes;

use super::RunningAgent;
use crate::bench::rate;

const SIZE: u64 = 1 << 30;
/// Wanted: least speed, in GB/s.
const LEAST_RATE: f64 = 1.0;
const CHUNK: usize = 1 << 20;

pub(super) fn measure(agent: &RunningAgent) -> anyhow::Result<()> {
    // In memory, so that the agent is measured and not a disk.
    let folder = tempfile::tempdir_in("/dev/shm").context("a folder in memory")?;
    let path = folder.path().join("file");
    println!("a file of {} through /files, to and from memory", Bytes(SIZE));
    let bare = bare_transfer(folder.path())?;
    let up = timed(agent, || upload(agent, &path))?;
    if fs::metadata(&path)?.len() != SIZE {
        bail!("the uploaded file has a wrong size");
    }
    let down = timed(agent, || download(agent, &path))?;
    for (name, (wall, cpu)) in [("upload", up), ("download", down)] {
        println!("  {name:<10} speed          {:8.2} GB/s (wanted: at least {LEAST_RATE})", rate(SIZE, wall));
        println!("  {name:<10} CPU            {:8.2} s of the agent per GiB", cpu.as_secs_f64());
        println!("  {name:<10} speed / bare   {:8.2}", rate(SIZE, wall) / rate(SIZE, bare));
    }
    Ok(())
}

fn timed(agent: &RunningAgent, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<(Duration, Duration)> {
    let (begin, cpu) = (Instant::now(), agent.cpu_time()?);
    work()?;
    Ok((begin.elapsed(), agent.cpu_time()?.saturating_sub(cpu)))
}

/// The same bytes over a bare connection into a file: what this machine gives at most.
fn bare_transfer(folder: &Path) -> anyhow::Result<Duration> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let path = folder.join("bare");
    let begin = Instant::now();
    let sender = std::thread::spawn(move || send(&mut TcpStream::connect(address)?));
    let (mut stream, _) = listener.accept()?;
    let mut file = File::create(&path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        file.write_all(bytes)?;
    }
    let took = begin.elapsed();
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    fs::remove_file(path)?;
    Ok(took)
}

fn send(stream: &mut TcpStream) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    for _ in 0..SIZE / CHUNK as u64 {
        stream.write_all(&chunk)?;
    }
    Ok(())
}

fn upload(agent: &RunningAgent, path: &Path) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(agent.address)?;
    write!(
        stream,
        "POST /files?path={} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-type: application/octet-stream\r\ncontent-length: {SIZE}\r\n\r\n",
        path.display()
    )?;
    send(&mut stream)?;
    let mut answer = BufReader::new(stream);
    expect_ok(&mut answer)
}

fn download(agent: &RunningAgent, path: &Path) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(agent.address)?;
    write!(stream, "GET /files?path={} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n", path.display())?;
    let mut answer = BufReader::with_capacity(CHUNK, stream);
    expect_ok(&mut answer)?;
    let mut buffer = vec![0; CHUNK];
    let mut got = 0;
    loop {
        let count = answer.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        got += count as u64;
    }
    if got != SIZE {
        bail!("{got} bytes came down instead of {SIZE}");
    }
    Ok(())
}

/// Reads the head of an answer, which must be 200.
fn expect_ok(answer: &mut impl BufRead) -> anyhow::Result<()> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        bail!("the agent answered {}", line.trim());
    }
    while !line.trim().is_empty() {
        line.clear();
        answer.read_line(&mut line)?;
    }
    Ok(())
}
