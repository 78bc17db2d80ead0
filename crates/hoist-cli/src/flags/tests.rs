//! The parser against what Docker's client says of the same command lines.

use super::*;
use crate::commands::{ROOT, Run};

fn of(name: &str, line: &[&str]) -> Result<Parsed, String> {
    let Run::Group(commands) = ROOT.run else { unreachable!() };
    let command = commands.iter().find(|command| command.name == name).unwrap();
    parse(command, &line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

#[test]
fn every_spelling_of_a_flag_is_understood() {
    let parsed = of(
        "run",
        &["-itd", "-p8080:80", "-p=1:2", "-p", "3:4", "--name=x", "--env", "A=1", "--rm=false", "img", "-p", "9"],
    );
    let parsed = parsed.unwrap();
    assert!(parsed.is("interactive") && parsed.is("tty") && parsed.is("detach") && !parsed.is("rm"));
    assert_eq!(parsed.all("publish"), ["8080:80", "1:2", "3:4"]);
    assert_eq!((parsed.text("name"), parsed.text("env")), ("x", "A=1"));
    assert_eq!(parsed.args, ["img", "-p", "9"]);
}

#[test]
fn flags_may_follow_operands_where_no_program_is_run() {
    let parsed = of("rm", &["a", "-f", "--", "-v"]).unwrap();
    assert!(parsed.is("force"));
    assert_eq!(parsed.args, ["a", "-v"]);
}

#[test]
fn help_and_hostname_share_a_letter_only_in_run() {
    assert_eq!(of("run", &["-h", "box", "img"]).unwrap().text("hostname"), "box");
    assert!(of("ps", &["-h"]).unwrap().wants_help);
    assert!(of("run", &["--help"]).unwrap().wants_help);
    assert!(!of("run", &["img", "--help"]).unwrap().wants_help);
}

#[test]
fn old_spellings_still_work() {
    assert_eq!(of("run", &["--net", "host", "img"]).unwrap().text("network"), "host");
    assert_eq!(of("stop", &["--time", "3", "c"]).unwrap().int("time"), Some(3));
}

#[test]
fn mistakes_are_named_as_docker_names_them() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("run", &["--foo"], "unknown flag: --foo"),
        ("run", &["-z", "x"], "unknown shorthand flag: 'z' in -z"),
        ("run", &["-itz"], "unknown shorthand flag: 'z' in -z"),
        ("run", &["-p"], "flag needs an argument: 'p' in -p"),
        ("run", &["--name"], "flag needs an argument: --name"),
        ("run", &["--=x"], "bad flag syntax: --=x"),
        ("run", &["--memory", "x", "a"], "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
        (
            "run",
            &["-t=foo", "x"],
            "invalid argument \"foo\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax",
        ),
        (
            "stop",
            &["-t", "x", "y"],
            "invalid argument \"x\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "run",
            &["--health-interval", "5", "x"],
            "invalid argument \"5\" for \"--health-interval\" flag: time: missing unit in duration \"5\"",
        ),
        ("run", &["-e", "=", "x"], "invalid argument \"=\" for \"-e, --env\" flag: invalid environment variable: ="),
        (
            "run",
            &["-a", "foo", "x"],
            "invalid argument \"foo\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
        ),
        (
            "run",
            &["--cpus", "x", "x"],
            "invalid argument \"x\" for \"--cpus\" flag: failed to parse x as a rational number",
        ),
        (
            "ps",
            &["--filter", "x"],
            "invalid argument \"x\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
        ),
    ];
    for (command, line, expected) in cases {
        assert_eq!(of(command, line).err().as_deref(), Some(*expected), "{line:?}");
    }
}

#[test]
fn no_two_flags_of_a_command_share_a_name_or_letter() {
    fn check(command: &Command) {
        let mut seen = std::collections::HashSet::new();
        for flag in command.all_flags() {
            assert!(seen.insert(format!("--{}", flag.long)), "{} --{}", command.name, flag.long);
            assert!(flag.short == '\0' || seen.insert(flag.short.to_string()), "{} -{}", command.name, flag.short);
        }
        if let Run::Group(children) = command.run {
            children.iter().for_each(check);
        }
    }
    check(&ROOT);
}
