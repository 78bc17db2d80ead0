//! `policy.json`, in containers/image's form (containers-policy.json(5)): which images may be pulled, come in from files, and
//! be used, and who must have signed them. Read whole, keys and certificates included, so that what is wrong with it is known
//! before the first pull.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_api::reference::Reference;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::certificate::Authority;
use super::key::PublicKey;
use super::local;
use crate::digest;

/// The transport that pulls use; of others the rules for everything count where images come in otherwise (`local`), the
/// rest is for other programs.
const TRANSPORT: &str = "docker";

/// A policy file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    path: PathBuf,
    default: Vec<Requirement>,
    /// By scope: registry, repository, tag, or `*.domain`.
    scopes: Vec<(String, Vec<Requirement>)>,
    /// By transport, for those that have no scopes here.
    transports: Vec<(String, Vec<Requirement>)>,
}

/// What an image must meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    Accept,
    Reject,
    Signed(Box<Signed>),
}

/// `sigstoreSigned`: by whom, and for what name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) by: Signer,
    /// Keys of transparency logs; where there are any, the signature must be recorded in one of them.
    pub(crate) logs: Vec<PublicKey>,
    pub(crate) identity: Identity,
    /// Of the rule with all that it names, the same as long as it means the same.
    pub(crate) digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// Whoever has one of these keys.
    Keys(Vec<PublicKey>),
    /// Whom this authority certified.
    Certified(Box<Authority>),
}

/// `signedIdentity`: which name in the signature fits the image's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Identity {
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    ExactReference {
        docker_reference: String,
    },
    ExactRepository {
        docker_repository: String,
    },
    #[serde(rename = "remapIdentity")]
    Remap {
        prefix: String,
        signed_prefix: String,
    },
    /// Any name or none: the digest alone. Ours, for bundles that name no repository.
    MatchDigest,
}

impl Identity {
    /// Whether a signature that names `signed` is one for `image`.
    pub(crate) fn fits(&self, image: &Reference, signed: Option<&str>) -> bool {
        if *self == Identity::MatchDigest {
            return true;
        }
        let Some(signed) = signed.and_then(|text| Reference::parse(text).ok()) else { return false };
        let same_name = |image: &Reference| signed.name() == image.name();
        let exact = |image: &Reference| {
            image.tag.is_some() && image.digest.is_none() && (&signed.tag, &signed.digest) == (&image.tag, &None)
        };
        let digest_or_exact = |image: &Reference| same_name(image) && (image.digest.is_some() || exact(image));
        match self {
            Identity::MatchExact => same_name(image) && exact(image),
            Identity::MatchRepoDigestOrExact => digest_or_exact(image),
            Identity::MatchRepository => same_name(image),
            Identity::ExactReference { docker_reference } => {
                Reference::parse(docker_reference).is_ok_and(|wanted| wanted == signed)
            }
            Identity::ExactRepository { docker_repository } => {
                Reference::parse(docker_repository).is_ok_and(|wanted| same_name(&wanted))
            }
            Identity::Remap { prefix, signed_prefix } => digest_or_exact(&remapped(image, prefix, signed_prefix)),
            Identity::MatchDigest => true,
        }
    }
}

/// The name that a mirrored image has where it was signed.
fn remapped(image: &Reference, prefix: &str, signed_prefix: &str) -> Reference {
    let name = image.name();
    let rest = name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let renamed = rest.and_then(|rest| Reference::parse(&format!("{signed_prefix}{rest}")).ok());
    renamed.map_or_else(
        || image.clone(),
        |name| Reference { tag: image.tag.clone(), digest: image.digest.clone(), ..name },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Rule>,
    #[serde(default)]
    transports: Pairs<Pairs<Vec<Rule>>>,
}

/// An object's members in their order; a key given twice is an error.
struct Pairs<T>(Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Pairs(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Rule {
    InsecureAcceptAnything,
    Reject,
    SigstoreSigned(Box<SigstoreRule>),
    SignedBy(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SigstoreRule {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<FulcioRule>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    signed_identity: Option<Identity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FulcioRule {
    #[serde(rename = "caPath")]
    ca_path: Option<PathBuf>,
    #[serde(rename = "caData")]
    ca_data: Option<String>,
    #[serde(rename = "oidcIssuer")]
    oidc_issuer: String,
    #[serde(rename = "subjectEmail")]
    subject_email: String,
}

impl Policy {
    /// Reads a policy and all that it names; every text names the file.
    pub fn read(path: &Path) -> Result<Policy, String> {
        let about = |why: String| format!("signature policy {}: {why}", path.display());
        let bytes = fs::read(path).map_err(|e| about(e.to_string()))?;
        Policy::parse(&bytes, path).map_err(about)
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Policy, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let default = requirements(document.default, "default")?;
        let (mut scopes, mut transports) = (Vec::new(), Vec::new());
        for (transport, rules) in document.transports.0 {
            for (scope, rules) in rules.0 {
                let read = requirements(rules, &format!("{transport} {scope:?}"))?;
                if transport == TRANSPORT {
                    scopes.push((scope, read));
                } else if scope.is_empty() && local::TRANSPORTS.contains(&transport.as_str()) {
                    transports.push((transport.clone(), read));
                }
            }
        }
        Ok(Policy { path: path.to_owned(), default, scopes, transports })
    }

    /// What this image must meet, all of it, and the scope that says so.
    pub(crate) fn requirements(&self, image: &Reference) -> (&str, &[Requirement]) {
        for scope in scopes_of(image) {
            if let Some((scope, found)) = self.scopes.iter().find(|(known, _)| *known == scope) {
                return (if scope.is_empty() { TRANSPORT } else { scope }, found);
            }
        }
        ("default", &self.default)
    }

    pub(super) fn default_rule(&self) -> &[Requirement] {
        &self.default
    }

    /// What everything of another transport must meet, if that is said.
    pub(super) fn transport(&self, name: &str) -> Option<&[Requirement]> {
        self.transports.iter().find(|(known, _)| known == name).map(|(_, rule)| rule.as_slice())
    }
}

impl Policy {
    /// The rules for single tags and digests of a repository.
    pub(crate) fn below(&self, repository: &Reference) -> Vec<(&str, &[Requirement])> {
        let name = repository.name();
        let is_below = |scope: &str| scope.strip_prefix(&name).is_some_and(|rest| rest.starts_with([':', '@']));
        let scopes = self.scopes.iter().filter(|(scope, _)| is_below(scope));
        scopes.map(|(scope, requirements)| (scope.as_str(), requirements.as_slice())).collect()
    }
}

/// From the narrowest to the widest: the reference itself, its repository, what is above that, the registry, its domains,
/// everything.
fn scopes_of(image: &Reference) -> Vec<String> {
    let mut scopes = vec![image.to_string()];
    let name = image.name();
    let mut rest = Some(name.as_str());
    while let Some(scope) = rest {
        scopes.push(scope.to_owned());
        rest = scope.rsplit_once('/').map(|(above, _)| above);
    }
    let mut host = image.domain.split_once(':').map_or(image.domain.as_str(), |(host, _)| host);
    while let Some((_, above)) = host.split_once('.') {
        scopes.push(format!("*.{above}"));
        host = above;
    }
    scopes.push(String::new());
    scopes
}

fn requirements(rules: Vec<Rule>, place: &str) -> Result<Vec<Requirement>, String> {
    if rules.is_empty() {
        return Err(format!("{place}: a list of requirements must not be empty"));
    }
    rules.into_iter().map(|rule| requirement(rule).map_err(|why| format!("{place}: {why}"))).collect()
}

fn requirement(rule: Rule) -> Result<Requirement, String> {
    match rule {
        Rule::InsecureAcceptAnything => Ok(Requirement::Accept),
        Rule::Reject => Ok(Requirement::Reject),
        Rule::SignedBy(_) => Err("signedBy (GPG) is not supported: use sigstoreSigned".to_owned()),
        Rule::SigstoreSigned(rule) => signed(*rule).map(|signed| Requirement::Signed(Box::new(signed))),
    }
}

fn signed(rule: SigstoreRule) -> Result<Signed, String> {
    let given = [
        rule.key_path.is_some(),
        rule.key_paths.is_some(),
        rule.key_data.is_some(),
        rule.key_datas.is_some(),
        rule.fulcio.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err("exactly one of keyPath, keyPaths, keyData, keyDatas and fulcio is expected".to_owned());
    }
    let mut digest = RuleDigest::default();
    let keys = keys((rule.key_path, rule.key_paths), (rule.key_data, rule.key_datas), &mut digest)?;
    digest.end_of_part();
    let logs = keys_of_logs(
        (rule.rekor_public_key_path, rule.rekor_public_key_paths),
        (rule.rekor_public_key_data, rule.rekor_public_key_datas),
        &mut digest,
    )?;
    digest.end_of_part();
    let by = match rule.fulcio {
        None if keys.is_empty() => return Err("no key".to_owned()),
        None => Signer::Keys(keys),
        Some(_) if logs.is_empty() => {
            return Err("fulcio needs a rekorPublicKey: a log says when a short-lived certificate was used".to_owned());
        }
        Some(rule) => {
            let pem = match (rule.ca_path, rule.ca_data) {
                (Some(path), None) => fs::read(&path).map_err(|e| format!("caPath {}: {e}", path.display()))?,
                (None, Some(data)) => decode("caData", &data)?,
                _ => return Err("fulcio: exactly one of caPath and caData is expected".to_owned()),
            };
            [&pem, rule.oidc_issuer.as_bytes(), rule.subject_email.as_bytes()].iter().for_each(|part| digest.add(part));
            let authority = Authority::read(&pem, rule.oidc_issuer, rule.subject_email);
            Signer::Certified(Box::new(authority.map_err(|e| format!("fulcio: {e}"))?))
        }
    };
    digest.end_of_part();
    let identity = rule.signed_identity.unwrap_or(Identity::MatchRepoDigestOrExact);
    digest.add(&serde_json::to_vec(&identity).map_err(|e| format!("signedIdentity: {e}"))?);
    Ok(Signed { by, logs, identity, digest: digest.finish() })
}

/// Hashes what a rule is of, in parts that cannot run into each other.
#[derive(Default)]
struct RuleDigest(Vec<u8>);

impl RuleDigest {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(digest::of_bytes(bytes).as_bytes());
    }

    fn end_of_part(&mut self) {
        self.0.push(b'\n');
    }

    fn finish(self) -> String {
        digest::of_bytes(&self.0)
    }
}

fn keys_of_logs(
    (path, paths): (Option<PathBuf>, Option<Vec<PathBuf>>),
    (data, datas): (Option<String>, Option<Vec<String>>),
    digest: &mut RuleDigest,
) -> Result<Vec<PublicKey>, String> {
    let given = [path.is_some(), paths.is_some(), data.is_some(), datas.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err("at most one of the rekorPublicKey members is expected".to_owned());
    }
    let is_given = given.contains(&true);
    let keys = keys((path, paths), (data, datas), digest)?;
    if is_given && keys.is_empty() { Err("no rekorPublicKey in the list".to_owned()) } else { Ok(keys) }
}

fn keys(
    (path, paths): (Option<PathBuf>, Option<Vec<PathBuf>>),
    (data, datas): (Option<String>, Option<Vec<String>>),
    digest: &mut RuleDigest,
) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for path in path.into_iter().chain(paths.unwrap_or_default()) {
        let about = |why: String| format!("key {}: {why}", path.display());
        let pem = fs::read(&path).map_err(|e| about(e.to_string()))?;
        keys.push(PublicKey::of_pem(&pem).map_err(about)?);
        digest.add(&pem);
    }
    for data in data.into_iter().chain(datas.unwrap_or_default()) {
        let pem = decode("keyData", &data)?;
        keys.push(PublicKey::of_pem(&pem).map_err(|why| format!("keyData: {why}"))?);
        digest.add(&pem);
    }
    Ok(keys)
}

fn decode(name: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("{name}: not base64: {e}"))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs: Vec<(String, T)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if pairs.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom(format!("duplicate key {key:?}")));
                    }
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests;
