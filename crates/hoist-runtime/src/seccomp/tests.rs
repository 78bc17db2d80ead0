//! Filters are run here by a small machine of our own and compared with a plain reading of the profile, and with what
//! real containers of dockerd get (`verdicts.txt`). One test loads a filter into the kernel.

use oci_spec::runtime::LinuxSeccomp;

use super::rules::plain;
use super::syscalls::{Abi, X32_BIT, names, number};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// Runs a filter as the kernel would.
fn run(program: &[u8], audit_arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number, audit_arch, 0, 0].map(u32::to_ne_bytes).concat();
    data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let i = &program[at * 8..at * 8 + 8];
        let operand = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
        let mut jump = |taken: bool| at += usize::from(if taken { i[2] } else { i[3] });
        match u16::from_ne_bytes([i[0], i[1]]) {
            0x20 => accumulator = u32::from_ne_bytes(data[operand as usize..operand as usize + 4].try_into().unwrap()),
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => jump(accumulator == operand),
            0x25 => jump(accumulator > operand),
            0x35 => jump(accumulator >= operand),
            0x06 => return operand,
            other => panic!("opcode {other:#x}"),
        }
        at += 1;
    }
}

fn capabilities(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// First arguments that matter to some rule of Docker's, and their neighbours in the high half.
const SAMPLES: [u64; 12] =
    [0, 1, 8, 40, 0x20000, 0x20008, 0xffff_ffff, 0x1000_0000, 0x7e02_0000, 1 << 32, (1 << 32) | 40, 0xffff_ffff << 32];

#[test]
fn every_call_gets_what_it_gets_in_a_container_of_dockerd() {
    if Abi::NATIVE != Abi::X86_64 {
        eprintln!("skipped: the verdicts were taken on x86_64");
        return;
    }
    let mut program = Vec::new();
    let mut compared = 0;
    for line in include_str!("verdicts.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[') {
            let mut caps = capabilities(&crate::defaults::DEFAULT_CAPABILITIES);
            match section.trim_end_matches(']') {
                "default" => {}
                "cap-drop ALL" => caps.clear(),
                "cap-add SYS_ADMIN" => caps.push("CAP_SYS_ADMIN".to_owned()),
                "cap-add ALL" => caps = capabilities(&crate::defaults::ALL_CAPABILITIES),
                other => panic!("section {other}"),
            }
            program = compile(&default_profile(&caps)).unwrap();
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let (arch, bit) = match words[0] {
            "x86_64" => (Abi::X86_64.audit_arch(), 0),
            "x32" => (Abi::X32.audit_arch(), X32_BIT),
            "i386" => (Abi::I386.audit_arch(), 0),
            _ => (0x4000_0028, 0),
        };
        let (first, last) = words[1].split_once('-').unwrap();
        for call in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
            for (at, &sample) in SAMPLES.iter().enumerate() {
                let letter = words[2].as_bytes()[if words[2].len() == 1 { 0 } else { at }];
                let expected = match letter {
                    b'A' => ALLOW,
                    b'P' => EPERM,
                    b'N' => ENOSYS,
                    _ => 0,
                };
                let got = run(&program, arch, call | bit, [sample, 0, 0, 0, 0, 0]);
                assert_eq!(got, expected, "{line}: call {call}, argument {sample:#x}: {got:#x}");
                compared += 1;
            }
        }
    }
    assert!(compared > 140_000, "{compared}");
}

/// Numbers around everything interesting, on every architecture of this machine.
fn calls() -> Vec<(Abi, u32)> {
    let abis = match Abi::NATIVE {
        Abi::Aarch64 => [Abi::Aarch64, Abi::Arm].as_slice(),
        _ => &[Abi::X86_64, Abi::I386, Abi::X32],
    };
    let mut calls = Vec::new();
    for &abi in abis {
        let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
        calls.extend((0..600).map(|call| (abi, call | bit)));
        calls.extend(names().filter_map(|name| number(name, abi)).map(|call| (abi, call)));
    }
    calls
}

/// A plain reading is slow, so only calls whose arguments matter are tried with all of them.
fn compare(profile: &LinuxSeccomp, arguments: &[[u64; 6]]) {
    let program = compile(profile).unwrap();
    let matter: Vec<u32> = ["socket", "clone", "personality", "socketcall"]
        .iter()
        .flat_map(|name| [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm].map(|abi| number(name, abi)))
        .flatten()
        .collect();
    for (abi, call) in calls() {
        let count = if matter.contains(&call) { arguments.len() } else { 1 };
        for &list in &arguments[..count] {
            let expected = plain::evaluate(profile, abi, call, list);
            let got = run(&program, abi.audit_arch(), call, list);
            assert_eq!(got, expected, "{abi:?} {call} {list:x?}: {got:#x} instead of {expected:#x}");
        }
    }
}

#[test]
fn filters_of_the_default_profile_do_what_a_plain_reading_says() {
    for caps in [
        capabilities(&[]),
        capabilities(&crate::defaults::DEFAULT_CAPABILITIES),
        capabilities(&["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_TIME"]),
    ] {
        let arguments: Vec<_> = SAMPLES.iter().map(|&sample| [sample, sample, 0, 0, 0, 0]).collect();
        compare(&default_profile(&caps), &arguments);
    }
}

/// A repeatable sequence (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn filters_of_random_profiles_do_what_a_plain_reading_says() {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let values = [0, 1, 2, 5, 0xffff_ffff, 1 << 32, (1 << 32) | 1, u64::MAX, 0x8000_0000];
    let calls = ["socket", "accept", "read", "semop", "clone", "chown32", "openat2", "mseal", "no_such_call", "ipc"];
    let actions = ["SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"];
    let mut state = 7;
    for _ in 0..60 {
        let mut pick = |of: usize| usize::try_from(random(&mut state) % of as u64).unwrap();
        let syscalls: Vec<_> = (0..6)
            .map(|_| {
                let args: Vec<_> = (0..pick(4))
                    .map(|at| {
                        let index = if pick(8) == 0 { 1 } else { at };
                        serde_json::json!({"index": index, "value": values[pick(9)], "valueTwo": values[pick(9)],
                            "op": format!("SCMP_CMP_{}", operators[pick(7)])})
                    })
                    .collect();
                serde_json::json!({"names": [calls[pick(10)], calls[pick(10)]], "action": actions[pick(4)], "args": args})
            })
            .collect();
        let json = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"]});
        let profile = parse_profile(&json.to_string(), &[]).unwrap();
        let arguments: Vec<[u64; 6]> = (0..24).map(|_| [(); 6].map(|()| values[pick(9)])).collect();
        let program = compile(&profile).unwrap();
        for call in calls {
            for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
                let carriers =
                    [syscalls::SOCKETCALL, syscalls::IPC].map(|call| Some(call).filter(|_| abi == Abi::I386));
                for call in carriers.into_iter().chain([number(call, abi)]).flatten() {
                    for &list in &arguments {
                        let expected = plain::evaluate(&profile, abi, call, list);
                        assert_eq!(
                            run(&program, abi.audit_arch(), call, list),
                            expected,
                            "{json} {abi:?} {call} {list:x?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_default_filter_is_small_and_shallow() {
    let program = compile(&default_profile(&capabilities(&crate::defaults::DEFAULT_CAPABILITIES))).unwrap();
    let instructions = program.len() / 8;
    assert!(instructions < 420, "{instructions} instructions; libseccomp needs 1281");
}

#[test]
fn calls_of_architectures_that_a_profile_does_not_name_are_killed() {
    let profile = parse_profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}"#,
        &[],
    );
    let program = compile(&profile.unwrap()).unwrap();
    if Abi::NATIVE == Abi::X86_64 {
        assert_eq!(run(&program, Abi::X86_64.audit_arch(), 90, [0; 6]), EPERM);
        assert_eq!(run(&program, Abi::X86_64.audit_arch(), 0, [0; 6]), ALLOW);
        assert_eq!(
            run(&program, Abi::X86_64.audit_arch(), 9999, [0; 6]),
            ALLOW,
            "an allowing profile invents no ENOSYS"
        );
        assert_eq!(run(&program, Abi::I386.audit_arch(), 0, [0; 6]), 0);
        assert_eq!(run(&program, Abi::X32.audit_arch(), X32_BIT, [0; 6]), 0);
    }
}

#[test]
fn clone3_answers_enosys_unless_the_container_is_an_administrator() {
    let clone3 = number("clone3", Abi::NATIVE).unwrap();
    let verdict = |caps: &[&str]| {
        let program = compile(&default_profile(&capabilities(caps))).unwrap();
        run(&program, Abi::NATIVE.audit_arch(), clone3, [0; 6])
    };
    assert_eq!(verdict(&[]), ENOSYS);
    assert_eq!(verdict(&["CAP_SYS_ADMIN"]), ALLOW);
}

#[test]
fn profiles_of_users_are_resolved_and_refused_as_docker_does() {
    let parse = |json: &str| parse_profile(json, &capabilities(&["CAP_SYS_ADMIN"]));
    let calls = |json: &str| -> Vec<String> {
        parse(json).unwrap().syscalls().iter().flatten().flat_map(|call| call.names().clone()).collect()
    };
    let one = |condition: &str| {
        calls(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"name":"read","action":"SCMP_ACT_ALLOW",{condition}}}]}}"#
        ))
        .len()
    };
    assert_eq!(one(r#""includes":{"caps":["CAP_SYS_ADMIN"]},"excludes":{}"#), 1);
    assert_eq!(one(r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#), 0);
    assert_eq!(one(r#""excludes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#), 0);
    assert_eq!(one(r#""includes":{"minKernel":"4.8"}"#), 1);
    assert_eq!(one(r#""includes":{"minKernel":"99.1"}"#), 0);
    assert_eq!(one(r#""includes":{"arches":["s390x"]}, "args": null"#), 0);
    assert!(parse("{").unwrap_err().starts_with("Decoding seccomp profile failed: "));
    assert!(parse(r#"{"defaultAction":"SCMP_ACT_DANCE"}"#).unwrap_err().contains("SCMP_ACT_DANCE"));
    let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}]}"#;
    assert!(parse(both).unwrap_err().starts_with("both 'architectures' and 'archMap'"));
    let both =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#;
    assert!(parse(both).unwrap_err().starts_with("both 'name' and 'names'"));
    assert_eq!(compile(&parse("{}").unwrap()).map(|p| run(&p, Abi::NATIVE.audit_arch(), 1, [0; 6])), Ok(ALLOW));
}

#[test]
fn what_cannot_be_expressed_is_an_error() {
    let error = |rule: &str| {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],{rule}}}]}}"#);
        compile(&parse_profile(&json, &[]).unwrap()).unwrap_err()
    };
    assert!(error(r#""action":"SCMP_ACT_NOTIFY""#).contains("SCMP_ACT_NOTIFY"));
    let bad_index = r#""action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]"#;
    assert!(error(bad_index).contains("argument index 6"));
    assert!(error(r#""action":"SCMP_ACT_ERRNO","errnoRet":70000"#).contains("70000"));
    let many: Vec<_> = (0..2000)
        .map(|n| format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#))
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, many.join(","));
    assert!(compile(&parse_profile(&json, &[]).unwrap()).unwrap_err().contains("too large"));
}

#[test]
fn load_flags_are_those_of_runc() {
    let flags = |json: &str| load_flags(&parse_profile(json, &[]).unwrap());
    assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#), 4);
    assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#), 2);
    assert_eq!(flags(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#), 0);
}
