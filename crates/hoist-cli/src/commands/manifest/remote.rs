//! Registries through the engine: routes of Hoist's own, which no other engine has.

use hoist_api::{
    manifest::{Fetched, Put, PutAnswer},
    reference::Reference,
};
use hoist_client::{Error, Request, query::path_segment};

use crate::{
    app::{App, Failure, Outcome},
    credentials,
    ours::{is_unknown_route, only_ours},
};

/// What the registry has under a name.
pub(super) fn fetch(app: &App, reference: &Reference, insecure: bool) -> Outcome<Fetched> {
    let request = addressed(app, Request::get(path(reference)), reference, insecure);
    Ok(app.client()?.call(request).map_err(failure)?.json()?)
}

/// Puts a manifest under a name; its digest.
pub(super) fn put(app: &App, reference: &Reference, put: &Put, insecure: bool) -> Outcome<String> {
    let request = addressed(app, Request::post(path(reference)).json(put)?, reference, insecure);
    let answer: PutAnswer = app.client()?.call(request).map_err(failure)?.json()?;
    Ok(answer.digest)
}

fn path(reference: &Reference) -> String {
    format!("/hoist/manifests/{}", path_segment(&reference.to_string()))
}

fn addressed<'a>(app: &App, request: Request<'a>, reference: &Reference, insecure: bool) -> Request<'a> {
    let request = request.switch("insecure", insecure);
    match credentials::header_for(app, &reference.domain) {
        Some(auth) => request.header(credentials::HEADER, auth),
        None => request,
    }
}

/// What a registry said is told without the engine's name: Docker's client speaks to registries itself.
fn failure(error: Error) -> Failure {
    match error {
        Error::Api { message, .. } if !is_unknown_route(&error) => Failure::from(message),
        other => only_ours("manifest")(other),
    }
}
