//! `--log-driver` and `--log-opt`: what goes into a log, how it is rotated, and what is refused.

use hoist_tests::{both, demultiplex, engine, eventually};

#[test]
fn attributes_are_chosen_by_name_and_by_expression_and_tags_have_fields() {
    both(|t| {
        let name = t.name("attributes");
        let options = "--log-opt labels-regex=^ab --log-opt env-regex=^X --log-opt labels=z";
        t.cli(&format!("run --name {name} {options} -l abc=1 -l z=2 -l other=3 -e XY=4 -e Z=5 busybox echo line")).ok();
        t.cli(&format!("logs --details {name}")).ok().prints("XY=4,abc=1,z=2 line");
        let name = t.name("tag");
        t.args(&[
            "run",
            "--name",
            &name,
            "--log-opt",
            "tag={{.Name}}/{{ .ImageName }}/{{.ID}}",
            "busybox",
            "echo",
            "line",
        ])
        .ok();
        let id = t.inspect(&name)["Id"].as_str().unwrap()[..12].to_owned();
        t.cli(&format!("logs --details {name}")).ok().prints(&format!("tag={name}%2Fbusybox%2F{id} line"));
    });
}

#[test]
fn rotated_files_are_compressed_and_read_back() {
    both(|t| {
        let name = t.name("compressed");
        let options = "--log-opt compress=true --log-opt max-size=20k --log-opt max-file=3";
        t.args(
            &[
                &["run", "--name", &name],
                options.split(' ').collect::<Vec<_>>().as_slice(),
                &["busybox", "sh", "-c", "i=0; while [ $i -lt 600 ]; do echo line number $i; i=$((i+1)); done"],
            ]
            .concat(),
        )
        .ok();
        let path = t.inspect(&name)["LogPath"].as_str().unwrap().to_owned();
        if std::path::Path::new(&path).exists() {
            eventually("rotated files are compressed", || {
                (1..3).all(|number| std::path::Path::new(&format!("{path}.{number}.gz")).exists())
                    && !std::path::Path::new(&format!("{path}.1")).exists()
            });
        }
        let logs = t.cli(&format!("logs {name}")).ok();
        let lines = logs.lines();
        assert!(lines.len() > 400, "{}", lines.len());
        let expected: Vec<String> = (600 - lines.len()..600).map(|number| format!("line number {number}")).collect();
        assert_eq!(lines, expected);
        t.cli(&format!("logs --tail 450 {name}")).ok().matches("^line number 150\n");
    });
}

#[test]
fn a_slow_follower_misses_nothing_that_rotation_has_kept() {
    engine(|t| {
        for compress in ["false", "true"] {
            let name = t.name("follower");
            let script = "while ! test -e /go; do sleep 0.05; done; seq 50000";
            let options = format!("--log-opt max-size=200k --log-opt max-file=60 --log-opt compress={compress}");
            let line = ["run -d --name", &name, &options, "busybox sh -c"].join(" ");
            t.args(&[line.split(' ').collect::<Vec<_>>().as_slice(), &[script]].concat()).ok();
            let follower = t.api().stream("GET", &format!("/containers/{name}/logs?follow=1&stdout=1"), b"");
            t.cli(&format!("exec {name} touch /go")).ok();
            t.cli(&format!("wait {name}")).ok().prints("0");
            let path = t.inspect(&name)["LogPath"].as_str().unwrap().to_owned();
            assert!(std::fs::read_dir(std::path::Path::new(&path).parent().unwrap()).unwrap().count() > 10);
            let (output, _) = demultiplex(&follower.rest());
            let expected: Vec<String> = (1..=50000).map(|number: u32| number.to_string()).collect();
            assert!(output.lines().eq(expected), "{} lines", output.lines().count());
        }
    });
}

#[test]
fn a_log_that_does_not_block_loses_nothing_while_the_disk_keeps_up() {
    both(|t| {
        let name = t.name("nonblocking");
        let options = "--log-opt mode=non-blocking --log-opt max-buffer-size=4m";
        t.cli(&format!("run --name {name} {options} busybox seq 2000")).ok();
        let expected: Vec<String> = (1..=2000).map(|number: u32| number.to_string()).collect();
        assert_eq!(t.cli(&format!("logs {name}")).ok().lines(), expected);
        let name = t.name("local");
        t.cli(&format!("run --name {name} --log-driver local --log-opt mode=non-blocking busybox echo line")).ok();
        t.cli(&format!("logs {name}")).ok().prints("line");
    });
}

#[test]
fn wrong_log_options_are_refused_in_dockers_words() {
    both(|t| {
        let start = "failed to create task for container: failed to initialize logging driver: ";
        let cases = [
            (
                "--log-driver no-such",
                "error looking up logging plugin no-such: plugin \"no-such\" not found".to_owned(),
            ),
            ("--log-opt x=y", "unknown log opt 'x' for json-file log driver".to_owned()),
            ("--log-driver local --log-opt tag=y", "unknown log opt 'tag' for log driver local".to_owned()),
            ("--log-opt mode=x", "logger: logging mode not supported: x".to_owned()),
            (
                "--log-opt max-buffer-size=1m",
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned(),
            ),
            (
                "--log-opt mode=non-blocking --log-opt max-buffer-size=x",
                "error parsing option max-buffer-size: invalid size: 'x'".to_owned(),
            ),
            ("--log-opt max-size=x", format!("{start}invalid size: 'x'")),
            ("--log-opt max-size=0", format!("{start}max-size must be a positive number")),
            ("--log-opt max-file=0", format!("{start}max-file cannot be less than 1")),
            ("--log-opt max-file=x", format!("{start}strconv.Atoi: parsing \"x\": invalid syntax")),
            ("--log-opt compress=x", format!("{start}strconv.ParseBool: parsing \"x\": invalid syntax")),
            (
                "--log-opt compress=true --log-opt max-file=1",
                format!("{start}compress cannot be true when max-file is less than 2 or max-size is not set"),
            ),
            (
                "--log-driver local --log-opt max-file=1",
                format!("{start}compression cannot be enabled when max file count is 1"),
            ),
            ("--log-opt tag={{", format!("{start}template: log-tag:1: unclosed action")),
            ("--log-opt tag={{.Nope}}", format!("{start}template: log-tag:1:2: executing \"log-tag\" at <.Nope>")),
            ("--log-opt labels-regex=(", format!("{start}error parsing regexp")),
        ];
        for (flags, text) in cases {
            t.cli(&format!("run --rm {flags} busybox true")).fails_with(125).complains(&text);
        }
        t.cli("run --rm --log-driver none busybox true").ok();
    });
}
