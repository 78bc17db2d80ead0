//! Who signed an image, and whether that is enough: the `policy`, the two forms in which signatures lie beside images
//! (`simple`, `bundle`), and what proves them (`key`, `certificate`, `rekor`). Everything is checked offline, before anything
//! of the image becomes visible.

pub(crate) mod bundle;
mod certificate;
mod fetch;
mod key;
pub(crate) mod local;
pub(crate) mod policy;
mod rekor;
pub(crate) mod simple;

use hoist_api::reference::Reference;

use crate::registry::{FetchedManifest, Repository};
use crate::{Error, Store};
use policy::{Policy, Requirement, Signed, Signer};
use rekor::{Entry, Recorded, Verifier};

/// Reasons told, at most: an image may have many signatures.
const REASONS_MAX: usize = 5;

/// One signature, read and not yet believed.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What the signature is over.
    signed: Vec<u8>,
    /// What a log's entry has the hash of.
    recorded: Vec<u8>,
    signature: Vec<u8>,
    certificate: Option<Vec<u8>>,
    chain: Vec<Vec<u8>>,
    entry: Option<Entry>,
    claims: Vec<Claim>,
}

/// What the signed bytes say.
#[derive(Debug)]
struct Claim {
    digest: String,
    reference: Option<String>,
}

impl Policy {
    /// Refuses what the policy refuses without looking at it.
    pub(crate) fn admits(&self, image: &Reference) -> Result<(), Error> {
        let (scope, requirements) = self.requirements(image);
        if requirements.contains(&Requirement::Reject) {
            return Err(self.refusal(&image.familiar(), scope, "it is rejected"));
        }
        Ok(())
    }

    /// Checks an image by all that the policy requires of it. `manifests` are those by which it came, the outermost first:
    /// each names the next by digest, so a signature of any of them is one of the image. Returns the digests of the rules
    /// that a signature met.
    pub(crate) async fn check(
        &self,
        image: &Reference,
        repository: &Repository,
        manifests: &[FetchedManifest],
    ) -> Result<Vec<String>, Error> {
        self.admits(image)?;
        let (scope, requirements) = self.requirements(image);
        let wanted: Vec<&Signed> = requirements
            .iter()
            .filter_map(
                |requirement| if let Requirement::Signed(signed) = requirement { Some(&**signed) } else { None },
            )
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for manifest in manifests {
            let read = fetch::signatures(repository, manifest).await;
            found.extend(read.map_err(|failure| failure.for_pull(image))?);
        }
        let digests: Vec<&str> = manifests.iter().map(|manifest| manifest.digest.as_str()).collect();
        let mut met = Vec::new();
        for signed in wanted {
            signed.met_by(image, &digests, &found).map_err(|why| self.refusal(&image.familiar(), scope, &why))?;
            met.push(signed.digest.clone());
        }
        Ok(met)
    }

    /// Refuses an image, or a repository, of which no signature is demanded: content trust wants more than a policy that lets
    /// everything in.
    fn demands_signature(&self, image: &Reference) -> Result<(), Error> {
        let refused = |scope: &str| {
            let (image, path) = (image.familiar(), self.path().display());
            let why = format!("rule {scope:?} of the signature policy {path} demands no signature of {image}");
            Error::Invalid(format!(
                "content trust: {why}: have it demand one (sigstoreSigned), or pull without content trust"
            ))
        };
        let is_signed = |requirements: &[Requirement]| {
            requirements.iter().any(|requirement| matches!(requirement, Requirement::Signed(_) | Requirement::Reject))
        };
        let (scope, requirements) = self.requirements(image);
        if !is_signed(requirements) {
            return Err(refused(scope));
        }
        // of a whole repository, each of its tags
        let tags = if image.is_name_only() { self.below(image) } else { Vec::new() };
        match tags.into_iter().find(|(_, requirements)| !is_signed(requirements)) {
            Some((scope, _)) => Err(refused(scope)),
            None => Ok(()),
        }
    }

    fn refusal(&self, image: &str, scope: &str, why: &str) -> Error {
        let path = self.path().display();
        Error::Other(format!("image {image} is refused by the signature policy {path}, rule {scope:?}: {why}"))
    }
}

impl Store {
    /// Refuses an image whose signature the policy would not check.
    pub fn check_trust(&self, image: &Reference) -> Result<(), Error> {
        let Some(policy) = self.config().signature_policy.clone() else {
            let text =
                "the engine has no signature policy: start it with --signature-policy, or pull without content trust";
            return Err(Error::Invalid(format!("content trust: {}: {text}", image.familiar())));
        };
        policy.demands_signature(image)
    }
}

impl Signed {
    fn met_by(&self, image: &Reference, digests: &[&str], found: &[Result<Evidence, String>]) -> Result<(), String> {
        let mut reasons: Vec<String> = Vec::new();
        for evidence in found {
            let checked = evidence.as_ref().map_err(Clone::clone).and_then(|e| self.check(image, digests, e));
            match checked {
                Ok(()) => return Ok(()),
                Err(reason) if reasons.len() < REASONS_MAX && !reasons.contains(&reason) => reasons.push(reason),
                Err(_) => {}
            }
        }
        if reasons.is_empty() {
            return Err("a signature was required, but no signature exists".to_owned());
        }
        Err(reasons.join("; "))
    }

    fn check(&self, image: &Reference, digests: &[&str], evidence: &Evidence) -> Result<(), String> {
        match &self.by {
            Signer::Keys(keys) => {
                if !keys.iter().any(|key| key.has_signed(&evidence.signed, &evidence.signature)) {
                    return Err("the signature is not by a key that the policy knows".to_owned());
                }
                if !self.logs.is_empty() {
                    self.recorded(evidence, Verifier::Keys(keys))?;
                }
            }
            Signer::Certified(authority) => {
                let certificate = evidence.certificate.as_deref().ok_or("the signature has no certificate")?;
                let at_s = self.recorded(evidence, Verifier::Certificate(certificate))?;
                let key = authority.key_of(certificate, &evidence.chain, at_s)?;
                if !key.has_signed(&evidence.signed, &evidence.signature) {
                    return Err("the signature is not by the key of its certificate".to_owned());
                }
            }
        }
        let claims = || evidence.claims.iter().filter(|claim| digests.contains(&claim.digest.as_str()));
        if claims().next().is_none() {
            return Err("the signature is for another image".to_owned());
        }
        if claims().any(|claim| self.identity.fits(image, claim.reference.as_deref())) {
            return Ok(());
        }
        let named = claims().find_map(|claim| claim.reference.as_deref());
        Err(match named {
            Some(named) => {
                format!("the signature is for the name {named}, which the rule does not take for this image")
            }
            None => {
                "the signature names no repository: signedIdentity {\"type\":\"matchDigest\"} would take it".to_owned()
            }
        })
    }

    /// When a log that the policy knows recorded the signature.
    fn recorded(&self, evidence: &Evidence, verifier: Verifier<'_>) -> Result<u64, String> {
        let entry = evidence.entry.as_ref().ok_or("the signature is not recorded in a transparency log")?;
        entry.check(&self.logs, &Recorded { signature: &evidence.signature, verifier, content: &evidence.recorded })
    }
}

/// Reads bytes of either form as far as that can be done without a registry, and checks them by a rule that knows nobody.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_anything(is_bundle: bool, bytes: &[u8]) {
    let read = if is_bundle {
        bundle::read(bytes, b"manifest")
    } else {
        // Annotations in an object, the document after a zero.
        let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let (annotations, payload) = bytes.split_at(at);
        let annotations = serde_json::from_slice(annotations).unwrap_or_default();
        simple::read(&annotations, payload.get(1..).unwrap_or_default())
    };
    let Ok(evidence) = read else { return };
    if let Some(certificate) = &evidence.certificate {
        let recorded = Verifier::Certificate(certificate);
        let recorded = Recorded { signature: &evidence.signature, verifier: recorded, content: &evidence.recorded };
        assert!(evidence.entry.is_none_or(|entry| entry.check(&[], &recorded).is_err()), "nobody's log is believed");
    }
}
