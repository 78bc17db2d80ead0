//! A device policy as a BPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE` (bpf(2)); version 2 has no device files. Makes
//! the instructions; loading and attaching them is `hoist_sys::bpf`.

use super::devices::{ALL, Policy};

// Opcodes of linux/bpf.h and linux/bpf_common.h, composed.
const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const AND_32_IMM: u8 = 0x54; // ALU | AND | K
const SHIFT_RIGHT_32_IMM: u8 = 0x74; // ALU | RSH | K
const MOVE_32_REG: u8 = 0xbc; // ALU | MOV | X
const MOVE_64_IMM: u8 = 0xb7; // ALU64 | MOV | K
const JUMP_NOT_EQUAL_IMM: u8 = 0x55; // JMP | JNE | K
const JUMP_NOT_EQUAL_REG: u8 = 0x5d; // JMP | JNE | X
const EXIT: u8 = 0x95; // JMP | EXIT

// `struct bpf_cgroup_dev_ctx { access_type, major, minor }`, its type in the low and its access in the high half.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// `struct bpf_insn`s, native-endian.
pub(super) fn compile(policy: &Policy) -> Vec<u8> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(AND_32_IMM, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(SHIFT_RIGHT_32_IMM, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for exception in &policy.exceptions {
        // (comparison that leads on to the next exception, operands)
        let mut tests = Vec::new();
        let kind = if exception.block { BLOCK } else { CHARACTER };
        tests.push((JUMP_NOT_EQUAL_IMM, KIND, 0, kind));
        if exception.access != ALL {
            let bits = i32::from(exception.access);
            tests.push((MOVE_32_REG, SCRATCH, ACCESS, 0));
            tests.push((AND_32_IMM, SCRATCH, 0, bits));
            if policy.allow_by_default {
                // One denied bit among those asked for is enough.
                tests.push((0x15, SCRATCH, 0, 0)); // JMP | JEQ | K
            } else {
                tests.push((JUMP_NOT_EQUAL_REG, SCRATCH, ACCESS, 0));
            }
        }
        // The kernel's numbers fit in 20 bits, so the sign of an immediate does not matter.
        if let Some(major) = exception.major {
            tests.push((JUMP_NOT_EQUAL_IMM, MAJOR, 0, major.cast_signed()));
        }
        if let Some(minor) = exception.minor {
            tests.push((JUMP_NOT_EQUAL_IMM, MINOR, 0, minor.cast_signed()));
        }
        let length = tests.len() + 2;
        for (at, (code, to, from, immediate)) in tests.into_iter().enumerate() {
            let jumps = code & 0x07 == 0x05;
            let offset = if jumps { i16::try_from(length - at - 1).unwrap_or(i16::MAX) } else { 0 };
            program.push(instruction(code, to, from, offset, immediate));
        }
        program.push(instruction(MOVE_64_IMM, RESULT, 0, 0, i32::from(!policy.allow_by_default)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE_64_IMM, RESULT, 0, 0, i32::from(policy.allow_by_default)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program.concat()
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    // Destination in the low and source in the high nibble on little-endian machines, the reverse on big-endian ones.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    [code, registers, o0, o1, i0, i1, i2, i3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::{Exception, MKNOD, READ, WRITE};

    /// Runs a program of ours on (type, access, major, minor).
    fn run(program: &[u8], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0_u64; 11];
        let mut at = 0;
        for _ in 0..10_000 {
            let i = &program[at * 8..at * 8 + 8];
            let (to, from) = ((i[1] & 15) as usize, (i[1] >> 4) as usize);
            let offset = i16::from_ne_bytes([i[2], i[3]]);
            let immediate = i32::from_ne_bytes([i[4], i[5], i[6], i[7]]) as u32 as u64;
            let jump = |taken: bool| if taken { at + 1 + offset as usize } else { at + 1 };
            at = match i[0] {
                LOAD_WORD => {
                    r[to] = context[offset as usize / 4].into();
                    at + 1
                }
                AND_32_IMM => {
                    r[to] &= immediate;
                    at + 1
                }
                SHIFT_RIGHT_32_IMM => {
                    r[to] >>= immediate;
                    at + 1
                }
                MOVE_32_REG => {
                    r[to] = r[from];
                    at + 1
                }
                MOVE_64_IMM => {
                    r[to] = immediate;
                    at + 1
                }
                JUMP_NOT_EQUAL_IMM => jump(r[to] != immediate),
                0x15 => jump(r[to] == immediate),
                JUMP_NOT_EQUAL_REG => jump(r[to] != r[from]),
                EXIT => return r[0],
                other => panic!("opcode {other:#x}"),
            };
        }
        panic!("does not end")
    }

    #[test]
    fn a_denying_policy_lets_only_its_exceptions_through() {
        let policy = Policy {
            allow_by_default: false,
            exceptions: vec![
                Exception { block: false, major: Some(1), minor: Some(3), access: ALL },
                Exception { block: false, major: Some(136), minor: None, access: READ | WRITE },
                Exception { block: true, major: None, minor: None, access: MKNOD },
            ],
        };
        let p = compile(&policy);
        let (c, b) = (2, 1);
        let (r, w, m) = (u32::from(READ), u32::from(WRITE), u32::from(MKNOD));
        assert_eq!(run(&p, c, r, 1, 3), 1);
        assert_eq!(run(&p, c, r | w, 1, 3), 1);
        assert_eq!(run(&p, c, r, 1, 5), 0);
        assert_eq!(run(&p, b, r, 1, 3), 0);
        assert_eq!(run(&p, c, r | w, 136, 77), 1);
        assert_eq!(run(&p, c, r | m, 136, 77), 0, "all bits that are asked for must be allowed");
        assert_eq!(run(&p, b, m, 8, 1), 1);
        assert_eq!(run(&p, b, m | r, 8, 1), 0);
    }

    #[test]
    fn an_allowing_policy_denies_an_access_with_any_denied_bit() {
        let exceptions = vec![Exception { block: true, major: Some(8), minor: None, access: WRITE }];
        let p = compile(&Policy { allow_by_default: true, exceptions });
        assert_eq!(run(&p, 1, READ.into(), 8, 0), 1);
        assert_eq!(run(&p, 1, (READ | WRITE).into(), 8, 0), 0);
        assert_eq!(run(&p, 2, WRITE.into(), 8, 0), 1);
    }
}
