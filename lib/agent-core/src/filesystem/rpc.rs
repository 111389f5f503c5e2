//! The service `filesystem.Filesystem`.

use std::path::PathBuf;
use std::sync::Arc;

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use dormouse_agent_proto::filesystem::{
    CreateWatcherRequest, CreateWatcherResponse, Filesystem, GetWatcherEventsRequest, GetWatcherEventsResponse,
    ListDirRequest, ListDirResponse, MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse, RemoveRequest,
    RemoveResponse, RemoveWatcherRequest, RemoveWatcherResponse, StatRequest, StatResponse, WatchDirRequest,
    WatchDirResponse,
};

use super::entry::entry;
use super::list::list;
use super::watch_stream::watch_stream;
use super::{FilesystemError, change};
use crate::agent::Agent;
use crate::identity::{User, basic_user, resolve};
use crate::server::keepalive;
use crate::watch::WatchSpec;

pub(crate) struct FilesystemRpc {
    agent: Arc<Agent>,
}

impl FilesystemRpc {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent }
    }

    fn user(&self, context: &RequestContext) -> Result<User, ConnectError> {
        let name = basic_user(context.headers()).unwrap_or_else(|| self.agent.settings.default_user());
        Ok(self.agent.users.lookup(&name)?)
    }

    /// Runs `work`, which blocks, off the agent's thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Agent) -> Result<T, FilesystemError> + Send + 'static,
    ) -> Result<T, ConnectError> {
        let agent = Arc::clone(&self.agent);
        let done = tokio::task::spawn_blocking(move || work(&agent)).await;
        Ok(done.map_err(|error| ConnectError::internal(error.to_string()))??)
    }
}

fn place(path: &str, user: &User) -> Result<PathBuf, ConnectError> {
    resolve(path, &user.home, &user.home).map_err(|error| ConnectError::invalid_argument(error.to_string()))
}

#[expect(refining_impl_trait, reason = "concrete response types are simpler and nobody names the trait's")]
impl Filesystem for FilesystemRpc {
    async fn stat(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, StatRequest>,
    ) -> ServiceResult<StatResponse> {
        let path = place(request.path, &self.user(&context)?)?;
        let entry = self.blocking(move |agent| entry(&path, &agent.users.names())).await?;
        Response::ok(StatResponse { entry: entry.into(), ..Default::default() })
    }

    async fn make_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, MakeDirRequest>,
    ) -> ServiceResult<MakeDirResponse> {
        let user = self.user(&context)?;
        let path = place(request.path, &user)?;
        let entry = self
            .blocking(move |agent| change::make_dir(&path, &user).and_then(|()| entry(&path, &agent.users.names())))
            .await?;
        Response::ok(MakeDirResponse { entry: entry.into(), ..Default::default() })
    }

    async fn r#move(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, MoveRequest>,
    ) -> ServiceResult<MoveResponse> {
        let user = self.user(&context)?;
        let (source, destination) = (place(request.source, &user)?, place(request.destination, &user)?);
        let entry = self
            .blocking(move |agent| {
                change::move_entry(&source, &destination, &user)?;
                entry(&destination, &agent.users.names())
            })
            .await?;
        Response::ok(MoveResponse { entry: entry.into(), ..Default::default() })
    }

    async fn list_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ListDirRequest>,
    ) -> ServiceResult<ListDirResponse> {
        let (path, depth) = (place(request.path, &self.user(&context)?)?, request.depth);
        let entries = self.blocking(move |agent| list(&path, depth, &agent.users.names())).await?;
        Response::ok(ListDirResponse { entries, ..Default::default() })
    }

    async fn remove(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, RemoveRequest>,
    ) -> ServiceResult<RemoveResponse> {
        let path = place(request.path, &self.user(&context)?)?;
        self.blocking(move |_| change::remove(&path)).await?;
        Response::ok(RemoveResponse::default())
    }

    async fn watch_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, WatchDirRequest>,
    ) -> ServiceResult<ServiceStream<WatchDirResponse>> {
        let spec = WatchSpec {
            root: place(request.path, &self.user(&context)?)?,
            recursive: request.recursive,
            entries: request.include_entry,
            network: request.allow_network_mounts,
        };
        let watching = self.agent.watchers.watch(spec).await?;
        Response::ok(watch_stream(watching, keepalive(context.headers()), context.time_remaining()))
    }

    async fn create_watcher(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, CreateWatcherRequest>,
    ) -> ServiceResult<CreateWatcherResponse> {
        let spec = WatchSpec {
            root: place(request.path, &self.user(&context)?)?,
            recursive: request.recursive,
            entries: request.include_entry,
            network: request.allow_network_mounts,
        };
        let watcher_id = self.agent.watchers.create(spec).await?;
        Response::ok(CreateWatcherResponse { watcher_id, ..Default::default() })
    }

    async fn get_watcher_events(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, GetWatcherEventsRequest>,
    ) -> ServiceResult<GetWatcherEventsResponse> {
        let events = self.agent.watchers.fetch(request.watcher_id).await?;
        Response::ok(GetWatcherEventsResponse { events, ..Default::default() })
    }

    async fn remove_watcher(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, RemoveWatcherRequest>,
    ) -> ServiceResult<RemoveWatcherResponse> {
        self.agent.watchers.remove(request.watcher_id)?;
        Response::ok(RemoveWatcherResponse::default())
    }
}

impl From<FilesystemError> for ConnectError {
    fn from(error: FilesystemError) -> Self {
        let message = error.to_string();
        match error {
            FilesystemError::NotFound(_) => Self::not_found(message),
            FilesystemError::DirectoryExists(_) => Self::already_exists(message),
            FilesystemError::NotDirectory(_) | FilesystemError::Root => Self::invalid_argument(message),
            FilesystemError::TooMany(_) => Self::resource_exhausted(message),
            FilesystemError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => Self::permission_denied(message),
                std::io::ErrorKind::AlreadyExists => Self::already_exists(message),
                std::io::ErrorKind::StorageFull => Self::resource_exhausted(message),
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidFilename => {
                    Self::invalid_argument(message)
                }
                _ => Self::internal(message),
            },
        }
    }
}
