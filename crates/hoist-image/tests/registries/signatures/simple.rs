//! Signatures in cosign's first form: a document in the image's repository, with annotations.

use super::*;

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
