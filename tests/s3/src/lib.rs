//! An S3 server for tests, in their own process, that can be told to misbehave.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "this crate is test support: what goes wrong ends the test"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The one bucket.
pub const BUCKET: &str = "bucket";
/// Names the key that requests are signed with.
pub const KEY_ID: &str = "key-id";
/// The key.
pub const SECRET: &str = "key-that-nobody-sees";

const NO_SUCH_BUCKET: &[u8] = b"<Error><Code>NoSuchBucket</Code><Message>there is no such bucket</Message></Error>";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing; it only counts.
    None,
    /// It is answered with this status at once.
    Status(u16),
    /// It is never answered.
    Hang,
    /// The connection is reset without an answer.
    Reset,
    /// It is done, and then the connection is reset without an answer.
    DoneThenReset,
    /// Half of the answer's body comes, then the connection is reset.
    HalfBody,
    /// The answer's body is cut in half and announced so.
    ShortBody,
    /// The answer's body comes byte by byte, with pauses.
    Trickle,
    /// A bit of the answer's body is flipped.
    Flip,
}

/// Which requests go wrong, and how often.
#[derive(Clone, Debug)]
struct Rule {
    method: Method,
    parts_of_uri: Vec<String>,
    fault: Fault,
    left: Arc<AtomicUsize>,
}

/// A fault that was asked for.
#[derive(Clone, Debug)]
pub struct Asked(Arc<AtomicUsize>);

impl Asked {
    /// How often it has not happened yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// It happens no more.
    pub fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<String>,
}

/// The server. It ends with this, and its objects are gone.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    root: TempDir,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

impl Server {
    /// Serves the empty bucket [`BUCKET`], whose objects are files.
    pub async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { rules: Vec::new(), seen: Vec::new() }));
        let accepting = tokio::spawn(accept(listener, service, Arc::clone(&state))).abort_handle();
        Self { address, root, state, accepting }
    }

    /// Lets the next `times` requests go wrong that have this method and contain these texts in their URI.
    pub fn fail(&self, method: &Method, parts_of_uri: &[&str], times: usize, fault: Fault) -> Asked {
        let left = Arc::new(AtomicUsize::new(times));
        let parts_of_uri = parts_of_uri.iter().map(|part| (*part).to_owned()).collect();
        let rule = Rule { method: method.clone(), parts_of_uri, fault, left: Arc::clone(&left) };
        self.state.lock().unwrap().rules.push(rule);
        Asked(left)
    }

    /// The requests until now, as `METHOD /uri range`, and forgets them.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// The file of an object.
    #[must_use]
    pub fn file(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }

    /// Keys of all objects.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.root.path().join(BUCKET);
        let (mut keys, mut open) = (Vec::new(), vec![bucket.clone()]);
        while let Some(dir) = open.pop() {
            // A folder may go while it is looked at.
            for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    open.push(path);
                } else {
                    keys.push(path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        // What the server keeps for itself.
        keys.retain(|key| !key.split('/').any(|part| part.starts_with('.')));
        keys.sort();
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: S3Service, state: Arc<Mutex<State>>) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { return };
        // Whatever this side closes early is then a reset and no orderly end.
        connection.set_zero_linger().unwrap();
        let (service, state) = (service.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(service.clone(), Arc::clone(&state), request));
            // Fails when a fault says so.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await;
        });
    }
}

async fn answer(
    service: S3Service,
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let fault = {
        let mut state = state.lock().unwrap();
        let uri = request.uri().to_string();
        let range = request.headers().get(http::header::RANGE).map_or("", |range| range.to_str().unwrap());
        state.seen.push(format!("{} {uri} {range}", request.method()));
        let fits = |rule: &&Rule| {
            rule.method == *request.method()
                && rule.parts_of_uri.iter().all(|part| uri.contains(part))
                && rule.left.load(Ordering::Relaxed) > 0
        };
        state.rules.iter().find(fits).map(|rule| {
            rule.left.fetch_sub(1, Ordering::Relaxed);
            rule.fault
        })
    };
    let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    match fault {
        Some(Fault::Status(status)) => {
            let body =
                stream::once(async { Ok(Frame::data(Bytes::from_static(b"<Error><Code>Injected</Code></Error>"))) });
            return Ok(Response::builder().status(status).body(StreamBody::new(body.boxed())).unwrap());
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset) => return Err(reset()),
        // The server below would say that there is no such object.
        _ if !is_in_bucket(request.uri().path()) => {
            let body = stream::once(async { Ok(Frame::data(Bytes::from_static(NO_SUCH_BUCKET))) });
            return Ok(Response::builder().status(404).body(StreamBody::new(body.boxed())).unwrap());
        }
        _ => {}
    }
    let (mut head, body) =
        service.call(request.map(s3s::Body::from)).await.map_err(std::io::Error::other)?.into_parts();
    let body = BodyExt::collect(body).await.map_err(std::io::Error::other)?.to_bytes();
    let half = body.slice(..body.len() / 2);
    let frames: BoxStream<'static, Result<Bytes, std::io::Error>> = match fault {
        Some(Fault::DoneThenReset) => return Err(reset()),
        Some(Fault::HalfBody) => stream::iter([Ok(half), Err(reset())]).boxed(),
        Some(Fault::ShortBody) => {
            head.headers.insert(http::header::CONTENT_LENGTH, half.len().into());
            stream::iter([Ok(half)]).boxed()
        }
        Some(Fault::Trickle) => trickle(body),
        Some(Fault::Flip) => {
            let mut bytes = body.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            stream::iter([Ok(Bytes::from(bytes))]).boxed()
        }
        _ => stream::iter([Ok(body)]).boxed(),
    };
    Ok(Response::from_parts(head, StreamBody::new(frames.map(|bytes| bytes.map(Frame::data)).boxed())))
}

fn is_in_bucket(path: &str) -> bool {
    path.strip_prefix('/').and_then(|path| path.split('/').next()) == Some(BUCKET)
}

fn trickle(body: Bytes) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    let byte = move |at: usize| {
        let byte = body.get(at..=at).map(Bytes::copy_from_slice);
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            byte.map(|byte| (Ok(byte), at + 1))
        }
    };
    stream::unfold(0, byte).boxed()
}
