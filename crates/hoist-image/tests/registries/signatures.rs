//! Policies and signatures: keys, authorities and logs are made here, and sign as cosign does.

mod bundles;
mod simple;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_image::{Config, Policy};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::support::{Answer, MEDIA_INDEX, Made, Pack, Place, Server, digest, made};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The name in signatures: the tests' servers have another port each time.
const NAME: &str = "signed.example/x";
/// Noon of the day on which the certificates are valid.
const NOON_S: i64 = 1_700_049_600;

/// Somebody who signs.
struct Key {
    pair: KeyPair,
}

impl Key {
    fn new() -> Key {
        Key { pair: KeyPair::generate().unwrap() }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let der = self.pair.serialize_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random).unwrap();
        pair.sign(&random, bytes).unwrap().as_ref().to_vec()
    }

    fn pem(&self) -> String {
        self.pair.public_key_pem()
    }
}

static KEY: LazyLock<Key> = LazyLock::new(Key::new);
static LOG: LazyLock<Key> = LazyLock::new(Key::new);

fn image() -> Made {
    made(&["signed"], Pack::Plain)
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// What cosign signs in its first form.
fn payload(manifest: &str, name: &str) -> Vec<u8> {
    let critical = json!({ "identity": { "docker-reference": name }, "image": { "docker-manifest-digest": manifest },
        "type": "cosign container image signature" });
    json!({ "critical": critical, "optional": null }).to_string().into_bytes()
}

/// What a log answers to a signature: body, and its own signature over the entry.
struct Logged {
    body: String,
    promise: String,
}

fn logged(log: &Key, body: &Value) -> Logged {
    let body = base64(body.to_string());
    let signed = format!("{{\"body\":\"{body}\",\"integratedTime\":{NOON_S},\"logID\":\"c0ffee\",\"logIndex\":7}}");
    Logged { promise: base64(log.sign(signed.as_bytes())), body }
}

fn hashed_rekord(content: &[u8], signature: &[u8], verifier: &str) -> Value {
    let hash = digest(content).trim_start_matches("sha256:").to_owned();
    json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": { "hash": { "algorithm": "sha256", "value": hash } },
        "signature": { "content": base64(signature), "publicKey": { "content": base64(verifier) } } } })
}

/// The annotations of a signature in the first form.
fn annotations(signature: &[u8], entry: Option<&Logged>) -> Value {
    let mut annotations = json!({ "dev.cosignproject.cosign/signature": base64(signature) });
    if let Some(entry) = entry {
        let bundle = json!({ "SignedEntryTimestamp": entry.promise, "Payload":
            { "body": entry.body, "integratedTime": NOON_S, "logIndex": 7, "logID": "c0ffee" } });
        annotations["dev.sigstore.cosign/bundle"] = json!(bundle.to_string());
    }
    annotations
}

/// An image with things beside it.
#[derive(Default)]
struct Beside {
    answers: HashMap<String, (String, Vec<u8>)>,
}

impl Beside {
    fn carrier(&mut self, path: String, media_type: &str, layers: &[(Vec<u8>, Value)]) -> Vec<u8> {
        let mut described = Vec::new();
        for (bytes, annotations) in layers {
            self.answers.insert(format!("/v2/x/blobs/{}", digest(bytes)), (String::new(), bytes.clone()));
            described.push(json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len(),
                "annotations": annotations }));
        }
        let config = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2 });
        let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": described });
        let bytes = manifest.to_string().into_bytes();
        self.answers.insert(path, (OCI_MANIFEST.to_owned(), bytes.clone()));
        bytes
    }

    /// Signatures in cosign's first form.
    fn simple(mut self, image: &Made, layers: &[(Vec<u8>, Value)]) -> Beside {
        let tag = digest(&image.manifest).replace(':', "-");
        self.carrier(format!("/v2/x/manifests/{tag}.sig"), SIMPLE, layers);
        self
    }

    /// One bundle, as a referrer.
    fn bundle(self, image: &Made, bundle: &Value) -> Beside {
        self.listed_bundle(bundle, BUNDLE, &format!("referrers/{}", digest(&image.manifest)))
    }

    /// One bundle, in a list that calls it this and lies there.
    fn listed_bundle(mut self, bundle: &Value, called: &str, place: &str) -> Beside {
        let path = "/v2/x/manifests/bundle".to_owned();
        let carrier = self.carrier(path.clone(), BUNDLE, &[(bundle.to_string().into_bytes(), json!({}))]);
        let moved = self.answers.remove(&path).unwrap();
        self.answers.insert(format!("/v2/x/manifests/{}", digest(&carrier)), moved);
        let entry = json!({ "mediaType": OCI_MANIFEST, "digest": digest(&carrier), "size": carrier.len(), "artifactType": called });
        let index = json!({ "schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [entry] }).to_string();
        self.answers.insert(format!("/v2/x/{place}"), (MEDIA_INDEX.to_owned(), index.into_bytes()));
        self
    }

    /// Puts something else before what is in the image's list.
    fn also_listed(mut self, image: &Made, entry: &Value) -> Beside {
        let (_, list) = self.answers.get_mut(&format!("/v2/x/referrers/{}", digest(&image.manifest))).unwrap();
        let mut index: Value = serde_json::from_slice(list).unwrap();
        index["manifests"].as_array_mut().unwrap().insert(0, entry.clone());
        *list = index.to_string().into_bytes();
        self
    }

    fn serve(self, image: &Made) -> Server {
        Server::with(image, move |asked| {
            let (media_type, bytes) = self.answers.get(&asked.path)?;
            Some(Answer::ok(bytes).header("Content-Type", media_type))
        })
    }
}

fn place(rule: &Value) -> Place {
    Place::with(Config { signature_policy: Some(policy(rule)), ..Config::default() })
}

fn policy(rule: &Value) -> Arc<Policy> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("policy.json");
    std::fs::write(&path, json!({ "default": [rule] }).to_string()).unwrap();
    Arc::new(Policy::read(&path).unwrap())
}

/// Signed by that key, for the name in the signatures.
fn keyed(key: &Key) -> Value {
    json!({ "type": "sigstoreSigned", "keyData": base64(key.pem()),
        "signedIdentity": { "type": "exactRepository", "dockerRepository": NAME } })
}

/// The image, beside it what is given, and what a pull under the rule says.
fn pull(rule: &Value, beside: Beside) -> Result<(), String> {
    let image = image();
    let server = beside.serve(&image);
    let place = place(rule);
    let name = format!("{}/x:1", server.address);
    match place.pull(&name) {
        Ok(()) => Ok(()),
        Err(e) => {
            place.assert_empty();
            let text = e.to_string();
            assert!(text.contains(&format!("image {name} is refused by the signature policy")), "{text}");
            Err(text)
        }
    }
}

fn refused(rule: &Value, beside: Beside, why: &str) {
    let Err(text) = pull(rule, beside) else { panic!("pulled, in spite of: {why}") };
    assert!(text.contains(why), "{text}");
}

fn simply_signed(key: &Key, bytes: &[u8]) -> (Vec<u8>, Value) {
    (bytes.to_vec(), annotations(&key.sign(bytes), None))
}

/// An authority and a certificate of it for a signer.
struct Certified {
    root: String,
    chain: String,
    certificate: String,
    der: Vec<u8>,
    key: Key,
}

fn certified(usage: ExtendedKeyUsagePurpose) -> Certified {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let root_key = KeyPair::generate().unwrap();
    let root = authority("root").self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(authority("root"), root_key);
    let middle_key = KeyPair::generate().unwrap();
    let middle = authority("middle").signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(authority("middle"), middle_key);
    let key = Key::new();
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    leaf.subject_alt_names = vec![SanType::Rfc822Name("ann@example.com".try_into().unwrap())];
    leaf.extended_key_usages = vec![usage];
    (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2023, 11, 15), rcgen::date_time_ymd(2023, 11, 16));
    let mut issuer = b"\x0c\x17https://id.example.com/".to_vec();
    issuer[1] = u8::try_from(issuer.len() - 2).unwrap();
    leaf.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], issuer)];
    let leaf = leaf.signed_by(&key.pair, &middle_issuer).unwrap();
    Certified { root: root.pem(), chain: middle.pem(), certificate: leaf.pem(), der: leaf.der().to_vec(), key }
}

fn keyless(by: &Certified, email: &str, issuer: &str) -> Value {
    json!({ "type": "sigstoreSigned", "rekorPublicKeyData": base64(LOG.pem()),
        "fulcio": { "caData": base64(&by.root), "oidcIssuer": issuer, "subjectEmail": email },
        "signedIdentity": { "type": "exactRepository", "dockerRepository": NAME } })
}

#[test]
fn rejected_images_are_not_even_asked_for() {
    let image = image();
    let server = Beside::default().serve(&image);
    let place = place(&json!({ "type": "reject" }));
    let text = place.refuse(&format!("{}/x:1", server.address));
    assert!(text.contains("rule \"default\": it is rejected"), "{text}");
    assert!(server.requests("/").is_empty(), "{:?}", server.requests("/"));
}

#[test]
fn a_policy_that_comes_later_counts_for_what_is_here_too() {
    let image = image();
    let server = Beside::default().serve(&image);
    let name = format!("{}/x:1", server.address);
    let place = Place::new();
    place.pull(&name).unwrap();
    place.store.reconfigure(Config { signature_policy: Some(policy(&keyed(&KEY))), ..Config::default() });
    assert!(place.pull(&name).unwrap_err().to_string().contains("no signature exists"));
}

#[test]
fn what_is_here_is_used_only_if_a_pull_found_it_signed() {
    let image = image();
    let manifest = digest(&image.manifest);
    let signed = Beside::default().simple(&image, &[simply_signed(&KEY, &payload(&manifest, NAME))]);
    let server = signed.serve(&image);
    let name = format!("{}/x:1", server.address);
    let place = Place::new();
    place.pull(&name).unwrap();
    let admits = |place: &Place, name: &str| place.store.admits(&place.store.get(name).unwrap(), name);
    admits(&place, &name).unwrap();
    let demand = |rule: &Value| {
        place.store.reconfigure(Config { signature_policy: Some(policy(rule)), ..Config::default() });
    };
    demand(&keyed(&KEY));
    // It is signed, but nobody has looked.
    let text = admits(&place, &name).unwrap_err().to_string();
    assert!(text.contains(&format!("image {name} is refused by the signature policy")), "{text}");
    assert!(text.contains("pull it again"), "{text}");
    place.pull(&name).unwrap();
    admits(&place, &name).unwrap();
    let id = place.store.get(&name).unwrap().id.clone();
    admits(&place, &id).unwrap();
    // Out of a file it comes back, as its id says what it is; anything else does not.
    let mut archive = Vec::new();
    place.store.save(std::slice::from_ref(&name), &[]).unwrap().write(&mut archive).unwrap();
    place.store.load(&mut archive.as_slice(), &[], &place.sink()).unwrap();
    let other = Place::with(Config { signature_policy: Some(policy(&keyed(&KEY))), ..Config::default() });
    let text = other.store.load(&mut archive.as_slice(), &[], &other.sink()).unwrap_err().to_string();
    assert!(text.contains("a signature is required") && text.contains("docker-archive"), "{text}");
    other.assert_empty();
    let text = other.import("mine:1").unwrap_err().to_string();
    assert!(text.contains("image mine:1 is refused") && text.contains("tarball"), "{text}");
    other.assert_empty();
    // Another rule has not been met.
    demand(&keyed(&LOG));
    assert!(admits(&place, &name).is_err());
    demand(&json!({ "type": "insecureAcceptAnything" }));
    admits(&place, &name).unwrap();
}
