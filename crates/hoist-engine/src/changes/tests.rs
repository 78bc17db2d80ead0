//! What lines of a Dockerfile make of a configuration.

use super::*;

fn changed(lines: &[&str]) -> Result<ContainerConfig> {
    let mut config = ContainerConfig {
        env: Some(vec!["A=1".to_owned(), "PATH=/bin".to_owned()]),
        cmd: Some(vec!["orig".to_owned()]),
        working_dir: "/w".to_owned(),
        ..ContainerConfig::default()
    };
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    apply_changes(&mut config, &lines).map(|()| config)
}

#[test]
fn variables_are_quoted_and_expanded_as_in_a_dockerfile() {
    let line = r#"ENV PATH=$PATH:/x B="c d" E=f\ g H='$A' I=${A} J=${N:-def} K=${A:+alt}"#;
    let env = changed(&[line]).unwrap().env.unwrap();
    assert_eq!(env, ["A=1", "PATH=/bin:/x", "B=c d", "E=f g", "H=$A", "I=1", "J=def", "K=alt"]);
    let old = changed(&["env old form  here"]).unwrap().env.unwrap();
    assert_eq!(old[2], "old=form  here");
    let labels = changed(&[r#"LABEL a="b c" "d e"=f g=$A"#, "LABEL old value"]).unwrap().labels.unwrap();
    let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    assert_eq!(shown, ["a:b c", "d e:f", "g:1", "old:value"]);
}

#[test]
fn commands_are_lists_or_lines_for_the_shell() {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!(changed(&["CMD echo hi"]).unwrap().cmd, words(&["/bin/sh", "-c", "echo hi"]));
    assert_eq!(changed(&["cmd [\"a\""]).unwrap().cmd, words(&["/bin/sh", "-c", "[\"a\""]));
    assert_eq!(changed(&["CMD []"]).unwrap().cmd, None);
    let config = changed(&["ENTRYPOINT [\"x\"]"]).unwrap();
    assert_eq!((config.entrypoint, config.cmd), (words(&["x"]), None));
    assert_eq!(changed(&["CMD [\"c\"]", "ENTRYPOINT [\"x\"]"]).unwrap().cmd, words(&["c"]));
}

#[test]
fn all_changes_are_one_text() {
    let config = changed(&["ENV Q=1\nLABEL z=1", "# a comment", "ENV \\", "R=$Q"]).unwrap();
    assert_eq!(config.env.unwrap()[2..], ["Q=1", "R=1"]);
    assert_eq!(config.labels.unwrap().into_iter().collect::<Vec<_>>(), [("z".to_owned(), "1".to_owned())]);
    let config = changed(&["# escape=`\nENV Q=a`", "b R=C:\\x S=\"`\"\" T=d` e"]).unwrap();
    assert_eq!(config.env.unwrap()[2..], ["Q=ab", "R=C:\\x", "S=\"", "T=d e"]);
    assert_eq!(changed(&["", "USER x"]).unwrap().user, "x");
    assert_eq!(changed(&["USER x", "foo bar"]).unwrap_err().message, "foo is not a valid change command");
    assert_eq!(changed(&[]).unwrap().cmd.unwrap(), ["orig"]);
}

#[test]
fn ports_directories_and_checks_are_read() {
    let ports = changed(&["EXPOSE 80 81/udp 90-91"]).unwrap().exposed_ports.unwrap();
    assert_eq!(ports.into_keys().collect::<Vec<_>>(), ["80/tcp", "81/udp", "90/tcp", "91/tcp"]);
    assert_eq!(changed(&["WORKDIR rel"]).unwrap().working_dir, "/w/rel");
    assert_eq!(changed(&["WORKDIR ../$A/./b"]).unwrap().working_dir, "/1/b");
    assert_eq!(changed(&["VOLUME [\"a b\"]"]).unwrap().volumes.unwrap().into_keys().collect::<Vec<_>>(), ["a b"]);
    assert_eq!(changed(&["USER $A:b"]).unwrap().user, "1:b");
    let check = changed(&["HEALTHCHECK --interval=5s --retries=2 CMD true"]).unwrap().healthcheck.unwrap();
    assert_eq!((check.interval, check.retries), (5_000_000_000, 2));
    assert_eq!(check.test.unwrap(), ["CMD-SHELL", "true"]);
}

#[test]
fn refusals_are_docker_s() {
    for (line, text) in [
        ("LABEL x", "LABEL must have two arguments"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("STOPSIGNAL FOO", "invalid signal: FOO"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("SHELL [\"x\"]", "SHELL is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("", "file with no instructions"),
        ("# x", "file with no instructions"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =x", "ENV names can not be blank"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
    ] {
        assert_eq!(changed(&[line]).unwrap_err().message, text, "{line}");
    }
    for line in ["ENV A='x", "ENV A=${x", "ENV A=${}", "ENV A=1 b", "ENV A=${A%x}"] {
        assert!(changed(&[line]).is_err(), "{line}");
    }
}
