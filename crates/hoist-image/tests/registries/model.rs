//! A registry of a few lines that takes pushes, remembers every request, and misbehaves when told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::http::{self, Asked};
use crate::support::digest;

/// What it holds and how it is to fail.
#[derive(Default)]
pub(crate) struct State {
    /// Repository and digest.
    pub(crate) blobs: HashMap<(String, String), Vec<u8>>,
    /// Repository and tag or digest: media type and bytes.
    pub(crate) manifests: HashMap<(String, String), (String, Vec<u8>)>,
    pub(crate) uploads: HashMap<String, Vec<u8>>,
    /// Method and path with query of each request.
    pub(crate) asked: Vec<(String, String)>,
    /// Values of the header `x-test` that came.
    pub(crate) seen: Vec<String>,
    /// Where requests for blobs are sent instead.
    pub(crate) blobs_elsewhere: Option<String>,
    /// Breaks the connection after so many bytes of the next upload.
    pub(crate) cut_after: Option<usize>,
    /// Forgets uploads whose connection broke.
    pub(crate) forgetful: bool,
    /// Answers so many requests with 429 and this `Retry-After`.
    pub(crate) busy: Option<(usize, String)>,
    /// Wants a token of this registry's own for each repository and action.
    pub(crate) tokens: bool,
    /// Gives tokens only to user `u` with password `p`, or for the identity token `known`.
    pub(crate) private: bool,
    /// Refuses every write.
    pub(crate) read_only: bool,
}

pub(crate) struct Model {
    pub(crate) address: String,
    pub(crate) state: Arc<Mutex<State>>,
}

struct Response(u16, Vec<(&'static str, String)>, Vec<u8>);

impl Response {
    fn error(status: u16, code: &str, message: &str) -> Response {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Response(status, Vec::new(), body.into_bytes())
    }
}

impl Model {
    pub(crate) fn start(state: State) -> Model {
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let address = http::listen(move |stream, own| serve(stream, &shared, own));
        Model { address, state }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// How many requests of a method had this in their path, since the last time.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(asked, path)| asked == method && path.contains(part)).count()
    }

    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().asked.clear();
    }

    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Vec<u8> {
        self.state.lock().unwrap().manifests[&(repository.to_owned(), tag.to_owned())].1.clone()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>, own: &str) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = http::read_head(&mut reader) {
        let Some(body) = read_body(&mut reader, &request, state) else { return };
        let Response(status, headers, bytes) = answer(&request, body, &mut state.lock().unwrap(), own);
        let head = http::head(status, &headers, bytes.len());
        let bytes = if request.method == "HEAD" { Vec::new() } else { bytes };
        let mut out = stream;
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(&bytes)).is_err() {
            return;
        }
    }
}

/// The body, chunked or not; none if the connection is to be broken.
fn read_body(reader: &mut impl BufRead, request: &Asked, state: &Mutex<State>) -> Option<Vec<u8>> {
    if request.headers.get("transfer-encoding").is_none_or(|value| value != "chunked") {
        return http::read_body(reader, request);
    }
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
        let mut state = state.lock().unwrap();
        if state.cut_after.is_some_and(|most| body.len() >= most) {
            body.truncate(state.cut_after.take().unwrap());
            let key = upload_key(&request.path);
            if state.forgetful {
                state.uploads.remove(&key);
            } else {
                state.uploads.entry(key).or_default().extend_from_slice(&body);
            }
            return None;
        }
    }
}

fn upload_key(path: &str) -> String {
    path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned()
}

fn parameter(path: &str, name: &str) -> Option<String> {
    let query = path.split_once('?')?.1;
    let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
    Some(found.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
}

fn answer(request: &Asked, body: Vec<u8>, state: &mut State, own: &str) -> Response {
    let (method, path) = (request.method.as_str(), request.path.as_str());
    state.asked.push((method.to_owned(), path.to_owned()));
    state.seen.extend(request.headers.get("x-test").cloned());
    if let Some(elsewhere) = state.blobs_elsewhere.as_ref().filter(|_| method == "GET" && path.contains("/blobs/")) {
        return Response(307, vec![("Location", format!("http://{elsewhere}{path}"))], vec![]);
    }
    if path.starts_with("/token") {
        return token(request, &body, state.private);
    }
    let bare = path.split('?').next().unwrap_or_default();
    let rest = bare.trim_start_matches("/v2/");
    let (repository, what) = ["/blobs/", "/manifests/"]
        .iter()
        .find_map(|part| rest.find(part).map(|at| (rest[..at].to_owned(), rest[at + 1..].to_owned())))
        .unwrap_or_default();
    if let Some(refusal) = refusal(request, state, &repository, own) {
        return refusal;
    }
    if bare == "/v2/" {
        return Response(200, vec![], b"{}".to_vec());
    }
    if what.starts_with("blobs/uploads/") {
        return upload(request, body, state, &repository);
    }
    let (kind, name) = what.split_once('/').unwrap_or_default();
    let key = (repository, name.to_owned());
    match (method, kind) {
        ("GET" | "HEAD", "blobs") => match state.blobs.get(&key) {
            Some(blob) => Response(200, vec![], blob.clone()),
            None => Response::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        },
        ("GET" | "HEAD", _) => match state.manifests.get(&key) {
            Some((media_type, bytes)) => Response(200, vec![("Content-Type", media_type.clone())], bytes.clone()),
            None => Response::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        },
        ("PUT", "manifests") => {
            let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
            let by_digest = digest(&body);
            state.manifests.insert((key.0.clone(), by_digest.clone()), (media_type.clone(), body.clone()));
            state.manifests.insert(key, (media_type, body));
            Response(201, vec![("Docker-Content-Digest", by_digest)], vec![])
        }
        _ => Response::error(405, "UNSUPPORTED", "unsupported"),
    }
}

/// A token for whatever is asked for, by whoever may have it.
fn token(request: &Asked, body: &[u8], is_private: bool) -> Response {
    let path = request.path.as_str();
    let given = request.headers.get("authorization").map(String::as_str);
    let refresh = body.windows(20).any(|part| part == b"&refresh_token=known");
    if is_private && given != Some("Basic dTpw") && !refresh {
        return Response::error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    if path.contains("offline_token=true") || refresh {
        return Response(200, vec![], br#"{"access_token":"any","refresh_token":"known"}"#.to_vec());
    }
    let scopes: Vec<&str> = path.split(['?', '&']).filter_map(|pair| pair.strip_prefix("scope=")).collect();
    let token = scopes.join(" ").replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    Response(200, vec![], format!(r#"{{"token":"{token}"}}"#).into_bytes())
}

/// Why the request is not answered, if it is not.
fn refusal(request: &Asked, state: &mut State, repository: &str, own: &str) -> Option<Response> {
    let (method, path) = (request.method.as_str(), request.path.as_str());
    if let Some((left, after)) = state.busy.take() {
        if left > 1 {
            state.busy = Some((left - 1, after.clone()));
        }
        let Response(status, _, bytes) =
            Response::error(429, "TOOMANYREQUESTS", "you have reached your pull rate limit");
        return Some(Response(status, vec![("Retry-After", after)], bytes));
    }
    if state.tokens {
        let mut wanted = vec![format!("repository:{repository}:pull,push")];
        wanted.extend(parameter(path, "from").map(|from| format!("repository:{from}:pull")));
        let given = request.headers.get("authorization").cloned().unwrap_or_default();
        let wanted = if repository.is_empty() { vec!["any".to_owned()] } else { wanted };
        let to_read = format!("repository:{repository}:pull");
        let reads = matches!(method, "GET" | "HEAD") && given.split(' ').any(|word| word == to_read);
        if !reads && !wanted.iter().all(|scope| given.split(' ').any(|word| word == scope)) {
            let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"model\"");
            let Response(status, _, bytes) = Response::error(401, "UNAUTHORIZED", "authentication required");
            return Some(Response(status, vec![("WWW-Authenticate", challenge)], bytes));
        }
    }
    let is_write = !matches!(method, "GET" | "HEAD");
    (state.read_only && is_write).then(|| Response::error(403, "DENIED", "requested access to the resource is denied"))
}

fn upload(request: &Asked, body: Vec<u8>, state: &mut State, repository: &str) -> Response {
    let path = &request.path;
    let key = upload_key(path);
    match request.method.as_str() {
        "POST" => {
            if let (Some(mount), Some(from)) = (parameter(path, "mount"), parameter(path, "from"))
                && let Some(blob) = state.blobs.get(&(from, mount.clone())).cloned()
            {
                state.blobs.insert((repository.to_owned(), mount), blob);
                return Response(201, vec![], vec![]);
            }
            let key = format!("u{}", state.uploads.len());
            state.uploads.insert(key.clone(), Vec::new());
            Response(202, vec![("Location", format!("/v2/{repository}/blobs/uploads/{key}?state=0"))], vec![])
        }
        _ if !state.uploads.contains_key(&key) => Response::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown"),
        "PUT" => {
            let mut bytes = state.uploads.remove(&key).unwrap_or_default();
            bytes.extend(body);
            let wanted = parameter(path, "digest").unwrap_or_default();
            if digest(&bytes) != wanted {
                return Response::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
            }
            state.blobs.insert((repository.to_owned(), wanted), bytes);
            Response(201, vec![], vec![])
        }
        "DELETE" => {
            state.uploads.remove(&key);
            Response(204, vec![], vec![])
        }
        method => {
            let bytes = state.uploads.entry(key.clone()).or_default();
            bytes.extend(body);
            let range = format!("0-{}", bytes.len().saturating_sub(1));
            let location = format!("/v2/{repository}/blobs/uploads/{key}?state={}", bytes.len());
            Response(if method == "GET" { 204 } else { 202 }, vec![("Location", location), ("Range", range)], vec![])
        }
    }
}
