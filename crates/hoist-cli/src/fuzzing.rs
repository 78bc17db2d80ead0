//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::flags;
use crate::format::{json as json_text, time, units};
use crate::opts::{create, csv, device, key_value, mount, network, port, resource, security};
use crate::stream::detach;
use crate::template::{Template, Val};

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[
    ("options", options),
    ("command_line", command_line),
    ("env_file", env_file),
    ("template", template),
    ("numbers", numbers),
    ("credentials", credentials),
    ("pending_manifest", pending_manifest),
];

/// The values of flags, each by the parser that the first byte names.
pub fn options(bytes: &[u8]) {
    let (which, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let Ok(text) = str::from_utf8(rest) else { return };
    match which % 8 {
        0 => {
            let _ = (port::parse(&[text], &[]), port::parse(&[], &[text]));
        }
        1 => {
            let _ = (mount::parse(text), mount::tmpfs(&[text]));
        }
        2 => {
            let _ = mount::volumes(&[text]);
        }
        3 => {
            let _ = (device::parse(text), device::check_rule(text), device::gpus(text), device::is_cdi_name(text));
            let _ = (device::weight(text), device::bytes_rate(text), device::io_rate(text));
        }
        4 => {
            let _ = (network::check(text), network::check_extra_host(text), network::extra_host(text));
            let _ = (network::check_dns_search(text), network::check_link(text));
        }
        5 => {
            let _ = (resource::nano_cpus(text), resource::ulimit(text), resource::restart_policy(text));
            let _ = (resource::swap(text), resource::check_sysctl(text));
        }
        6 => {
            let _ = (csv::fields(text), key_value::check_env(text), key_value::check_label(text));
        }
        // A file named by it would be read.
        _ if !text.contains("seccomp") => {
            let _ = security::parse(&[text]);
        }
        _ => {}
    }
}

/// A command line of `create`, one word a line, to a request.
pub fn command_line(bytes: &[u8]) {
    let words: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    let command = crate::commands::create_command();
    // Files named by these would be read.
    let reads = ["-file", "seccomp", "no-healthcheck"];
    if words.iter().any(|word| reads.iter().any(|flag| word.contains(flag))) {
        return;
    }
    if let Ok(parsed) = flags::parse(command, &words) {
        let _ = create::build(&parsed, &create::Surroundings::default());
    }
}

/// `--env-file` and `--label-file`.
pub fn env_file(bytes: &[u8]) {
    let lines = bytes.split(|&byte| byte == b'\n').count();
    for is_env in [true, false] {
        let Ok(found) = key_value::parse_file("file", bytes, is_env) else { continue };
        assert!(found.len() <= lines && found.iter().all(|line| !line.contains('\n')), "{found:?}");
    }
}

/// A template of `--format`, on an answer and on what is decoded of it.
pub fn template(bytes: &[u8]) {
    let Ok(source) = str::from_utf8(bytes) else { return };
    let Ok(template) = Template::parse(source) else { return };
    let answer: Value = json!({
        "Id": "0123", "Names": ["/a", "/b"], "State": {"Running": true, "Pid": 7, "ExitCode": 0},
        "Labels": {"k": "v"}, "Size": 1.5, "Mounts": [{"Type": "bind"}], "Nothing": null,
    });
    for value in [Val::typed(answer.clone(), "InspectResponse"), Val::raw(answer)] {
        let _ = (template.execute(&value), template.execute_header(&value));
    }
}

/// Sizes, times, durations and keys as they are typed, and JSON as it is shown.
pub fn numbers(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = (
        hoist_api::size::parse(text),
        time::parse_go_duration(text),
        time::point_in_time(text),
        flags::check::parse_int(text),
    );
    let _ = (detach::parse(text), time::ansi_c(text), flags::check::quote(text));
    let mut out = String::new();
    if let Ok(number) = text.trim().parse::<f64>() {
        let _ = write!(out, "{}{}", units::human_size(number), units::bytes_size(number));
    }
    if let Ok(number) = text.trim().parse::<i64>() {
        let _ = write!(out, "{}{}{}", units::human_duration(number), time::ago(number), time::go_string(number));
    }
    let _ = json_text::indent(text, "    ");
}

/// Credentials as `DOCKER_AUTH_CONFIG` has them, and the addresses they are for.
pub fn credentials(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    crate::credentials::read(text);
}

/// A file of a manifest list, as another client may have written it.
pub fn pending_manifest(bytes: &[u8]) {
    crate::commands::read_pending(bytes);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
