//! `POST /hoist/images/verify`.

use hoist_api::error::Error;
use hoist_engine::VerifyRequest;

use super::progress::{first_or_error, progress_stream};
use super::push::keyring_of;
use super::{Answer, Call};

/// `names` (repeated; none: all images), `repair`; credentials come as with a build, by registry.
pub(in crate::docker) async fn verify(call: Call) -> Result<Answer, Error> {
    let request = VerifyRequest {
        images: call.query.all("names"),
        repair: call.query.flag("repair"),
        credentials: keyring_of(&call),
    };
    let (out, sink, receiver) = progress_stream();
    let engine = call.engine.clone();
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = engine.images.verify(&request, &sink) => ended,
            () = out.closed() => return,
        };
        if let Err(error) = ended {
            out.error(error);
        }
    });
    first_or_error(receiver).await
}
