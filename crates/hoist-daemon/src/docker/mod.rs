//! Door 1: Docker's HTTP API. A handler decodes, makes one call, encodes; what is legal is decided by the engine.

mod answer;
mod commit;
mod containers;
mod df;
mod events;
mod exec;
mod export;
mod hijack;
mod images;
mod linger;
mod networks;
mod query;
mod run;
mod search;
mod streams;
mod system;
mod target;
mod versions;

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::Arc;

use hoist_api::error::Error;
use hoist_api::routes::{self, Operation, Own};
use hoist_engine::Engine;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use crate::listen::Door;
use crate::quiet::{self, Activity};
use answer::{Answer, Body};
use query::Query;
use target::Encoding;
use versions::ApiVersion;

/// Longest JSON body, in bytes. (Archives are streamed and bounded elsewhere.)
const MAX_JSON_BYTES: usize = 8 * 1024 * 1024;

/// One request, with everything about it that handlers need.
struct Call {
    engine: Arc<Engine>,
    /// What the path's placeholder took, decoded.
    name: String,
    query: Query,
    version: ApiVersion,
    request: Request<Incoming>,
}

impl Call {
    /// Reads a JSON body: content type as dockerd demands, bounded.
    async fn body(&mut self) -> Result<Vec<u8>, Error> {
        let kind =
            self.request.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let limited = http_body_util::Limited::new(self.request.body_mut(), MAX_JSON_BYTES);
        let body = limited
            .collect()
            .await
            .map_err(|e| {
                Error::invalid(format!("cannot read the request's body (at most {MAX_JSON_BYTES} bytes): {e}"))
            })?
            .to_bytes();
        let media = kind.split(';').next().unwrap_or_default().trim();
        if !body.is_empty() && media != "application/json" {
            return Err(Error::invalid(format!(
                "unsupported Content-Type header ({kind}): must be 'application/json'"
            )));
        }
        Ok(body.to_vec())
    }

    /// Reads a body that says nothing: an answer that comes before its end would break the connection off under a client
    /// that is still writing.
    async fn pass_over_body(&mut self) {
        let limited = http_body_util::Limited::new(self.request.body_mut(), MAX_JSON_BYTES);
        // Whatever is wrong with it, nobody wanted it.
        _ = limited.collect().await;
    }

    /// Decodes a JSON body; an empty one is the default.
    async fn json<T: serde::de::DeserializeOwned + Default>(&mut self) -> Result<T, Error> {
        let body = self.body().await?;
        if body.is_empty() { Ok(T::default()) } else { hoist_api::decode::from_slice(&body) }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
/// A query string as handlers read it, for the crate's fuzzing entry points.
pub(crate) fn read_query(text: &str) {
    let query = Query::parse(text);
    for name in ["filters", "t", "since", "until", "h", "w", "all", "signal"] {
        let _ = (query.flag(name), query.integer(name), query.size(name), query.time_ns(name), query.all(name));
        let _ = ApiVersion::check(query.get(name));
    }
}

#[cfg(any(test, feature = "fuzzing"))]
/// A header with credentials, likewise.
pub(crate) fn read_registry_auth(header: &str) {
    let _ = (images::credentials(Some(header)), images::keyring(Some(header)));
}

/// Serves all doors until one of them breaks.
pub(crate) async fn serve(engine: Arc<Engine>, doors: Vec<Door>) -> Result<(), String> {
    let mut serving = JoinSet::new();
    let activity = Arc::new(Activity::default());
    serving.spawn(quiet::give_memory_back(activity.clone()));
    for door in doors {
        let (engine, activity) = (engine.clone(), activity.clone());
        serving.spawn(async move {
            match door {
                Door::Unix(listener) => loop {
                    match listener.accept().await {
                        Ok((stream, _)) => connection(engine.clone(), activity.clone(), stream),
                        Err(e) => pause_after(&e).await,
                    }
                },
                Door::Tcp(listener) => loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            _ = stream.set_nodelay(true);
                            connection(engine.clone(), activity.clone(), stream);
                        }
                        Err(e) => pause_after(&e).await,
                    }
                },
            }
        });
    }
    match serving.join_next().await {
        Some(Err(e)) => Err(format!("serving the API failed: {e}")),
        _ => Ok(()),
    }
}

/// Out of descriptors, most likely: waiting lets connections end.
async fn pause_after(error: &std::io::Error) {
    tracing::error!("cannot accept a connection: {error}");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

fn connection<S>(engine: Arc<Engine>, activity: Arc<Activity>, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + AsFd + Unpin + Send + 'static,
{
    let presence = hijack::Presence::of(&stream);
    tokio::spawn(async move {
        let asked = activity.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            asked.mark();
            let engine = engine.clone();
            request.extensions_mut().insert(presence.clone());
            async move { Ok::<_, Infallible>(respond(engine, request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        // A client's half-close is the end of its input, not of the exchange.
        server.half_close(true).max_buf_size(64 * 1024);
        // Errors here are clients that went away; there is nobody left to tell.
        _ = server.serve_connection(TokioIo::new(Encoding::new(stream)), service).with_upgrades().await;
        activity.mark();
    });
}

async fn respond(engine: Arc<Engine>, request: Request<Incoming>) -> Response<Body> {
    let started = std::time::Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let head = method == Method::HEAD;
    let mut response = match route(engine.clone(), request).await {
        Ok(response) => response,
        Err(error) => answer::error(&engine.system.explain(error)),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer::common_headers(response.headers_mut());
    }
    if head {
        *response.body_mut() = answer::empty();
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed_us = started.elapsed().as_micros(), "request");
    response
}

async fn route(engine: Arc<Engine>, request: Request<Incoming>) -> Result<Answer, Error> {
    if request.method() == Method::OPTIONS {
        return Ok(answer::status(StatusCode::OK));
    }
    let path = request.uri().path().to_owned();
    let (version, bare) = routes::split_version(&path);
    let version = match version {
        Some(text) => match ApiVersion::check(text) {
            Ok(version) => version,
            Err(refusal) => return Ok(*refusal),
        },
        None => ApiVersion::NEWEST,
    };
    let Some(found) = routes::find(request.method().as_str(), bare) else {
        return Err(Error::not_found("page not found"));
    };
    let name = percent_encoding::percent_decode_str(found.name)
        .decode_utf8()
        .map_err(|_| Error::invalid("the path is not UTF-8"))?
        .into_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let call = Call { engine, name, query, version, request };
    dispatch(found.operation, call).await
}

async fn dispatch(operation: Operation, call: Call) -> Result<Answer, Error> {
    use Operation as O;
    match operation {
        O::Ping => Ok(system::ping()),
        O::Version => system::version(&call),
        O::Info => system::info(&call),
        O::Events => events::events(&call),
        O::ContainerList => containers::list(&call),
        O::ContainerCreate => containers::create(call).await,
        O::ContainerInspect => containers::inspect(&call),
        O::ContainerStart => containers::start(call).await,
        O::ContainerStop => containers::stop(&call).await,
        O::ContainerRestart => containers::restart(&call).await,
        O::ContainerKill => containers::kill(&call).await,
        O::ContainerWait => containers::wait(&call),
        O::ContainerRemove => containers::remove(&call).await,
        O::ContainerAttach => streams::attach(call).await,
        O::ContainerResize => containers::resize(&call).await,
        O::ContainerLogs => streams::logs(&call),
        O::ContainerTop => containers::top(&call).await,
        O::ContainerChanges => containers::changes(&call).await,
        O::ContainerPause => containers::pause(&call).await,
        O::ContainerUnpause => containers::unpause(&call).await,
        O::ContainerRename => containers::rename(&call).await,
        O::ContainerUpdate => containers::update(call).await,
        O::ContainerExport => export::export(&call),
        O::ContainerPrune => containers::prune(&call).await,
        O::ExecCreate => exec::create(call).await,
        O::ExecStart => exec::start(call).await,
        O::ExecInspect => exec::inspect(&call),
        O::ExecResize => exec::resize(&call).await,
        O::Commit => commit::commit(call).await,
        O::ImageList => images::list(&call).await,
        O::ImageInspect => images::inspect(&call).await,
        O::ImageHistory => images::history(&call),
        O::ImageCreate => images::create(call).await,
        O::ImagePush => images::push(call).await,
        O::ImageTag => images::tag(&call),
        O::ImageRemove => images::remove(&call).await,
        O::ImageLoad => images::load(call).await,
        O::ImageSave => images::save(&call).await,
        O::Distribution => images::distribution(call).await,
        O::RegistryLogin => images::login(call).await,
        O::ImageSearch => search::search(call).await,
        O::ImagePrune => images::prune(&call).await,
        O::NetworkList => networks::list(&call),
        O::NetworkInspect => networks::inspect(&call),
        O::VolumeList => networks::volume_list(&call),
        O::VolumeInspect => networks::volume_inspect(&call),
        O::VolumeCreate => networks::volume_create(call).await,
        O::VolumeRemove => networks::volume_remove(&call),
        O::VolumePrune => df::prune_volumes(&call).await,
        O::NetworkPrune => df::prune_networks(&call),
        O::BuildPrune => df::prune_build_cache(),
        O::DiskUsage => df::df(&call).await,
        O::Own(own) => dispatch_own(own, call).await,
        O::Swarm => Err(Error::unavailable(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        )),
        O::Later(what) => Err(Error::not_implemented(format!("{what}: not implemented by this engine yet"))),
    }
}

async fn dispatch_own(operation: Own, call: Call) -> Result<Answer, Error> {
    match operation {
        Own::Run => run::run(call).await,
        Own::ExecRun => exec::run(call).await,
        Own::ImageVerify => images::verify(call).await,
        Own::ImagePin => images::pin(&call).await,
        Own::ImageUnpin => images::unpin(&call).await,
        Own::ImageCreateTrusted => images::pull_trusted(call).await,
        Own::ImageChanges => images::changes(call).await,
        Own::ManifestGet => images::manifests(call).await,
        Own::ManifestPut => images::put_manifest(call).await,
        Own::DiskBreakdown => df::breakdown(&call).await,
    }
}
