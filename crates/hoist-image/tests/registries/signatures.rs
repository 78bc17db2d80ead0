//! Policies and signatures: keys, authorities and logs are made here, and sign as cosign does.

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

#[test]
fn only_what_a_known_key_signed_is_pulled() {
    let image = image();
    let manifest = digest(&image.manifest);
    let right = payload(&manifest, NAME);
    let one = |layer: (Vec<u8>, Value)| Beside::default().simple(&image, &[layer]);
    pull(&keyed(&KEY), one(simply_signed(&KEY, &right))).unwrap();
    refused(&keyed(&KEY), Beside::default(), "a signature was required, but no signature exists");
    refused(&keyed(&KEY), one(simply_signed(&LOG, &right)), "not by a key that the policy knows");
    let tampered = (payload(&manifest, "evil.example/x"), annotations(&KEY.sign(&right), None));
    refused(&keyed(&KEY), one(tampered), "not by a key that the policy knows");
    let other = simply_signed(&KEY, &payload(&digest(b"other"), NAME));
    refused(&keyed(&KEY), one(other), "the signature is for another image");
    let renamed = simply_signed(&KEY, &payload(&manifest, "signed.example/y:1"));
    refused(&keyed(&KEY), one(renamed), "for the name signed.example/y:1");
    refused(&keyed(&KEY), one((b"nonsense".to_vec(), annotations(&KEY.sign(b"nonsense"), None))), "cannot be read");
    refused(&keyed(&KEY), one((right.clone(), json!({}))), "the signature is missing");
    // One that counts is enough, and a rule of several keys takes any of them.
    let both = [simply_signed(&LOG, &right), simply_signed(&KEY, &right)];
    pull(&keyed(&KEY), Beside::default().simple(&image, &both)).unwrap();
    let mut any = keyed(&KEY);
    any["keyDatas"] = json!([base64(LOG.pem()), base64(KEY.pem())]);
    any.as_object_mut().unwrap().remove("keyData");
    pull(&any, one(simply_signed(&KEY, &right))).unwrap();
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

#[test]
fn where_a_log_is_demanded_the_signature_must_be_in_it() {
    let image = image();
    let right = payload(&digest(&image.manifest), NAME);
    let signature = KEY.sign(&right);
    let mut rule = keyed(&KEY);
    rule["rekorPublicKeyData"] = json!(base64(LOG.pem()));
    let with =
        |entry: Option<&Logged>| Beside::default().simple(&image, &[(right.clone(), annotations(&signature, entry))]);
    let body = hashed_rekord(&right, &signature, &KEY.pem());
    pull(&rule, with(Some(&logged(&LOG, &body)))).unwrap();
    refused(&rule, with(None), "not recorded in a transparency log");
    refused(&rule, with(Some(&logged(&KEY, &body))), "not signed by a log that the policy knows");
    for other in [
        hashed_rekord(b"other", &signature, &KEY.pem()),
        hashed_rekord(&right, &KEY.sign(&right), &KEY.pem()),
        hashed_rekord(&right, &signature, &LOG.pem()),
    ] {
        refused(&rule, with(Some(&logged(&LOG, &other))), "the log entry is about another signature");
    }
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
fn a_short_lived_certificate_counts_for_whom_it_is_and_when_it_was_valid() {
    let image = image();
    let by = certified(ExtendedKeyUsagePurpose::CodeSigning);
    let right = payload(&digest(&image.manifest), NAME);
    let with = |by: &Certified, entry: Option<&Logged>, signature: &[u8]| {
        let mut annotations = annotations(signature, entry);
        annotations["dev.sigstore.cosign/certificate"] = json!(by.certificate);
        annotations["dev.sigstore.cosign/chain"] = json!(by.chain);
        Beside::default().simple(&image, &[(right.clone(), annotations)])
    };
    let sign = |by: &Certified| {
        let signature = by.key.sign(&right);
        let entry = logged(&LOG, &hashed_rekord(&right, &signature, &by.certificate));
        (signature, entry)
    };
    let (signature, entry) = sign(&by);
    let rule = keyless(&by, "ann@example.com", "https://id.example.com/");
    pull(&rule, with(&by, Some(&entry), &signature)).unwrap();
    refused(&rule, with(&by, None, &signature), "not recorded in a transparency log");
    let other = keyless(&by, "bob@example.com", "https://id.example.com/");
    refused(&other, with(&by, Some(&entry), &signature), "is for ann@example.com, not bob@example.com");
    let other = keyless(&by, "ann@example.com", "https://other.example.com/");
    refused(&other, with(&by, Some(&entry), &signature), "OIDC issuer is \"https://id.example.com/\"");
    // Of another authority, and for another use.
    let stranger = certified(ExtendedKeyUsagePurpose::CodeSigning);
    let (signature, entry) = sign(&stranger);
    refused(&rule, with(&stranger, Some(&entry), &signature), "the certificate is not valid");
    let server = certified(ExtendedKeyUsagePurpose::ServerAuth);
    let (signature, entry) = sign(&server);
    let rule = keyless(&server, "ann@example.com", "https://id.example.com/");
    refused(&rule, with(&server, Some(&entry), &signature), "the certificate is not valid");
    // A signature without the certificate's key.
    let rule = keyless(&by, "ann@example.com", "https://id.example.com/");
    let forged = stranger.key.sign(&right);
    let entry = logged(&LOG, &hashed_rekord(&right, &forged, &by.certificate));
    refused(&rule, with(&by, Some(&entry), &forged), "not by the key of its certificate");
}

fn statement(manifest: &str, name: &str, predicate: &str) -> Vec<u8> {
    let hex = manifest.trim_start_matches("sha256:");
    json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
        "subject": [{ "name": name, "digest": { "sha256": hex } }] })
    .to_string()
    .into_bytes()
}

fn enveloped(key: &Key, payload: &[u8], material: &Value) -> Value {
    let kind = "application/vnd.in-toto+json";
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    json!({ "mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope":
        { "payload": base64(payload), "payloadType": kind, "signatures": [{ "sig": base64(key.sign(&text)) }] } })
}

const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

#[test]
fn bundles_of_newer_cosigns_count() {
    let image = image();
    let manifest = digest(&image.manifest);
    let material = json!({ "publicKey": { "hint": "x" }, "tlogEntries": [] });
    let beside = |bundle: &Value| Beside::default().bundle(&image, bundle);
    let named = enveloped(&KEY, &statement(&manifest, NAME, SIGN), &material);
    pull(&keyed(&KEY), beside(&named)).unwrap();
    refused(&keyed(&LOG), beside(&named), "not by a key that the policy knows");
    let other = enveloped(&KEY, &statement(&digest(b"other"), NAME, SIGN), &material);
    refused(&keyed(&KEY), beside(&other), "the signature is for another image");
    let sbom = enveloped(&KEY, &statement(&manifest, NAME, "https://spdx.dev/Document"), &material);
    refused(&keyed(&KEY), beside(&sbom), "is not a signature of the image");
    // One that names no repository counts where the rule says that the digest is enough.
    let nameless = enveloped(&KEY, &statement(&manifest, "", SIGN), &material);
    refused(&keyed(&KEY), beside(&nameless), "matchDigest");
    let mut by_digest = keyed(&KEY);
    by_digest["signedIdentity"] = json!({ "type": "matchDigest" });
    pull(&by_digest, beside(&nameless)).unwrap();
    let plain = json!({ "mediaType": BUNDLE, "verificationMaterial": material, "messageSignature":
        { "messageDigest": {}, "signature": base64(KEY.sign(&image.manifest)) } });
    pull(&by_digest, beside(&plain)).unwrap();
    let forged = json!({ "mediaType": BUNDLE, "verificationMaterial": material, "messageSignature":
        { "messageDigest": {}, "signature": base64(KEY.sign(b"other")) } });
    refused(&by_digest, beside(&forged), "not by a key that the policy knows");
}

#[test]
fn a_list_that_cosign_keeps_itself_may_not_tell_what_is_in_it() {
    // As cosign 3.1 leaves it at a registry without the referrers API, where no log was asked.
    let image = image();
    let manifest = digest(&image.manifest);
    let subject = json!({ "digest": { "sha256": manifest.trim_start_matches("sha256:") }, "annotations": {} });
    let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": SIGN, "predicate": {},
        "subject": [subject] });
    let bundle = enveloped(&KEY, statement.to_string().as_bytes(), &json!({ "publicKey": { "hint": "x" } }));
    let mut by_digest = keyed(&KEY);
    by_digest["signedIdentity"] = json!({ "type": "matchDigest" });
    for called in ["application/vnd.oci.empty.v1+json", "", BUNDLE] {
        let place = format!("manifests/{}", manifest.replace(':', "-"));
        pull(&by_digest, Beside::default().listed_bundle(&bundle, called, &place)).unwrap();
    }
    let place = format!("manifests/{}", manifest.replace(':', "-"));
    let other = Beside::default().listed_bundle(&bundle, "application/spdx+json", &place);
    refused(&by_digest, other, "no signature exists");
}

#[test]
fn what_else_a_list_names_does_not_spoil_a_signature() {
    let image = image();
    let material = json!({ "publicKey": { "hint": "x" }, "tlogEntries": [] });
    let named = enveloped(&KEY, &statement(&digest(&image.manifest), NAME, SIGN), &material);
    let foreign = br#"{"layers":"are something else"}"#;
    let entry = |digest: &str, kind: &str| json!({ "digest": digest, "size": 2, "artifactType": kind });
    let with = |entry: &Value| {
        let mut beside = Beside::default().bundle(&image, &named).also_listed(&image, entry);
        let path = format!("/v2/x/manifests/{}", digest(foreign));
        beside.answers.insert(path, (OCI_MANIFEST.to_owned(), foreign.to_vec()));
        beside
    };
    pull(&keyed(&KEY), with(&entry(&digest(b"gone"), BUNDLE))).unwrap();
    pull(&keyed(&KEY), with(&entry(&digest(foreign), ""))).unwrap();
    pull(&keyed(&KEY), with(&entry(&format!("sha512:{}", "a".repeat(128)), ""))).unwrap();
    // Nor do very many of no type that is told.
    let mut many = with(&entry(&digest(b"0"), ""));
    for number in 1..60 {
        many = many.also_listed(&image, &entry(&digest(number.to_string().as_bytes()), ""));
    }
    pull(&keyed(&KEY), many).unwrap();
    refused(&keyed(&LOG), with(&entry(&digest(foreign), "")), "signature manifest");
}

#[test]
fn a_bundle_may_have_a_certificate_and_a_log_entry() {
    let image = image();
    let by = certified(ExtendedKeyUsagePurpose::CodeSigning);
    let payload = statement(&digest(&image.manifest), NAME, SIGN);
    let mut bundle = enveloped(&by.key, &payload, &json!({}));
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].clone();
    let hash = digest(&payload).trim_start_matches("sha256:").to_owned();
    let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "payloadHash": { "algorithm": "sha256", "value": hash },
        "signatures": [{ "signature": signature, "verifier": base64(&by.certificate) }] } });
    let entry = logged(&LOG, &body);
    let middle = rustls_pem(&by.chain);
    bundle["verificationMaterial"] = json!({
        "x509CertificateChain": { "certificates": [{ "rawBytes": base64(&by.der) }, { "rawBytes": base64(middle) }] },
        "tlogEntries": [{ "logIndex": "7", "logId": { "keyId": base64([0xc0, 0xff, 0xee]) },
            "integratedTime": NOON_S.to_string(), "canonicalizedBody": entry.body,
            "inclusionPromise": { "signedEntryTimestamp": entry.promise } }] });
    let rule = keyless(&by, "ann@example.com", "https://id.example.com/");
    pull(&rule, Beside::default().bundle(&image, &bundle)).unwrap();
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    refused(&rule, Beside::default().bundle(&image, &bundle), "not recorded in a transparency log");
}

fn rustls_pem(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
