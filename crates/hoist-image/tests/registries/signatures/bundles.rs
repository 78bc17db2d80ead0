//! Signatures as newer cosigns leave them: bundles, listed as being about the image.

use super::*;

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
