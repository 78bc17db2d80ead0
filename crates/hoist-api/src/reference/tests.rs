//! References: what Docker accepts, what it refuses and with which words.

use proptest::prelude::*;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parts(text: &str) -> (String, String, Option<String>, Option<String>) {
    let r = Reference::parse(text).unwrap();
    (r.domain, r.path, r.tag, r.digest)
}

#[test]
fn short_names_mean_docker_hub() {
    let hub = |path: &str, tag: Option<&str>| ("docker.io".to_owned(), path.to_owned(), tag.map(str::to_owned), None);
    assert_eq!(parts("busybox"), hub("library/busybox", None));
    assert_eq!(parts("busybox:1.36"), hub("library/busybox", Some("1.36")));
    assert_eq!(parts("o/x"), hub("o/x", None));
    assert_eq!(parts("index.docker.io/busybox"), hub("library/busybox", None));
    assert_eq!(parts("docker.io/o/x/y:t"), hub("o/x/y", Some("t")));
    assert_eq!(parts("a.b"), hub("library/a.b", None));
}

#[test]
fn a_first_part_with_dot_colon_or_capital_is_a_registry() {
    assert_eq!(parts("localhost/x").0, "localhost");
    assert_eq!(parts("127.0.0.1:5000/x:y"), ("127.0.0.1:5000".into(), "x".into(), Some("y".into()), None));
    assert_eq!(parts("[::1]:5000/x").0, "[::1]:5000");
    assert_eq!(parts("Foo/bar").0, "Foo");
    assert_eq!(parts(&format!("ghcr.io/a/b:t@sha256:{HEX}")).3, Some(format!("sha256:{HEX}")));
}

#[test]
fn familiar_names_are_what_users_type() {
    for text in ["busybox", "o/x:1", "127.0.0.1:5000/library/x", "library/a/b"] {
        assert_eq!(Reference::parse(text).unwrap().familiar(), text);
    }
    assert_eq!(Reference::parse("docker.io/library/busybox").unwrap().with_default_tag().familiar(), "busybox:latest");
    assert_eq!(Reference::parse("busybox").unwrap().with_default_tag().to_string(), "docker.io/library/busybox:latest");
    let pinned = format!("busybox@sha256:{HEX}");
    assert_eq!(Reference::parse(&pinned).unwrap().with_default_tag().familiar(), pinned);
}

#[test]
fn bad_references_are_refused_in_dockers_words() {
    let long = format!("o/{}", "a".repeat(254));
    let short_digest = format!("x@sha256:{}", &HEX[..40]);
    let odd_algorithm = format!("x@md5:{}", &HEX[..32]);
    let capital_digest = format!("x@sha256:{}", HEX.to_uppercase());
    let cases = [
        ("", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("foo/Bar:T", "invalid reference format: repository name (foo/Bar) must be lowercase"),
        ("a b", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x:-a", "invalid reference format"),
        ("x:y:z", "invalid reference format"),
        ("x@y", "invalid reference format"),
        ("x..y", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("../x", "invalid reference format"),
        ("/x", "invalid reference format"),
        ("host:port/x", "invalid reference format"),
        ("é", "invalid reference format"),
        (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
        (&long, "repository name must not be more than 255 characters"),
        (&short_digest, "invalid checksum digest length"),
        (&odd_algorithm, "unsupported digest algorithm"),
        (&capital_digest, "invalid checksum digest format"),
    ];
    for (text, wanted) in cases {
        assert_eq!(Reference::parse(text).unwrap_err().to_string(), wanted, "{text:?}");
    }
}

proptest! {
    #[test]
    fn parse_never_panics(text in "\\PC{0,80}") {
        let _ = Reference::parse(&text);
    }

    #[test]
    fn both_spellings_parse_back_to_the_same_reference(
        text in "((localhost|[a-z]{1,5}\\.io|10\\.0\\.0\\.1:[1-9][0-9]{1,3})/)?([a-z0-9]{1,6}(-|__|\\.)?[a-z0-9]{1,4}/){0,2}[a-z0-9]{1,8}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,12})?"
    ) {
        let reference = Reference::parse(&text).unwrap();
        prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
        prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
    }
}
