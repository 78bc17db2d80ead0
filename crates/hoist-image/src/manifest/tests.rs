//! Manifests: confusion refused, platforms chosen.

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor() -> String {
    format!(r#"{{"mediaType":"x","digest":"{D}","size":1}}"#)
}

fn platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Platform { os: next(), architecture: next(), variant: next() }
}

fn index(platforms: &[&str]) -> Vec<Descriptor> {
    let entry = |text: &&str| {
        let p = platform(text);
        let Platform { os, architecture, variant } = p;
        let platform = DescribedPlatform { os, architecture, variant, ..DescribedPlatform::default() };
        let media_type = MEDIA_OCI_MANIFEST.to_owned();
        Descriptor { media_type, digest: D.into(), size: 1, platform: Some(Box::new(platform)), annotations: None }
    };
    platforms.iter().map(entry).collect()
}

#[test]
fn a_document_is_an_image_or_an_index_and_never_both() {
    let d = descriptor();
    let image = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}]}}"#);
    let list = format!(r#"{{"schemaVersion":2,"manifests":[{d}]}}"#);
    let both = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}],"manifests":[{d}]}}"#);
    assert!(matches!(parse(image.as_bytes(), MEDIA_OCI_MANIFEST), Ok(Manifest::Image(_))));
    assert!(matches!(parse(image.as_bytes(), ""), Ok(Manifest::Image(_))));
    assert!(matches!(parse(list.as_bytes(), MEDIA_OCI_INDEX), Ok(Manifest::Index(_))));
    for (text, media_type) in [
        (both.as_str(), ""),
        (both.as_str(), MEDIA_OCI_INDEX),
        (image.as_str(), MEDIA_OCI_INDEX),
        (image.as_str(), MEDIA_DOCKER_LIST),
        (list.as_str(), MEDIA_OCI_MANIFEST),
        ("{}", ""),
        (r#"{"schemaVersion":2}"#, ""),
        (r#"{"schemaVersion":2,"schemaVersion":2}"#, ""),
        ("[1]", ""),
    ] {
        assert!(matches!(parse(text.as_bytes(), media_type), Err(Error::Invalid(_))), "{text} as {media_type}");
    }
    let flipped = image.replacen("{", &format!(r#"{{"mediaType":"{MEDIA_OCI_MANIFEST}","#), 1);
    assert!(parse(flipped.as_bytes(), MEDIA_DOCKER_MANIFEST).is_err());
    assert!(parse(image.replace("sha256:e3", "sha256:..").as_bytes(), "").is_err());
    assert!(parse(image.replace(r#""size":1"#, r#""size":-1"#).as_bytes(), "").is_err());
}

#[test]
fn schema_1_is_refused_by_name() {
    let text = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
    assert!(parse(text.as_bytes(), MEDIA_SCHEMA1[0]).unwrap_err().to_string().contains("schema 1 is not supported"));
}

#[test]
fn the_best_variant_that_runs_is_chosen() {
    let pick = |entries: &[&str], wanted: &str| {
        let entries = index(entries);
        let chosen = choose(&entries, &platform(wanted)).map_err(|e| e.to_string())?;
        Ok::<_, String>(entries.iter().position(|e| std::ptr::eq(e, chosen)).unwrap())
    };
    assert_eq!(pick(&["linux/arm64/v8", "linux/amd64"], "linux/amd64"), Ok(1));
    assert_eq!(pick(&["linux/arm64"], "linux/arm64/v8"), Ok(0));
    assert_eq!(pick(&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6"), Ok(1));
    assert_eq!(pick(&["linux/arm/v5", "linux/arm/v7"], "linux/arm/v6"), Ok(0));
    assert_eq!(pick(&["linux/amd64/v3", "linux/amd64"], "linux/amd64"), Ok(1));
    assert_eq!(pick(&["unknown/unknown", "linux/amd64"], "linux/amd64"), Ok(1));
    let none = pick(&["linux/amd64", "windows/arm64"], "linux/arm64/v8").unwrap_err();
    assert_eq!(none, "no matching manifest for linux/arm64/v8 in the manifest list entries");
}

/// A document with some bytes changed.
fn mangled(text: &str, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (position, byte) in changes {
        let position = position % bytes.len();
        bytes[position] = *byte;
    }
    bytes
}

proptest::proptest! {
    // CVE-2021-21285: a malformed document must not end the engine.
    #[test]
    fn mangled_manifests_and_configs_never_panic(
        changes in proptest::collection::vec(proptest::arbitrary::any::<(usize, u8)>(), 1..8)
    ) {
        let d = descriptor();
        let image = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d},{d}],"annotations":{{"a":"b"}}}}"#);
        let list = format!(r#"{{"schemaVersion":2,"manifests":[{d}]}}"#);
        let config = format!(
            r#"{{"os":"linux","created":"2020-01-01T00:00:00Z","config":{{"Env":["A=b"],"Volumes":{{"/v":{{}}}}}},
            "rootfs":{{"type":"layers","diff_ids":["{D}"]}},"history":[{{"created_by":"x"}}]}}"#
        );
        for text in [&image, &list] {
            let _ = parse(&mangled(text, &changes), "");
        }
        let _ = crate::config::parse(&mangled(&config, &changes));
    }
}

#[test]
fn entries_keep_all_that_an_index_says_and_nulls_say_nothing() {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{0}","size":1,"annotations":null,"urls":null,
           "platform":{{"os":"windows","architecture":"amd64","os.version":"10","os.features":["a"],"variant":null}}}},
           {{"digest":"{0}","size":2,"platform":null,"annotations":{{"k":"v"}}}}]}}"#,
        format_args!("sha256:{}", "0".repeat(64))
    );
    let entries = entries(text.as_bytes()).unwrap();
    let platform = entries[0].platform.as_ref().unwrap();
    assert_eq!((platform.os_version.as_str(), platform.os_features.as_slice()), ("10", &["a".to_owned()][..]));
    assert!(entries[1].platform.is_none() && entries[1].annotations["k"] == "v");
}
