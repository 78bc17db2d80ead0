//! `POST /images/{name}/push`, `GET /distribution/{name}/json`, `POST /auth`, and the credentials that requests bring.

use std::collections::HashMap;

use base64::Engine as _;
use hoist_api::error::Error;
use hoist_api::reference::{DEFAULT_DOMAIN, Reference};
use hoist_image::{Credentials, Keyring};
use serde::Deserialize;
use serde_json::json;

use super::progress::{first_or_error, progress_stream};
use super::{Answer, Call, answer, one_platform};

/// Without a tag, every tag of the repository goes.
pub(in crate::docker) async fn push(mut call: Call) -> Result<Answer, Error> {
    call.pass_over_body().await;
    let invalid = |e: hoist_api::reference::ReferenceError| Error::invalid(e.to_string());
    let mut reference = Reference::parse(&call.name).map_err(invalid)?;
    let tag = call.query.get("tag");
    if !tag.is_empty() {
        let tagged = Reference::parse(&format!("{}:{tag}", reference.name()));
        reference = tagged.map_err(|_| Error::invalid("invalid tag format"))?;
    }
    let platform = one_platform(&call)?;
    call.engine.images.check_push(&reference, platform.as_ref())?;
    let credentials = credentials_of(&call);
    let (out, sink, receiver) = progress_stream();
    let engine = call.engine.clone();
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = engine.images.push(&reference, credentials.as_ref(), sink) => ended,
            // The client is gone: so is its push, as with dockerd.
            () = out.closed() => return,
        };
        if let Err(error) = ended {
            out.error(error);
        }
    });
    first_or_error(receiver).await
}

/// What a registry says about an image.
pub(in crate::docker) async fn distribution(call: Call) -> Result<Answer, Error> {
    let reference = Reference::parse(&call.name).map_err(|e| Error::invalid(e.to_string()))?;
    // The whole digest of an image, which would pass for a tag of a repository `sha256`.
    if reference.familiar_name() == "sha256" && reference.tag.as_ref().is_some_and(|tag| tag.len() == 64) {
        return Err(Error::invalid("no manifest found for full image ID"));
    }
    let credentials = credentials_of(&call);
    let found = call.engine.images.distribution(&reference, credentials.as_ref()).await?;
    answer::ok(&json!({
        "Descriptor": { "mediaType": found.media_type, "digest": found.digest, "size": found.size_bytes },
        "Platforms": found.platforms,
    }))
}

/// `POST /auth`: whether a registry takes what a user typed.
pub(in crate::docker) async fn login(mut call: Call) -> Result<Answer, Error> {
    let LoginBody { server, auth } = call.json().await?;
    let credentials = auth.credentials().unwrap_or_default();
    let identity = call.engine.images.login(&server, &credentials).await?;
    answer::ok(&json!({ "IdentityToken": identity, "Status": "Login Succeeded" }))
}

/// Docker's AuthConfig.
#[derive(Deserialize, Default)]
#[serde(default)]
struct LoginBody {
    #[serde(rename = "serveraddress")]
    server: String,
    #[serde(flatten)]
    auth: AuthHeader,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthHeader {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// `X-Registry-Auth`; what cannot be read counts as anonymous, as with dockerd.
pub(in crate::docker) fn credentials(header: Option<&str>) -> Option<Credentials> {
    let parsed: AuthHeader = decoded(header?)?;
    parsed.credentials()
}

/// `X-Registry-Config`: credentials of several registries by their addresses.
pub(in crate::docker) fn keyring(header: Option<&str>) -> Keyring {
    let parsed: Option<HashMap<String, AuthHeader>> = header.and_then(decoded);
    let domain = |address: &str| {
        let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
        match bare.split('/').next().unwrap_or(bare) {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
            domain => domain.to_owned(),
        }
    };
    let known = parsed.into_iter().flatten();
    known.filter_map(|(address, auth)| Some((domain(&address), auth.credentials()?))).collect()
}

/// JSON in base64, as headers have it.
fn decoded<T: serde::de::DeserializeOwned>(header: &str) -> Option<T> {
    use base64::alphabet::URL_SAFE;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&URL_SAFE, lenient).decode(header.trim()).ok()?;
    hoist_api::decode::from_slice(&bytes).ok()
}

impl AuthHeader {
    /// None if they say nothing.
    fn credentials(self) -> Option<Credentials> {
        let mut parsed = self;
        if parsed.username.is_empty() && !parsed.auth.is_empty() {
            let plain = base64::engine::general_purpose::STANDARD.decode(&parsed.auth).ok()?;
            let plain = String::from_utf8(plain).ok()?;
            let (user, password) = plain.split_once(':')?;
            (parsed.username, parsed.password) = (user.to_owned(), password.to_owned());
        }
        let anonymous =
            parsed.username.is_empty() && parsed.identitytoken.is_empty() && parsed.registrytoken.is_empty();
        (!anonymous).then_some(Credentials {
            username: parsed.username,
            password: parsed.password,
            identity_token: parsed.identitytoken,
            registry_token: parsed.registrytoken,
        })
    }
}

/// Those of a request.
pub(super) fn credentials_of(call: &Call) -> Option<Credentials> {
    credentials(header(call, "x-registry-auth"))
}

/// Those of a request that may go to several registries.
pub(super) fn keyring_of(call: &Call) -> Keyring {
    keyring(header(call, "x-registry-config"))
}

fn header<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.request.headers().get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_has_its_own_credentials() {
        let text = r#"{"https://index.docker.io/v1/":{"username":"a","password":"p"},"127.0.0.1:5000":{"auth":"dTpw"},"r.lan":{}}"#;
        let keyring = keyring(Some(&base64::engine::general_purpose::URL_SAFE.encode(text)));
        let name = |domain: &str| keyring.get(domain).map(|known| known.username.as_str());
        assert_eq!((name("docker.io"), name("127.0.0.1:5000"), name("r.lan")), (Some("a"), Some("u"), None));
        assert!(super::keyring(Some("?")).is_empty() && super::keyring(None).is_empty());
    }
}
